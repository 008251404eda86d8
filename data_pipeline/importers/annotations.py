"""Annotations of several forms: which sentence means which videos, and when.

Read are, each plain or gzipped, told apart by ending and keys:
  own queries   .jsonl, rows {"query": id, "text", "videos": [id, ...] or
                "video": id, "span": [start, end], "duration", "split"}
  own videos    .jsonl, rows {"id" or "file", "captions": [text, ...],
                "timestamps": [[start, end] or null, ...], "duration", "split"}
  TVR, QVHighlights, ActivityNet Captions, Charades-STA: see `moments`
Span, timestamps, duration and split may be left out. Seconds throughout.
"""

import collections
import dataclasses
import json
import math
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from etils import epath

from data_pipeline import moments
from data_pipeline.errors import DataError
from data_pipeline.options import SPLITS

_FORMS = (
  '{"query", "text", "videos"}, {"id", "captions"}, {"vid_name", "ts", "desc"} '
  'or {"vid", "relevant_windows", "query"}'
)
_UNUSABLE = re.compile(r'[\s#/]+')
_NO_SPAN = (math.nan, math.nan)


@dataclasses.dataclass(frozen=True)
class Annotated:
  """A sentence and the videos it means.

  Attributes:
    query_id: The file's own name of the sentence, or `<video>#enc#<k>`, the
      k-th of its video, where it has none.
    text: The sentence, white space normalised.
    videos: Ids of the right videos; the first is the query's own.
    span: Start and end in the first of them in seconds, or nans.
    duration: Of the first of them in seconds, or nan.
    split: 'train', 'val' or 'test'; '' if not said.
  """

  query_id: str
  text: str
  videos: tuple[str, ...]
  span: tuple[float, float] = _NO_SPAN
  duration: float = math.nan
  split: str = ''


def id_of_file(file: str) -> str:
  """Returns the video id of a file: its stem, with `_` for white space, '#'
  and '/', which caption ids and HDF5 names cannot hold."""
  return _UNUSABLE.sub('_', pathlib.PurePath(file).stem)


def id_problem(name: str) -> str:
  """Returns why something cannot be the id of a video; '' if it can."""
  if not name or name in ('.', '..'):
    return f'{name!r} is no id'
  if _UNUSABLE.search(name):
    return f'the id {name!r} holds white space, "#" or "/": use another'
  return ''


def read_annotations(
  path: str | pathlib.Path, bad: list[tuple[str, str]] | None = None
) -> list[Annotated]:
  """Returns the sentences of a file, in its order.

  Args:
    path: The file.
    bad: If given, (where, what is wrong) of single rows is added here and
      they are left out.

  Raises:
    DataError: If the file is missing, damaged or of no known form, names a
      query twice, or, without `bad`, a row is bad.
  """
  file = epath.Path(path)
  if not file.exists():
    raise DataError(f'the annotation file {path} is missing; correct the path')
  name = file.name.removesuffix('.gz')
  if name.endswith('.jsonl'):
    found = _rows(file)
  elif name.endswith(('.json', '.txt')):
    found = _public(file)
  else:
    raise DataError(
      f'{path} ends in neither .jsonl, .json nor .txt (with or without .gz), '
      'so its form is not known; rename it, or write rows '
      '{"query", "text", "videos"} to a .jsonl file'
    )
  problems: list[tuple[str, str]] = []
  kept, seen = [], set()
  for where, item in found:
    if isinstance(item, str):
      problems.append((where, item))
    elif item.query_id in seen:
      problems.append((where, f'holds the query {item.query_id!r} again'))
    else:
      seen.add(item.query_id)
      kept.append(item)
    if problems and bad is None:
      raise DataError(f'{" ".join(problems[0])}; correct the file')
  if not kept and not problems:
    raise DataError(f'{path} holds no annotated sentence')
  if bad is not None:
    bad += problems
  return kept


