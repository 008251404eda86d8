"""Features of the captions of a collection's videos: their words, and the whole
sentences where the encoder compares these with pictures."""

import dataclasses
import math
import pathlib
from collections.abc import Mapping

import numpy as np
import tqdm

from data_pipeline import rows
from data_pipeline.csv_rows import is_table, read_table
from data_pipeline.errors import DataError
from data_pipeline.importers.annotations import (
  Annotated,
  captions_row,
  id_of_file,
  read_annotations,
  video_of,
)
from data_pipeline.importers.layout import write_texts
from dreamprvr_jax import text
from dreamprvr_jax.archive.encoders import Encoder


@dataclasses.dataclass(frozen=True)
class Written:
  """How many captions were written.

  Attributes:
    splits: Number of captions by split.
    left_out: Number of captions whose videos were not extracted.
  """

  splits: dict[str, int]
  left_out: int


def write_captions(
  path: str,
  folder: pathlib.Path,
  collection: str,
  encoder: Encoder,
  durations: Mapping[str, float],
  *,
  progress: bool = True,
) -> Written:
  """Encodes captions and replaces those of the collection.

  Args:
    path: The file, see `read_annotations`.
    folder: The folder of the collection.
    collection: The name of the collection.
    encoder: Makes the features.
    durations: {id: seconds} of the extracted videos.
    progress: Whether a progress bar is shown.

  Raises:
    DataError, TextError: If the file is invalid, or names none of the videos.
  """
  everything = read_annotations(path)
  files = _files(path)
  known = [
    kept
    for item in everything
    if (kept := _known(item, files, durations)) is not None
  ]
  if not known:
    named = sorted({video for item in everything for video in item.videos})
    raise DataError(
      f'{path}: none of its {len(everything):,} captions is of a video that '
      f'was extracted; it names {_some(named)}, there are '
      f'{_some(sorted(durations))}: the id of a video is the name of its file '
      'without the ending'
    )
  with tqdm.tqdm(
    total=len(known),
    desc='captions',
    unit=' captions',
    dynamic_ncols=True,
    disable=not progress,
  ) as bar:

    def words(item: Annotated) -> np.ndarray:
      bar.update()
      return encoder.words(item.text)

    def sentence(item: Annotated) -> np.ndarray:
      return encoder.sentence(item.text)

    name = f'{encoder.name}_{collection}_query_feat.hdf5'
    vectors = sentence if encoder.shared else None
    splits = write_texts(
      folder, collection, known, words, name, sentence=vectors
    )
  return Written(splits, len(everything) - len(known))


def _files(path: str) -> dict[str, str]:
  """Returns {id: id of its file} for rows that name both."""
  if is_table(path):
    cells = (row for _, row in read_table(path, {'id': 'video'}))
    found = [captions_row(row) for row in cells]
  elif path.removesuffix('.gz').endswith('.jsonl'):
    lines = text.read_rows(path)
    found = [rows.parse(line) for line in lines if not text.is_blank(line)]
  else:
    return {}
  return {
    video_of(row): id_of_file(rows.name(row['file'], 'file'))
    for row in found
    if {'captions', 'id', 'file'} <= row.keys()
  }


def _known(
  item: Annotated, files: Mapping[str, str], durations: Mapping[str, float]
) -> Annotated | None:
  """Returns a caption with those of its videos that were extracted."""
  named = (v if v in durations else files.get(v, v) for v in item.videos)
  videos = tuple(dict.fromkeys(video for video in named if video in durations))
  if not videos:
    return None
  # The span belongs to the first video.
  first = item.videos[0]
  same = videos[0] in (first, files.get(first))
  span = item.span if same else (math.nan, math.nan)
  return dataclasses.replace(
    item, videos=videos, span=span, duration=durations[videos[0]]
  )


def _some(names: list[str]) -> str:
  return ', '.join(names[:3]) + (', ...' if len(names) > 3 else '')
