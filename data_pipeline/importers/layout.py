"""Writing the official layout: features, captions, spans and labels."""

import collections
import contextlib
import dataclasses
import hashlib
import json
import logging
import math
import pathlib
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import Any

import h5py
import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.importers.annotations import Annotated, id_problem
from data_pipeline.limits import shape_text
from data_pipeline.options import SENTENCES, SPLITS
from dreamprvr_jax import folders, text

_log = logging.getLogger(__name__)

# Labels of queries with several right videos, in the collection's folder.
LABELS = 'labels.jsonl'

# Upper bounds of a video's hash, for videos without a split.
_SHARES = {'train': 0.8, 'val': 0.9, 'test': 1.0}


def write_features(
  path: str | pathlib.Path,
  items: Iterable[tuple[str, np.ndarray]],
  *,
  flat: bool = False,
  exact: bool = False,
) -> int:
  """Writes matrices to an HDF5 file, one root-level dataset for each id.

  Only one matrix is in memory. A former file is replaced when the new one is
  complete and on disk.

  Args:
    path: The file; a missing folder is made.
    items: (id, (rows, width) of any float type); written as float32.
    flat: Whether matrices have one row, which is written as (width,).
    exact: Whether values keep their type, for mathematics in float64.

  Returns:
    The number of matrices.

  Raises:
    DataError: If there is no matrix, an id is repeated or cannot be one, or a
      matrix is empty, of another width than the first, or not finite.
  """
  count, width = 0, 0
  with folders.replacing(path) as partial:
    with h5py.File(partial, 'w') as file:
      for name, matrix in items:
        # Caption ids contain '#'.
        problem = id_problem(name.replace('#', '_')) or (
          'is repeated' if name in file else matrix_problem(matrix, width)
        )
        if problem:
          raise DataError(f'{name!r}: {problem}; {path} was not written')
        width = matrix.shape[1]
        kept = matrix if exact else matrix.astype(np.float32)
        file.create_dataset(name, data=kept[0] if flat else kept)
        count += 1
    if not count:
      raise DataError(f'there is nothing to write to {path}')
  return count


def matrix_problem(matrix: np.ndarray, width: int = 0) -> str:
  """Returns why an array cannot be (rows, width) features; '' if it can.

  Args:
    matrix: Any array.
    width: The required width; 0 for any.
  """
  problem = shape_problem(matrix.shape, matrix.dtype, width)
  if problem:
    return problem
  with np.errstate(over='ignore'):
    finite = np.isfinite(matrix.astype(np.float32))
  rows = np.flatnonzero(np.any(~finite, axis=1))
  if rows.size:
    return (
      f'has NaN or infinity in float32 in {rows.size} of {len(matrix)} rows, '
      f'the first {rows[0]}'
    )
  return ''


def shape_problem(shape: Sequence[int], dtype: np.dtype, width: int = 0) -> str:
  """Returns why an array cannot be a (rows, width) matrix of floats, judging
  by its shape and type; '' if it can."""
  if dtype.kind != 'f':
    return f'has {dtype} where floats were expected'
  if len(shape) != 2:
    wanted = width or 'width'
    return (
      f'has the shape {shape_text(shape)} where (rows, {wanted}) was expected'
    )
  if not all(shape):
    return f'is empty: its shape is {shape_text(shape)}'
  if width and shape[1] != width:
    return f'has the width {shape[1]} where the others have {width}'
  return ''


def write_texts(
  folder: str | pathlib.Path,
  collection: str,
  annotated: Iterable[Annotated],
  words: Callable[[Annotated], np.ndarray],
  text_file: str,
  gallery: Sequence[str] = (),
  sentence: Callable[[Annotated], np.ndarray] | None = None,
) -> dict[str, int]:
  """Writes the files of a collection's captions, replacing former ones.

  All files are written before the first is replaced:
  TextData/<collection><split>.caption.txt, TextData/<text_file> with the word
  features by caption id, TextData/sentence_feats.hdf5 with the vectors of
  sentences by caption id if there are any, <collection>.moments.json,
  labels.jsonl if a query has several right videos, and
  TextData/<collection><split>.videos.txt with the candidates of a split, if all
  videos are. Captions are numbered within their first right video:
  `<video>#enc#<k>`.

  Args:
    folder: Folder of the collection.
    collection: Name of the collection.
    annotated: The sentences; see `assign_splits` for those without a split.
    words: Returns the (words, width) features of a sentence.
    text_file: Name of the word-feature file.
    gallery: All videos, the candidates of sentences that ask for that.
    sentence: Returns the (width,) vector of a sentence; called right after
      `words`. None if sentences have none.

  Returns:
    Number of sentences by split, without empty splits.

  Raises:
    DataError: If there is no sentence, or a sentence or its features are bad.
  """
  folder = pathlib.Path(folder)
  text_folder = folder / 'TextData'
  text_folder.mkdir(parents=True, exist_ok=True)
  annotated = assign_splits(list(annotated))
  ids = caption_ids(annotated)
  if not annotated:
    raise DataError(f'there is no sentence to write to {text_folder}')
  contents = {
    text_folder / f'{collection}{split}.caption.txt': _caption_lines(
      [(i, a) for i, a in zip(ids, annotated, strict=True) if a.split == split]
    )
    for split in SPLITS
  }
  contents[folder / f'{collection}.moments.json'] = _moments(annotated)
  wide = {item.split for item in annotated if item.gallery}
  for split in SPLITS:
    lines = gallery if split in wide else ()
    path = text_folder / f'{collection}{split}.videos.txt'
    contents[path] = ''.join(f'{name}\n' for name in sorted(lines))
  contents[folder / LABELS] = _labels(ids, annotated, wide)
  pairs = zip(ids, annotated, strict=True)
  with contextlib.ExitStack() as stack:
    for path, content in contents.items():
      if content:
        partial = stack.enter_context(folders.replacing(path))
        partial.write_text(content, encoding='utf-8')
    word_file = stack.enter_context(folders.replacing(text_folder / text_file))
    vectors = None
    if sentence:
      partial = stack.enter_context(folders.replacing(text_folder / SENTENCES))
      vectors = stack.enter_context(h5py.File(partial, 'w'))

    def encoded() -> Iterator[tuple[str, np.ndarray]]:
      for name, item in pairs:
        yield name, words(item)
        if sentence and vectors is not None:
          vectors[name] = np.asarray(sentence(item), np.float32)

    write_features(word_file, encoded())
  if not sentence:
    (text_folder / SENTENCES).unlink(missing_ok=True)
  for path, content in contents.items():
    if not content:
      path.unlink(missing_ok=True)
  counts = collections.Counter(item.split for item in annotated)
  return {split: counts[split] for split in SPLITS if counts[split]}


