"""The index of prepared records: all of a split but its features.

It is one file of named arrays, and finds every item in the shards.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath

from data_pipeline.corpus import Split
from data_pipeline.errors import ArrayError, DataError
from data_pipeline.limits import Limits
from data_pipeline.npz import Npz
from data_pipeline.paths import index_path, replacing
from dreamprvr_jax import text

_STRINGS = ('video_ids', 'caption_ids', 'captions')
_ARRAYS = ('caption_video', 'num_frames', 'num_words', 'durations', 'moments')
# Kind and shape of each array: v videos, n captions, s shards, * any length.
_INDEX = {
  'shard_lengths': ('i', 's'),
  'offsets': ('i', 'v3'),
  'num_frames': ('i', 'v'),
  'caption_video': ('i', 'n'),
  'num_words': ('i', 'n'),
  'durations': ('f', 'v'),
  'moments': ('f', 'n2'),
  **dict.fromkeys(_STRINGS, ('u', '*')),
}


def save_arrays(path: epath.Path, arrays: dict[str, np.ndarray]) -> None:
  """Writes named arrays, atomically."""
  buffer = io.BytesIO()
  np.savez(buffer, **arrays)  # pyright: ignore[reportArgumentType]
  with replacing(path) as partial:
    partial.write_bytes(buffer.getvalue())


def load_arrays(path: epath.Path) -> dict[str, np.ndarray]:
  """Returns named arrays.

  Raises:
    DataError: If the file is missing or damaged.
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


def save_index(
  split: Split, shard_lengths: list[int], written: dict[str, np.ndarray]
) -> None:
  """Writes everything about a split that is not a feature.

  Args:
    split: The split that was prepared.
    shard_lengths: Videos in each shard.
    written: `offsets` (v, 3), the bytes before clips, frames and words in the
      shard; `clip_plan` (v, 2, c) if clips are merged.
  """
  arrays = {name: _pack(getattr(split, name)) for name in _STRINGS}
  arrays |= {name: getattr(split, name) for name in _ARRAYS}
  arrays['shard_lengths'] = np.array(shard_lengths, np.int64)
  if split.frame_edges is not None:
    arrays['frame_edges'] = np.concatenate(split.frame_edges).astype(np.int64)
  save_arrays(index_path(split.options, split.name), arrays | written)


def load_index(
  path: epath.Path, facts: dict[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
  """Returns the arrays and the texts of an index.

  Args:
    path: The file.
    facts: About the split, from the manifest.

  Raises:
    DataError: If the file is missing or damaged, an array is missing, of
      another shape or type, or points past the end of a shard.
    TextError: If a text is not UTF-8.
  """
  index = load_arrays(path)
  sizes = {
    'v': facts['videos'],
    'n': facts['captions'],
    's': len(facts['shard_bytes']),
    '2': 2,
    '3': 3,
  }
  _check_shapes(index, sizes, path)
  # Older records may not be in NFC.
  texts = {
    key: list(map(text.normal, _unpack(index[key], str(path))))
    for key in _STRINGS
  }
  for key, strings in texts.items():
    expected = sizes['v' if key == 'video_ids' else 'n']
    if len(strings) != expected:
      raise _mismatch(path, f'it has {len(strings)} {key}, not {expected}')
  _check_numbers(index, facts, path)
  return index, texts


def frame_edges(index: dict[str, np.ndarray]) -> list[np.ndarray] | None:
  """Returns the borders of the stored frames of each video, see
  `corpus.Split.frame_edges`; None if the index has none."""
  if 'frame_edges' not in index:
    return None
  # Each video's borders begin at 0.
  edges = index['frame_edges']
  return np.split(edges, np.flatnonzero(edges == 0)[1:])


def _check_shapes(
  index: dict[str, np.ndarray], sizes: dict[str, int], path: epath.Path
) -> None:
  for key, (kind, axes) in _INDEX.items():
    shape = tuple(sizes[axis] for axis in axes if axis != '*')
    array = index.get(key)
    if array is None:
      raise _mismatch(path, f'the array {key!r} is missing')
    if array.dtype.kind != kind or (axes != '*' and array.shape != shape):
      raise _mismatch(path, f'the array {key!r} has another shape or type')


def _check_numbers(
  index: dict[str, np.ndarray], facts: dict[str, Any], path: epath.Path
) -> None:
  videos, lengths = facts['videos'], index['shard_lengths']
  bounds = {
    'shard_lengths': videos,
    'caption_video': videos - 1,
    'num_frames': np.inf,
    'num_words': np.inf,
  }
  for key, most in bounds.items():
    array = index[key]
    if array.size and not 0 <= array.min() <= array.max() <= most:
      raise _mismatch(path, f'{key!r} has impossible numbers')
  if lengths.sum() != videos:
    raise _mismatch(path, f'its shards have {lengths.sum()} videos')
  if 'frame_edges' in index and not _has_edges(index):
    raise _mismatch(path, "'frame_edges' are no borders of its videos")
  ends = np.repeat(np.array(facts['shard_bytes'], np.int64), lengths)
  offsets = index['offsets']
  if offsets.size and not (
    offsets.min() >= 0 and (offsets <= ends[:, None]).all()
  ):
    raise _mismatch(path, 'an offset is past the end of its shard')


def _has_edges(index: dict[str, np.ndarray]) -> bool:
  """Returns whether the borders of frames rise from 0 to the length of each
  video."""
  edges = index['frame_edges']
  if edges.dtype.kind != 'i' or edges.ndim != 1 or edges[:1].tolist() != [0]:
    return False
  parts = frame_edges(index) or []
  return len(parts) == len(index['num_frames']) and all(
    len(part) > 1 and part[-1] == length and (np.diff(part) > 0).all()
    for part, length in zip(parts, index['num_frames'], strict=True)
  )


def _mismatch(path: epath.Path, what: str) -> DataError:
  return DataError(
    f'{path} does not fit its manifest: {what}; prepare the records again'
  )


def _pack(strings: Sequence[str]) -> np.ndarray:
  """Returns strings without line breaks as one array of bytes."""
  return np.frombuffer('\n'.join(strings).encode('utf-8'), np.uint8)


def _unpack(packed: np.ndarray, where: str) -> list[str]:
  """Returns the strings that were packed.

  Raises:
    TextError: If they are not UTF-8; names `where`.
  """
  return text.decode(packed.tobytes(), where).split('\n')
