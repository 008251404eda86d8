"""Time spans of captions and durations of videos, from public annotations.

Four formats are read, each plain or gzipped:
  ActivityNet Captions  {video: {duration, timestamps, sentences}}; a time span
                        may be null
  TVR                   rows {vid_name, ts, duration, desc}
  Charades-STA          lines `video start end##sentence`; the durations are in
                        a charades_*_release.jsonl next to it
  QVHighlights          rows {vid, relevant_windows, duration, query}; the span
                        runs from the start of the first window to the end of
                        the last one
A caption `<video>#enc#<k>` belongs to the k-th entry of its video, but only if
the sentences agree.
"""

import collections
import dataclasses
import logging
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from etils import epath

from data_pipeline import rows
from data_pipeline.captions import Caption
from data_pipeline.errors import DataError
from data_pipeline.options import DataOptions
from data_pipeline.rows import NO_SPAN, RowError
from dreamprvr_jax import text
from dreamprvr_jax.errors import UserError

_log = logging.getLogger(__name__)

_PATTERNS = (
  'train.json',
  'val_1.json',
  'val_2.json',
  '*.moments.json',
  'charades_sta_*.txt',
  '*.jsonl',
)
_ROWS = (
  '{"vid_name", "ts", "duration", "desc"} or {"vid", "relevant_windows", '
  '"duration", "query"}'
)


@dataclasses.dataclass(frozen=True)
class Entry:
  """One sentence of an annotation file.

  Attributes:
    video: Its video; '' if the file does not say.
    sentence: Its text.
    span: Start and end in seconds, or nans.
    duration: Duration of the video in seconds, or nan.
    query: The file's own id of the sentence; '' if it has none.
  """

  video: str
  sentence: str
  span: tuple[float, float]
  duration: float
  query: str = ''


def plain(sentence: str) -> str:
  """Returns the words of a sentence in lower case, without punctuation;
  copies of a sentence differ in nothing else."""
  return ' '.join(re.sub(r'[\W_]+', ' ', sentence.casefold()).split())


def find_moments(options: DataOptions) -> list[epath.Path]:
  """Returns the annotation files: those that the options name, or else those
  in the collection's folder.

  Raises:
    DataError: If a file that the options name is missing.
  """
  if options.moments:
    paths = [
      epath.Path(part.strip())
      for part in options.moments.split(',')
      if part.strip()
    ]
    for path in paths:
      if not path.exists():
        raise DataError(
          f'{path}, named by the option `moments`, is missing; correct the '
          'path, or leave the option empty'
        )
    return paths
  found: dict[epath.Path, None] = {}
  for pattern in _PATTERNS:
    for ending in ('', '.gz'):
      matches = options.folder.glob(pattern + ending)
      found.update(dict.fromkeys(sorted(matches)))
  return list(found)


def _span(value: Any) -> tuple[float, float]:
  """Returns a span; some in the public files run backwards."""
  start, end = rows.span(value)
  return (end, start) if end < start else (start, end)


def _extent(row: dict[str, Any]) -> tuple[float, float]:
  """Returns the span of a row: its `ts`, or the extent of its windows."""
  if row.get('ts'):
    return _span(row['ts'])
  windows = rows.items(row.get('relevant_windows', []), 'relevant_windows')
  spans = [_span(window) for window in windows if window is not None]
  known = [span for span in spans if _is_known(span)]
  if not known:
    return NO_SPAN
  starts, ends = zip(*known, strict=True)
  return min(starts), max(ends)


def _is_known(span: tuple[float, float]) -> bool:
  return not math.isnan(span[0])


def _activitynet(path: epath.Path) -> list[Entry]:
  content = rows.given(text.parse_json(text.read(path), str(path)), 'it')
  found = []
  for video, key in text.by_normal(content, str(path)).items():
    try:
      found += _entries(rows.name(video, 'video'), content[key])
    except UserError as error:
      raise RowError(f'the entry of {rows.shown(key)}: {error}') from None
  return found


def _entries(video: str, content: Any) -> list[Entry]:
  """Returns the sentences of a video."""
  entry = rows.given(content, 'it')
  if 'sentences' not in entry:
    raise RowError('"sentences" is missing')
  sentences = rows.items(entry['sentences'], 'sentences')
  spans = rows.items(
    entry.get('timestamps', [None] * len(sentences)), 'timestamps'
  )
  if len(spans) != len(sentences):
    raise RowError(f'{len(sentences)} sentences but {len(spans)} timestamps')
  duration = rows.seconds(entry.get('duration'))
  return [
    Entry(video, rows.sentence(sentence), _span(span), duration)
    for sentence, span in zip(sentences, spans, strict=True)
    if sentence is not None
  ]


def entry_of_row(row: dict[str, Any]) -> Entry:
  """Returns a row of TVR's or QVHighlights' files as an entry.

  Args:
    row: A row without nulls, see `rows.parse`.

  Raises:
    RowError, TextError: If it is not such a row.
  """
  return Entry(
    _name(row, 'vid_name', 'vid'),
    rows.sentence(row.get('desc', row.get('query', ''))),
    _extent(row),
    rows.seconds(row.get('duration')),
    _name(row, 'desc_id', 'qid'),
  )