def assign_splits(annotated: Sequence[Annotated]) -> list[Annotated]:
  """Returns the sentences, each with a split.

  If no sentence of a first right video has a split, a hash of its id decides:
  80 % train, 10 % val, 10 % test, so that a video keeps its split when others
  are added. If there are three videos or more, a split that would be empty
  gets the video nearest to it in the order of the hashes.
  """
  known = {a.videos[0]: a.split for a in annotated if a.split}
  places = {a.videos[0]: _hash(a.videos[0]) for a in annotated}
  found = {
    video: known.get(video)
    or next(split for split, bound in _SHARES.items() if places[video] < bound)
    for video in sorted(places, key=places.__getitem__)
  }
  free = [video for video in found if video not in known]
  for split, step in (('val', -1), ('test', -1), ('train', 1)):
    sizes = collections.Counter(found.values())
    movable = [video for video in free[::step] if sizes[found[video]] > 1]
    if len(found) > 2 and not sizes[split] and movable:
      found[movable[0]] = split
  return [
    dataclasses.replace(a, split=a.split or found[a.videos[0]])
    for a in annotated
  ]


def caption_ids(annotated: Sequence[Annotated]) -> list[str]:
  """Returns `<first right video>#enc#<k>` of each sentence, numbered within
  the video.

  Raises:
    DataError: If a video's id or a sentence is bad.
  """
  counts: collections.Counter[str] = collections.Counter()
  ids = []
  for item in annotated:
    video = item.videos[0]
    problem = id_problem(video) or _text_problem(item.text)
    if problem:
      raise DataError(f'the query {item.query_id!r}: {problem}')
    ids.append(f'{video}#enc#{counts[video]}')
    counts[video] += 1
  return ids


def _text_problem(sentence: str) -> str:
  if text.is_blank(sentence):
    return 'has no text'
  half = text.surrogate(sentence)
  return f'its text has {half}, which is half of a character' if half else ''


def _hash(name: str) -> float:
  """Returns a number from 0 to 1 that depends only on the name."""
  digest = hashlib.sha256(name.encode()).digest()
  return int.from_bytes(digest[:8], 'big') / 2**64


def _plain(item: Annotated) -> str:
  return ' '.join(item.text.split())


def _caption_lines(pairs: Iterable[tuple[str, Annotated]]) -> str:
  return ''.join(f'{name} {_plain(item)}\n' for name, item in pairs)


def _moments(annotated: Sequence[Annotated]) -> str:
  """Returns the spans and durations in the form that `data_pipeline.moments`
  reads; '' if no time is known."""
  videos: dict[str, dict[str, Any]] = {}
  for item in annotated:
    entry = videos.setdefault(
      item.videos[0], {'sentences': [], 'timestamps': []}
    )
    entry['sentences'].append(_plain(item))
    unknown = math.isnan(item.span[0])
    entry['timestamps'].append(None if unknown else list(item.span))
    if not math.isnan(item.duration):
      entry['duration'] = item.duration
  known = any(
    'duration' in entry or any(entry['timestamps']) for entry in videos.values()
  )
  return json.dumps(videos) if known else ''


def _labels(
  ids: Sequence[str], annotated: Sequence[Annotated], wide: Container[str]
) -> str:
  """Returns the lines of the labels; '' if no query has several right videos.

  A label names only candidates of the query's split: videos that have a
  sentence of their own there, or all videos if the split is in `wide`.
  """
  if all(len(item.videos) == 1 for item in annotated):
    return ''
  candidates = {(item.split, item.videos[0]) for item in annotated}
  rows = []
  left_out = 0
  for name, item in zip(ids, annotated, strict=True):
    videos = [
      v
      for v in item.videos
      if (item.split, v) in candidates or item.split in wide
    ]
    left_out += len(item.videos) - len(videos)
    rows.append(
      {'query_id': name, 'caption': _plain(item), 'gt_video_ids': videos}
    )
  if left_out:
    _log.warning(
      'labels.jsonl leaves out %d right videos that have no sentence of their '
      "own in their query's split, and so are not candidates there",
      left_out,
    )
  return ''.join(json.dumps(row) + '\n' for row in rows)