def _rows(path: epath.Path) -> Iterator[tuple[str, Annotated | str]]:
  """Yields (where, a sentence or what is wrong) of a file of JSON rows."""
  split = _split_of(path)
  counts: collections.Counter[str] = collections.Counter()
  for number, line in enumerate(moments.read_text(path).split('\n'), 1):
    if not line.strip():
      continue
    where = f'{path}:{number}'
    try:
      row = json.loads(line)
      items = list(_reader(row)(row, counts, split))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
      # Our own sentences are ValueErrors, too.
      own = type(error) is ValueError
      reason = str(error)[:120] if own else f'{type(error).__name__}: {error}'
      yield where, f'is not a row of annotations ({reason})'
      continue
    for item in items:
      yield where, _problem(item) or item


def _reader(row: Any) -> Callable[..., Iterable[Annotated]]:
  keys = set(row)
  if 'captions' in keys:
    return _video_row
  if 'text' in keys and keys & {'videos', 'video'}:
    return _query_row
  if keys & {'vid_name', 'vid', 'desc'}:
    return _public_row
  found = ', '.join(map(str, sorted(keys))) or 'nothing'
  raise ValueError(f'found the keys {found}, expected {_FORMS}')


def _query_row(row: dict[str, Any], counts, split) -> Iterator[Annotated]:
  del counts, split
  videos = row['videos'] if 'videos' in row else [row['video']]
  if not isinstance(videos, list):
    raise ValueError('"videos" is not a list of ids')
  yield Annotated(
    _name(row['query'], 'query'),
    _sentence(row['text']),
    tuple(_name(video, 'video') for video in videos),
    _span(row.get('span')),
    _seconds(row.get('duration')),
    _named_split(row),
  )


def _video_row(row: dict[str, Any], counts, split) -> Iterator[Annotated]:
  del split
  video = (
    _name(row['id'], 'id') if 'id' in row else id_of_file(str(row['file']))
  )
  captions = row['captions']
  if not isinstance(captions, list):
    raise ValueError('"captions" is not a list of sentences')
  spans = row.get('timestamps') or [None] * len(captions)
  if len(spans) != len(captions):
    raise ValueError(f'{len(captions)} captions but {len(spans)} timestamps')
  duration, named = _seconds(row.get('duration')), _named_split(row)
  for text, span in zip(captions, spans, strict=True):
    yield Annotated(
      _numbered(video, counts),
      _sentence(text),
      (video,),
      _span(span),
      duration,
      named,
    )


def _public_row(row: dict[str, Any], counts, split) -> Iterator[Annotated]:
  entry = moments.entry_of_row(row)
  yield _annotated(entry, counts, split, {})


def _public(path: epath.Path) -> Iterator[tuple[str, Annotated | str]]:
  """Yields the sentences of ActivityNet's and Charades-STA's files."""
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
  return Annotated(
    entry.query or _numbered(entry.video, counts),
    _sentence(entry.sentence),
    (entry.video,) if entry.video else (),
    entry.span,
    duration,
    split,
  )


def _problem(item: Annotated) -> str:
  """Returns what is wrong with a sentence that was read; '' if nothing is."""
  if not item.text:
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
  """Returns the split that the name of a public file tells, or ''."""
  parts = set(re.split(r'[_.]', path.name))
  told = [split for split in SPLITS if split in parts]
  return told[0] if len(told) == 1 else ''


def _named_split(row: dict[str, Any]) -> str:
  split = row.get('split') or ''
  if split and split not in SPLITS:
    raise ValueError(f'the split {split!r} is none of {", ".join(SPLITS)}')
  return split


def _name(value: Any, what: str) -> str:
  if isinstance(value, bool) or not isinstance(value, str | int):
    raise ValueError(f'the {what} is {value!r}, expected a name')
  if value == '':
    raise ValueError(f'the {what} is empty')
  return str(value)


def _sentence(value: Any) -> str:
  if not isinstance(value, str):
    raise ValueError(f'{str(value)[:60]!r} is not a sentence')
  return ' '.join(value.split())


def _seconds(value: Any) -> float:
  if value is None:
    return math.nan
  seconds = float(value)
  if not (math.isfinite(seconds) and seconds > 0):
    raise ValueError(f'the duration {value!r} is not a number of seconds')
  return seconds


def _span(value: Any) -> tuple[float, float]:
  if value is None:
    return _NO_SPAN
  start, end = map(float, value)
  if not (0 <= start <= end < math.inf):
    raise ValueError(f'{value!r} is not [start, end] in seconds')
  return start, end
