"""Moments that a corpus has instead of frames, from an index of TF-PRVR."""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from data_pipeline import rows
from data_pipeline.errors import DataError
from data_pipeline.options import DataOptions
from dreamprvr_jax import folders, text

# Beside the file of the vectors.
FILE = 'moments.json'


@dataclasses.dataclass(frozen=True)
class StoredMoments:
  """Borders of the moments of all videos.

  Attributes:
    path: Their file.
    edges: By video, (m + 1,) int64 rising frame numbers from 0 on.
  """

  path: pathlib.Path
  edges: Mapping[str, np.ndarray]

  def of(self, video: str, count: int) -> np.ndarray:
    """Returns the borders of a video with `count` moments.

    Raises:
      DataError: If the file has others.
    """
    found = self.edges.get(video)
    if found is None or len(found) != count + 1:
      raise DataError(
        f'{self.path} has no borders of the {count} moments of {video!r}; '
        'import them again'
      )
    return found


def write(
  folder: pathlib.Path,
  settings: Mapping[str, Any],
  edges: Iterable[tuple[str, np.ndarray]],
) -> None:
  """Writes the borders of moments beside their vectors.

  Args:
    folder: Folder of the vectors.
    settings: `wavelet` and `beta` that they were made with.
    edges: (video, borders).
  """
  borders = {name: found.tolist() for name, found in edges}
  folders.write_json(folder / FILE, {**settings, 'edges': borders})


def read(visual: pathlib.Path, options: DataOptions) -> StoredMoments | None:
  """Returns the moments that a corpus has instead of frames, None if it has
  frames.

  Args:
    visual: What `release.find_visual` returns.
    options: The options of the corpus.

  Raises:
    DataError: If the file is damaged, or the moments are not those that the
      options ask for.
  """
  path = (visual.parent if visual.is_file() else visual) / FILE
  if not path.is_file():
    return None
  found = _parsed(path)
  made = {key: found[key] for key in ('wavelet', 'beta')}
  if options.retriever != 'tf_prvr':
    raise DataError(
      f'{path.parent} has moments of tf_prvr, not frames; only '
      '--config=configs/NAME.py:tf_prvr reads them: import the features of the '
      'videos for other models'
    )
  asked = {'wavelet': options.wavelet, 'beta': options.beta}
  if made != asked:
    raise DataError(
      f'{path.parent} has moments made with {json.dumps(made)}, but '
      f'{json.dumps(asked)} is configured; set config.model.wavelet and '
      'config.model.beta to the former, or import the features of the videos'
    )
  return StoredMoments(path, found['edges'])


def _parsed(path: pathlib.Path) -> dict[str, Any]:
  """Returns the content of the file, its borders as arrays."""
  try:
    content = rows.given(text.parse_json(text.read(path), str(path)), 'it')
    edges = rows.given(content.get('edges'), '"edges"')
    return {
      'wavelet': str(content.get('wavelet')),
      'beta': rows.number(content.get('beta'), 'beta'),
      'edges': {name: _borders(name, found) for name, found in edges.items()},
    }
  except rows.RowError as error:
    raise DataError(
      f'{path} has no borders of moments ({error}); import them again'
    ) from None


def _borders(name: str, value: Any) -> np.ndarray:
  found = rows.items(value, name)
  if not all(type(frame) is int and 0 <= frame < 2**31 for frame in found):
    raise rows.RowError(f'"{name}" has no frame numbers')
  edges = np.array(found, np.int64)
  if len(edges) < 2 or edges[0] != 0 or not (np.diff(edges) > 0).all():
    raise rows.RowError(f'"{name}" does not rise from 0')
  return edges
