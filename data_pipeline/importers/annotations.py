"""Annotations in several forms: sentences, their videos and time spans.

These forms are read, each plain or gzipped, told apart by ending and keys:
  own queries   .jsonl, rows {"query": id, "text", "videos": [id, ...] or
                "video": id, "span": [start, end], "duration", "split"}
  own videos    .jsonl, rows {"id" or "file", "captions": [text, ...],
                "timestamps": [[start, end] or null, ...], "duration", "split"}
  tables        .csv, a caption in each row, with the columns "video" or "file",
                "caption", and optionally "start", "end", "duration", "split"
  TF-PRVR       .jsonl, rows {"query_id", "video_ids": [id, ...]}; the sentence
                is not known, the split is test, and all videos are candidates
  TVR, QVHighlights, ActivityNet Captions, Charades-STA: see `moments`
Span, timestamps, duration and split may be missing or null. All times are in
seconds. Ids and sentences are read in Unicode's composed form (NFC).
"""

import collections
import dataclasses
import math
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from etils import epath

from data_pipeline import moments, rows
from data_pipeline.captions import CONTROL
from data_pipeline.csv_rows import is_table, read_table
from data_pipeline.errors import DataError
from data_pipeline.importers import tf_prvr
from data_pipeline.options import SPLITS
from data_pipeline.rows import NO_SPAN, RowError
from dreamprvr_jax import text
from dreamprvr_jax.errors import UserError

_FORMS = (
  '{"query", "text", "videos"}, {"id", "captions"}, {"query_id", "video_ids"}, '
  '{"vid_name", "ts", "desc"} or {"vid", "relevant_windows", "query"}'
)
_UNUSABLE = re.compile(r'[\s#/]+')
# Python writes bytes of a file name that are not text as these.
_NO_TEXT = re.compile('[\ud800-\udfff]+')


@dataclasses.dataclass(frozen=True)
class Annotated:
  """A sentence and its right videos.

  Attributes:
    query_id: The file's own id of the sentence, or else `<video>#enc#<k>`, the
      k-th of its video.
    text: The sentence, white space normalised.
    videos: Ids of the right videos; the first is the query's own.
    span: Start and end in the first video in seconds, or nans.
    duration: Duration of the first video in seconds, or nan.
    split: 'train', 'val' or 'test'; '' if unknown.
    gallery: Whether all videos of the features are candidates in its split,
      not only those with a sentence there.
  """

  query_id: str
  text: str
  videos: tuple[str, ...]
  span: tuple[float, float] = NO_SPAN
  duration: float = math.nan
  split: str = ''
  gallery: bool = False


def id_of_file(file: str) -> str:
  """Returns the video id of a file: its stem in NFC, with `_` for characters
  that ids cannot have: white space, '#', '/' and bytes that are not text."""
  stem = _NO_TEXT.sub('_', pathlib.PurePath(file).stem)
  return _UNUSABLE.sub('_', text.normal(stem))


def id_problem(name: str) -> str:
  """Returns why a name cannot be the id of a video; '' if it can."""
  if text.is_blank(name) or name in ('.', '..'):
    return f'{name!r} is not an id'
  if _UNUSABLE.search(name):
    return f'the id {name!r} has white space, "#" or "/": use another'
  if _NO_TEXT.search(name):
    return f'the id {name!r} has bytes that are not text: use another'
  if CONTROL.search(name):
    return f'the id {name!r} has a control character: use another'
  return ''


