"""Labels that name every video that fits a query, not only its own.

A file has one JSON object a line and may be gzipped: {"query_id": caption id,
"caption": its sentence, "gt_video_ids": its own video first, then the others}.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from data_pipeline import rows
from data_pipeline.captions import Caption
from data_pipeline.errors import DataError
from dreamprvr_jax import text
from dreamprvr_jax.errors import UserError

_EXPECTED = (
  '{"query_id": "<video id>#enc#<k>", "caption": "...", "gt_video_ids": '
  '["<video id>", ...]}'
)
_KEYS = ('query_id', 'caption', 'gt_video_ids')
_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Label:
  """The right videos of a query.

  Attributes:
    query_id: Caption id.
    caption: Its sentence.
    video_ids: The query's own video, then the others.
  """

  query_id: str
  caption: str
  video_ids: tuple[str, ...]


def read_labels(path: str) -> dict[str, Label]:
  """Returns the labels of a file by query id, in file order.

  Raises:
    DataError, TextError: If the file is missing or damaged, or a line of it is
      not a label.
  """
  labels: dict[str, Label] = {}
  for number, line in enumerate(_lines(epath.Path(path)), 1):
    where = f'{path}:{number}'
    label = _parse(line, where)
    if label.query_id in labels:
      raise DataError(
        f'{where} labels the query {label.query_id!r} a second time; keep one '
        'line of a query'
      )
    labels[label.query_id] = label
  if not labels:
    raise DataError(f'{path} has no label; expected lines {_EXPECTED}')
  return labels


def _lines(path: epath.Path) -> list[str]:
  if not path.exists():
    raise DataError(f'the label file {path} is missing; correct the path')
  found = text.read_rows(path)
  while found and text.is_blank(found[-1]):
    found.pop()
  return found


def _parse(line: str, where: str) -> Label:
  try:
    query, caption, videos = _values(rows.parse(line))
  except UserError as error:
    raise DataError(
      f'{where} is not a label ({error}); expected {_EXPECTED}'
    ) from None
  if not videos:
    raise DataError(f'{where}: the query {query!r} has an empty list of videos')
  if len(set(videos)) < len(videos):
    raise DataError(f'{where}: the query {query!r} names a video twice')
  own = Caption(query, caption, 0).video
  if videos[0] != own:
    raise DataError(
      f'{where}: the query {query!r} begins its list with {videos[0]!r}; its '
      f'own video {own!r} must come first'
    )
  return Label(query, caption, tuple(videos))


def _values(row: dict[str, Any]) -> tuple[str, str, list[str]]:
  """Returns query id, sentence and videos of a row."""
  lacking = [key for key in _KEYS if key not in row]
  if lacking:
    raise rows.RowError(f'"{lacking[0]}" is missing')
  query, caption, videos = (row[key] for key in _KEYS)
  texts = [query, *videos] if isinstance(videos, list) else [None]
  if not all(isinstance(item, str) for item in texts):
    raise rows.RowError('it has a value that is not text')
  return (
    rows.name(query, 'query_id'),
    rows.sentence(caption),
    [rows.name(video, 'video') for video in videos],
  )


def columns_of(
  labels: Mapping[str, Label],
  query_ids: Sequence[str],
  video_ids: Sequence[str],
) -> list[np.ndarray]:
  """Returns the columns of each query's right videos, in ascending order.

  Args:
    labels: Labels by query id; those of other queries are ignored.
    query_ids: The queries.
    video_ids: The candidates, by column.

  Raises:
    DataError: If a query has no label, or a label names a video that is not a
      candidate.
  """
  bare = [query for query in query_ids if query not in labels]
  if bare:
    raise DataError(
      f'{len(bare)} of {len(query_ids)} queries have no label: '
      f'{_some(bare)}; give the labels of this split '
      '(config.data.eval_split), or --labelled_only to leave these queries '
      'out'
    )
  column = {video: i for i, video in enumerate(video_ids)}
  unknown = [
    f'{video} of {query}'
    for query in query_ids
    for video in labels[query].video_ids
    if video not in column
  ]
  if unknown:
    raise DataError(
      f'{len(unknown)} labels name a video that is not one of the '
      f'{len(video_ids)} of the split: {_some(unknown)}; give the labels of '
      'this split (config.data.eval_split)'
    )
  return [
    np.sort([column[video] for video in labels[query].video_ids])
    for query in query_ids
  ]


def close_over_sentences(
  columns: Sequence[np.ndarray],
  sentences: Sequence[str],
  own: Sequence[int] | np.ndarray,
) -> list[np.ndarray]:
  """Returns the columns, extended by all videos that have a query with the
  same sentence, in ascending order.

  Args:
    columns: Right videos of each query.
    sentences: The sentence of each query; white space is normalised, case is
      kept.
    own: Column of each query's own video.
  """
  plain = [' '.join(sentence.split()) for sentence in sentences]
  having: dict[str, set[int]] = {}
  for sentence, video in zip(plain, own, strict=True):
    having.setdefault(sentence, set()).add(int(video))
  return [
    np.union1d(mine, list(having[sentence]))
    for mine, sentence in zip(columns, plain, strict=True)
  ]


def _some(names: Sequence[Any]) -> str:
  shown = ', '.join(map(str, names[:_SHOWN]))
  return f'{shown}, ...' if len(names) > _SHOWN else shown
