"""Weights of a model from safetensors files, whole or in parts."""

import hashlib
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import safetensors

from data_pipeline.errors import DataError
from dreamprvr_jax.archive.encoders.architecture import read_object

ONE = 'model.safetensors'
INDEX = f'{ONE}.index.json'
# Numbers of positions, which older versions of transformers stored.
_IGNORED = ('.position_ids',)
# The name of scanned layers, whose weights are stacked.
_LAYERS = 'layers'


class Weights:
  """The tensors of a model's folder; each is read when it is asked for."""

  def __init__(self, folder: pathlib.Path):
    """Reads the names and shapes.

    Args:
      folder: A folder in the hub's layout.

    Raises:
      DataError: If there are no safetensors files, or one is missing or
        damaged.
    """
    self.folder = folder
    # Name -> its file.
    self._files: dict[str, pathlib.Path] = {}
    self.shapes: dict[str, tuple[int, ...]] = {}
    for path, names in _parts(folder).items():
      with _opened(path) as file:
        found = set(file.keys())
        for name in sorted(names - found):
          raise DataError(
            f'{path} lacks the tensor {name}, which {INDEX} says is in it; '
            'download the model again'
          )
        for name in sorted(names or found):
          if not name.endswith(_IGNORED):
            self._files[name] = path
            self.shapes[name] = tuple(file.get_slice(name).get_shape())

  def check(self, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raises DataError unless the tensors have these names and shapes."""
    for name, shape in sorted(expected.items()):
      if name not in self.shapes:
        raise DataError(
          f'{self.folder} lacks the tensor {name} with the shape {shape}; '
          'download the model again'
        )
      if self.shapes[name] != shape:
        raise DataError(
          f'{self.folder}: the tensor {name} has the shape '
          f'{self.shapes[name]}, but config.json asks for {shape}; download '
          'the model again'
        )
    for name in sorted(self.shapes.keys() - expected.keys()):
      raise DataError(
        f'{self.folder} has the tensor {name}, which the architecture of '
        'config.json has not; the model is of another kind'
      )

  def read(self, name: str) -> np.ndarray:
    """Returns a tensor.

    Raises:
      DataError: If its file is damaged.
    """
    path = self._files[name]
    with _opened(path) as file:
      return file.get_tensor(name)

  def digest(self) -> str:
    """Returns the digest of all tensors, as float32, in 16 digits."""
    hashed = hashlib.sha256()
    for name in sorted(self.shapes):
      hashed.update(name.encode())
      value = np.ascontiguousarray(self.read(name).astype(np.float32))
      hashed.update(value.data)
    return hashed.hexdigest()[:16]

  def tree(
    self,
    shapes: Mapping[str, Any],
    dtype: np.dtype,
    place: Callable[[np.ndarray], Any],
  ) -> dict[str, Any]:
    """Returns the parameters of a module.

    Only one parameter is in the host's memory at a time, beside what `place`
    keeps.

    Args:
      shapes: The module's tree of shapes.
      dtype: Type of the result.
      place: Moves a parameter to the devices.
    """

    def read(path: tuple[str, ...], wanted: Any) -> Any:
      names = names_of(path, wanted.shape)
      if not _is_stacked(path):
        return place(self.read(names[0]).astype(dtype))
      stacked = np.empty(wanted.shape, dtype)
      for i, name in enumerate(names):
        stacked[i] = self.read(name)
      return place(stacked)

    return _mapped(shapes, read)


def expected(shapes: Iterable[Mapping[str, Any]]) -> dict[str, tuple[int, ...]]:
  """Returns the names and shapes of the tensors of some modules.

  Args:
    shapes: Trees of shapes, one of each module.
  """
  found: dict[str, tuple[int, ...]] = {}

  def note(path: tuple[str, ...], wanted: Any) -> None:
    shape = wanted.shape[1 if _is_stacked(path) else 0 :]
    found.update(dict.fromkeys(names_of(path, wanted.shape), tuple(shape)))

  for tree in shapes:
    _mapped(tree, note)
  return found


def names_of(path: tuple[str, ...], shape: tuple[int, ...]) -> list[str]:
  """Returns the names of the tensors that make a parameter: one, or one for
  each layer."""
  if not _is_stacked(path):
    return ['.'.join(path)]
  place = path.index(_LAYERS) + 1
  return [
    '.'.join((*path[:place], str(i), *path[place:])) for i in range(shape[0])
  ]


def _is_stacked(path: tuple[str, ...]) -> bool:
  return _LAYERS in path


def _mapped(
  tree: Mapping[str, Any],
  function: Callable[[tuple[str, ...], Any], Any],
  path: tuple[str, ...] = (),
) -> dict[str, Any]:
  return {
    key: _mapped(value, function, (*path, key))
    if isinstance(value, Mapping)
    else function((*path, key), value)
    for key, value in tree.items()
  }


def _parts(folder: pathlib.Path) -> dict[pathlib.Path, set[str]]:
  """Returns the files, and the names in each; no names for all of a file."""
  if (folder / ONE).exists():
    return {folder / ONE: set()}
  if not (folder / INDEX).exists():
    pickled = sorted(path.name for path in folder.glob('*.bin'))
    only = f' (only {pickled[0]}, which is not read)' if pickled else ''
    raise DataError(
      f'{folder} has no {ONE}{only}; take a model, or a revision of it '
      '(MODEL@REVISION), with safetensors files, or save it once with '
      'save_pretrained of transformers'
    )
  found: dict[pathlib.Path, set[str]] = {}
  files = read_object(folder / INDEX).get('weight_map')
  if not isinstance(files, dict) or not files:
    raise DataError(f'{folder / INDEX} has no weight_map; download it again')
  for name, file in files.items():
    # A part lies beside the index, whatever its name says.
    path = folder / pathlib.PurePath(str(file)).name
    found.setdefault(path, set()).add(name)
  return found


def _opened(path: pathlib.Path) -> Any:
  try:
    return safetensors.safe_open(path, 'np')
  except FileNotFoundError:
    raise DataError(f'{path} is missing; download the model again') from None
  except (OSError, safetensors.SafetensorError) as error:
    raise DataError(
      f'{path} cannot be read ({error}); download the model again'
    ) from None