def read_annotations(
  path: str | pathlib.Path, bad: list[tuple[str, str]] | None = None
) -> list[Annotated]:
  """Returns the sentences of a file, in its order.

  Args:
    path: The file.
    bad: If given, bad rows are left out and added here as (where, problem).

  Raises:
    DataError, TextError: If the file is missing, damaged or of no known form,
      repeats a query, or, without `bad`, if a row is bad.
  """
  file = epath.Path(path)
  if not file.exists():
    raise DataError(f'the annotation file {path} is missing; correct the path')
  name = file.name.removesuffix('.gz')
  if name.endswith('.jsonl'):
    found = _rows(file)
  elif is_table(name):
    found = _table(file)
  elif name.endswith(('.json', '.txt')):
    found = _public(file)
  else:
    raise DataError(
      f'{path} ends in neither .jsonl, .json, .txt nor .csv (with or without '
      '.gz), so its form is not known; rename it, or write rows '
      '{"query", "text", "videos"} to a .jsonl file'
    )
  problems: list[tuple[str, str]] = []
  kept, seen = [], set()
  for where, item in found:
    if isinstance(item, str):
      problems.append((where, item))
    elif item.query_id in seen:
      problems.append((where, f'repeats the query {item.query_id!r}'))
    else:
      seen.add(item.query_id)
      kept.append(item)
    if problems and bad is None:
      problem = ' '.join(problems[0])
      # Some problems end with what to do.
      what_to_do = '' if '; ' in problems[0][1] else '; correct the file'
      raise DataError(f'{problem}{what_to_do}')
  if not kept and not problems:
    raise DataError(f'{path} has no annotated sentence; give another file')
  if bad is not None:
    bad += problems
  return kept


def _rows(path: epath.Path) -> Iterator[tuple[str, Annotated | str]]:
  """Yields (where, a sentence or a problem) of a file of JSON rows."""
  split = _split_of(path)
  counts: collections.Counter[str] = collections.Counter()
  for number, line in enumerate(text.read_each_row(path), 1):
    where = f'{path}:{number}'
    if isinstance(line, text.TextError):
      yield where, str(line)
      continue
    if text.is_blank(line):
      continue
    try:
      row = rows.parse(line)
      items = list(_reader(row)(row, counts, split))
    except UserError as error:
      yield where, f'is not a row of annotations ({error})'
      continue
    for item in items:
      yield where, _problem(item) or item


def _table(path: epath.Path) -> Iterator[tuple[str, Annotated | str]]:
  """Yields (where, a sentence or a problem) of a table."""
  counts: collections.Counter[str] = collections.Counter()
  for number, cells in read_table(path, {'id': 'video'}):
    where = f'{path}:{number}'
    try:
      (item,) = _video_row(captions_row(cells), counts, '')
    except UserError as error:
      yield where, f'is not a row of annotations ({error})'
      continue
    yield where, _problem(item) or item


def captions_row(cells: Mapping[str, str]) -> dict[str, Any]:
  """Returns a row of a table in the form of a row of captions.

  Raises:
    RowError: If there is no caption, or only one end of its span.
  """
  if 'text' not in cells:
    raise RowError(
      f'found the cells {", ".join(sorted(cells))}, expected "caption", and '
      '"video" or "file"'
    )
  found: dict[str, Any] = {'captions': [cells['text']]}
  for name, key in (('video', 'id'), ('file', 'file'), ('split', 'split')):
    if name in cells:
      found[key] = cells[name]
  if 'duration' in cells:
    found['duration'] = rows.number(cells['duration'], 'duration')
  ends = [name for name in ('start', 'end') if name in cells]
  if len(ends) == 1:
    raise RowError(f'found "{ends[0]}" alone, expected "start" and "end"')
  if ends:
    found['timestamps'] = [[cells[name] for name in ends]]
  return found


def _reader(row: dict[str, Any]) -> Callable[..., Iterable[Annotated]]:
  keys = set(row)
  if 'captions' in keys:
    return _video_row
  if keys >= {'query_id', 'video_ids'}:
    return _tf_prvr_row
  if 'text' in keys and keys & {'videos', 'video'}:
    return _query_row
  if keys & {'vid_name', 'vid', 'desc'}:
    return _public_row
  found = ', '.join(sorted(keys)) or 'nothing'
  raise RowError(f'found the keys {found}, expected {_FORMS}')


def _query_row(row: dict[str, Any], counts, split) -> Iterator[Annotated]:
  del counts, split
  if 'query' not in row:
    raise RowError('"query", the id, is missing')
  videos = rows.items(row.get('videos', [row.get('video')]), 'videos')
  yield Annotated(
    rows.name(row['query'], 'query'),
    _sentence(row['text']),
    tuple(rows.name(video, 'video') for video in videos),
    _span(row.get('span')),
    rows.seconds(row.get('duration')),
    _named_split(row),
  )