def _name(row: dict[str, Any], *keys: str) -> str:
  """Returns the id under the first key that a row has, or ''."""
  value, key = next(((row[key], key) for key in keys if key in row), ('', ''))
  return '' if value == '' else rows.name(value, key)


def _rows(path: epath.Path) -> Iterator[Entry]:
  for number, line in enumerate(text.read_rows(path), 1):
    if text.is_blank(line):
      continue
    try:
      yield entry_of_row(rows.parse(line))
    except UserError as error:
      raise DataError(
        f'{path}:{number} is not a row of annotations {_ROWS} ({error}); copy '
        'it again'
      ) from None


def _charades(path: epath.Path) -> Iterator[Entry]:
  for number, line in enumerate(text.read_rows(path), 1):
    if text.is_blank(line):
      continue
    head, mark, sentence = line.partition('##')
    parts = head.split()
    try:
      if not mark or len(parts) != 3:
        raise RowError(f'{len(parts)} words before ##' if mark else 'no ##')
      video = rows.name(parts[0], 'video')
      yield Entry(video, rows.sentence(sentence), _span(parts[1:]), math.nan)
    except UserError as error:
      raise DataError(
        f'{path}:{number} has {line[:60]!r} where '
        f'`<video> <start> <end>##<sentence>` was expected ({error}); copy it '
        'again'
      ) from None


def read_entries(path: epath.Path) -> list[Entry]:
  """Returns the sentences of an annotation file, in its order.

  Raises:
    DataError, TextError: If it is malformed.
  """
  name = path.name.removesuffix('.gz')
  if name.endswith('.jsonl'):
    return list(_rows(path))
  if name.endswith('.txt'):
    return list(_charades(path))
  try:
    return _activitynet(path)
  except RowError as error:
    raise DataError(
      f'{path} is not {{video: {{duration, timestamps, sentences}}}} '
      f'({error}); copy it again'
    ) from None


def companions(paths: Iterable[epath.Path]) -> list[epath.Path]:
  """Returns the files that are read only for the durations of `paths`."""
  found = {}
  for path in paths:
    if path.name.startswith('charades_sta_'):
      folder = path.parent
      for ending in ('', '.gz'):
        matches = folder.glob('charades_*_release.jsonl' + ending)
        found.update(dict.fromkeys(sorted(matches)))
  return [path for path in found if path not in set(paths)]


class Moments:
  """The spans and durations of all annotation files of a collection."""

  def __init__(self, options: DataOptions):
    """Reads the files.

    Raises:
      DataError, TextError: If a file is missing or malformed.
    """
    self._explicit = bool(options.moments)
    # The second annotators of TVR and ActivityNet restart k at 0, so every
    # file has its own lists; they are tried in the order of the files.
    self._files: list[dict[str, list[Entry]]] = []
    self._durations: dict[str, float] = {}
    paths = find_moments(options)
    others = companions(paths)
    self.files = [*paths, *others]
    for path in self.files:
      videos = collections.defaultdict(list)
      try:
        entries = read_entries(path)
      except UserError as error:
        if self._explicit:
          raise
        # A file that was found by its name may be something else.
        _log.warning('a file gives no time spans: %s', error)
        continue
      for entry in entries:
        videos[entry.video].append(entry)
        if not math.isnan(entry.duration):
          self._durations.setdefault(entry.video, entry.duration)
      # The files next to a Charades-STA file repeat its spans with other
      # numbers, so only their durations are used.
      if path not in others and not _durations_only(path, paths):
        self._files.append(videos)

  def span(self, caption: Caption) -> tuple[float, float]:
    """Returns the start and end of a caption in seconds, or nans."""
    wanted = plain(caption.text)
    entries = [file.get(caption.video, ()) for file in self._files]
    for videos in entries:
      if 0 <= caption.number < len(videos):
        entry = videos[caption.number]
        # A test split is also published without its spans.
        if plain(entry.sentence) == wanted and _is_known(entry.span):
          return entry.span
    # The numbers may start at 1, or skip no gaps: a sentence that the video
    # has exactly once identifies the entry as well.
    same = {
      entry.span
      for videos in entries
      for entry in videos
      if plain(entry.sentence) == wanted and _is_known(entry.span)
    }
    return same.pop() if len(same) == 1 else NO_SPAN

  def join(
    self, captions: list[Caption], video_ids: list[str]
  ) -> tuple[np.ndarray, np.ndarray]:
    """Returns (n, 2) spans and (v,) durations in seconds, nan if unknown."""
    spans = np.array([self.span(c) for c in captions], np.float64)
    durations = [self._durations.get(video, math.nan) for video in video_ids]
    disagree = sum(
      bool(np.isnan(spans[i, 0]))
      and any(caption.video in videos for videos in self._files)
      for i, caption in enumerate(captions)
    )
    if disagree and self._explicit:
      _log.warning(
        '%d of %d captions differ from the annotations of their video and '
        'have no time span',
        disagree,
        len(captions),
      )
    return spans.reshape(-1, 2), np.array(durations, np.float64)


def _durations_only(path: epath.Path, paths: list[epath.Path]) -> bool:
  name = path.name
  return (
    name.startswith('charades_')
    and '_release.jsonl' in name
    and any(p.name.startswith('charades_sta_') for p in paths)
  )
