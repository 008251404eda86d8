"""All videos of a feature file, whether or not a caption names them."""

import pathlib

import numpy as np

from data_pipeline import rows, stored_moments
from data_pipeline.bigfile import read_table
from data_pipeline.captions import read_captions
from data_pipeline.corpus import Split
from data_pipeline.errors import ArrayError, BadItemError, DataError
from data_pipeline.hdf5_claims import GroupError
from data_pipeline.hdf5_file import Hdf5File
from data_pipeline.joining import ReleaseSplit, common_width, matrix_problem
from data_pipeline.moments import Moments
from data_pipeline.options import DataOptions
from data_pipeline.paths import is_remote
from data_pipeline.release import (
  PREFIX,
  Release,
  caption_files,
  find_visual,
  open_visual,
)
from data_pipeline.source import ReleaseSource
from dreamprvr_jax import text

# Has {video: seconds} for videos without annotations.
DURATIONS = 'durations.json'


def open_archive(options: DataOptions) -> Split:
  """Returns all videos of a collection's features as a split without
  captions, sorted by id; values are not read yet.

  Raises:
    DataError: If the features are missing or damaged, or one matrix is bad
      and `skip_bad` is not set.
  """
  if is_remote(options.root):
    raise DataError(
      f'all videos are read from the official files, which cannot be read from '
      f'{options.root}; give a local data root'
    )
  path = find_visual(options)
  ids = sorted(_names(path, options))
  visual = open_visual(path, ids, options)
  width = common_width(visual, ids)
  kept, skipped = [], []
  for name in ids:
    reason = matrix_problem(visual, name, width, 'frame')
    if text.surrogate(name):
      reason = f'its id in {path} is not UTF-8 text; rename it'
    if reason and not options.skip_bad:
      raise BadItemError(f'video {name!r}', reason)
    if reason:
      skipped.append((f'video {name!r}', reason))
    else:
      kept.append(name)
  if not kept:
    raise DataError(f'{path} has no usable video; extract features first')
  part = ReleaseSplit('all', path, kept, [])
  moments = stored_moments.read(path, options)
  release = Release(visual, None, {'all': part}, width, 0, skipped, moments)
  source = ReleaseSource(release, part, options)
  return Split(
    name='all',
    video_ids=kept,
    caption_ids=[],
    captions=[],
    caption_video=np.zeros(0, np.int32),
    num_frames=np.array([visual.shape(v)[0] for v in kept], np.int32),
    num_words=np.zeros(0, np.int32),
    durations=_durations(kept, options),
    moments=np.zeros((0, 2)),
    visual_width=width,
    text_width=0,
    source=source,
    options=options,
    frame_edges=source.all_edges(),
  )


def _names(path: pathlib.Path, options: DataOptions) -> list[str]:
  """Returns the ids of all matrices, spelt as in the captions."""
  if path.is_file():
    names = _dataset_names(path)
  else:
    table = path / 'video2frames.txt'
    names = list(read_table(table)) if table.exists() else []
  names = list(text.by_normal(names, str(path)))
  captioned = {
    caption.video
    for file in caption_files(options).values()
    for caption in read_captions(file, skip_bad=True)[0]
  }
  found = set(names)
  return [
    f'{PREFIX}{name}'
    if f'{PREFIX}{name}' in captioned - found and name not in captioned
    else name
    for name in names
  ]


def _dataset_names(path: pathlib.Path) -> list[str]:
  """Returns the names of all datasets of an HDF5 file, even of bad ones."""
  file = Hdf5File(path)
  names = []
  for name in file.names():
    try:
      if file.find(name) is None:
        continue
    except GroupError:
      continue
    except ArrayError:
      # Opening it will raise the same error, with more words.
      pass
    names.append(name)
  file.close()
  return names


def _durations(ids: list[str], options: DataOptions) -> np.ndarray:
  """Returns the durations of annotations and durations.json, (v,) float64
  seconds, nan if unknown."""
  found = Moments(options).join([], ids)[1]
  path = pathlib.Path(options.folder) / DURATIONS
  if not path.exists():
    return found
  try:
    content = rows.given(text.parse_json(text.read(path), str(path)), 'it')
    names = text.by_normal(content, str(path))
    seconds = {name: rows.seconds(content[key]) for name, key in names.items()}
  except rows.RowError as error:
    raise DataError(
      f'{path} is not {{video: seconds}} ({error}); delete it'
    ) from None
  stated = np.array([seconds.get(name, np.nan) for name in ids], np.float64)
  return np.where(np.isnan(found), stated, found)