def _tf_prvr_row(row: dict[str, Any], counts, split) -> Iterator[Annotated]:
  del counts, split
  query, videos = tf_prvr.videos_of(row)
  # The sentence is not known.
  yield Annotated(query, _sentence(query), videos, split='test', gallery=True)


def _video_row(row: dict[str, Any], counts, split) -> Iterator[Annotated]:
  del split
  if not row.keys() & {'id', 'file'}:
    raise RowError('"id" and "file" are missing, one is needed')
  video = video_of(row)
  captions = rows.items(row['captions'], 'captions')
  spans = rows.items(row.get('timestamps', []), 'timestamps')
  spans = spans or [None] * len(captions)
  if len(spans) != len(captions):
    raise RowError(f'{len(captions)} captions but {len(spans)} timestamps')
  duration, named = rows.seconds(row.get('duration')), _named_split(row)
  for caption, span in zip(captions, spans, strict=True):
    if caption is None:
      continue
    yield Annotated(
      _numbered(video, counts),
      _sentence(caption),
      (video,),
      _span(span),
      duration,
      named,
    )


def video_of(row: dict[str, Any]) -> str:
  """Returns the video of a row of captions: its `id`, or else the id of its
  `file`.

  Raises:
    RowError, TextError: If it is not a name.
  """
  if 'id' in row:
    return rows.name(row['id'], 'id')
  return id_of_file(rows.name(row['file'], 'file'))


def _public_row(row: dict[str, Any], counts, split) -> Iterator[Annotated]:
  entry = moments.entry_of_row(row)
  yield _annotated(entry, counts, split, {})


def _public(path: epath.Path) -> Iterator[tuple[str, Annotated | str]]:
  """Yields the sentences of files of ActivityNet and Charades-STA."""
  split = _split_of(path)
  durations = {
    entry.video: entry.duration
    for other in moments.companions([path])
    for entry in moments.read_entries(other)
  }
  counts: collections.Counter[str] = collections.Counter()
  for number, entry in enumerate(moments.read_entries(path), 1):
    item = _annotated(entry, counts, split, durations)
    yield f'{path}, sentence {number}', _problem(item) or item


def _annotated(entry: moments.Entry, counts, split, durations) -> Annotated:
  duration = entry.duration
  if math.isnan(duration):
    duration = durations.get(entry.video, math.nan)
  # Sentences with an id are numbered, too: k is the position in the video.
  numbered = _numbered(entry.video, counts)
  return Annotated(
    entry.query or numbered,
    _sentence(entry.sentence),
    (entry.video,) if entry.video else (),
    entry.span,
    duration,
    split,
  )


def _problem(item: Annotated) -> str:
  """Returns what is wrong with a sentence; '' if nothing is."""
  if text.is_blank(item.text):
    return f'gives the query {item.query_id!r} no text'
  if not item.videos:
    return f'names no video for the query {item.query_id!r}'
  if len(set(item.videos)) < len(item.videos):
    return f'names a video twice for the query {item.query_id!r}'
  return next(filter(None, map(id_problem, item.videos)), '')


def _numbered(video: str, counts: collections.Counter[str]) -> str:
  counts[video] += 1
  return f'{video}#enc#{counts[video] - 1}'


def _split_of(path: epath.Path) -> str:
  """Returns the split in the name of a public file, or ''."""
  parts = set(re.split(r'[_.]', path.name))
  found = [split for split in SPLITS if split in parts]
  return found[0] if len(found) == 1 else ''


def _named_split(row: dict[str, Any]) -> str:
  split = row.get('split', '')
  if split not in ('', *SPLITS):
    raise RowError(
      f'the split {rows.shown(split)} is not one of {", ".join(SPLITS)}'
    )
  return split


def _sentence(value: Any) -> str:
  return ' '.join(rows.sentence(value).split())


def _span(value: Any) -> tuple[float, float]:
  start, end = rows.span(value)
  if start < 0 or end < start:
    raise RowError(f'{rows.shown(value)} is not [start, end] in seconds')
  return start, end
