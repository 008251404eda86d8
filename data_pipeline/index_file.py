"""Named arrays of records in one file, such as the index of a split."""

import io
from collections.abc import Sequence

import numpy as np
from etils import epath

from data_pipeline.errors import ArrayError, DataError
from data_pipeline.limits import Limits
from data_pipeline.npz import Npz
from data_pipeline.records import write_atomically
from dreamprvr_jax import text


def save_arrays(path: epath.Path, arrays: dict[str, np.ndarray]) -> None:
  """Writes named arrays, atomically."""
  buffer = io.BytesIO()
  np.savez(buffer, **arrays)  # pyright: ignore[reportArgumentType]
  write_atomically(path, buffer.getvalue())


def load_arrays(path: epath.Path) -> dict[str, np.ndarray]:
  """Returns named arrays.

  Raises:
    DataError: if the file is missing or damaged.
  """
  try:
    raw = path.read_bytes()
  except OSError as error:
    raise DataError(
      f'{path} cannot be read ({error}); prepare the records again'
    ) from None
  try:
    with Npz(io.BytesIO(raw), str(path)) as file:
      claims = {name: file.claim(name) for name in file.ids}
      problems = Limits().excess(claims, len(raw), str(path))
      for name, problem in problems.items():
        raise ArrayError(f'the array {name!r} {problem}')
      return {name: file.read(name) for name in claims}
  except ArrayError as error:
    raise DataError(
      f'{path} cannot be used ({error}); prepare the records again'
    ) from None


def pack_strings(strings: Sequence[str]) -> np.ndarray:
  """Returns strings without line breaks as one array of bytes."""
  return np.frombuffer('\n'.join(strings).encode('utf-8'), np.uint8)


def unpack_strings(packed: np.ndarray, where: str) -> list[str]:
  """Returns what `pack_strings` was given.

  Raises:
    TextError: if it is no UTF-8; names `where`.
  """
  return text.decode(packed.tobytes(), where).split('\n')
