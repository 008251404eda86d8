"""The files of TF-PRVR's program: annotations, and its index of moments.

Its features are one HDF5 file of videos and one of sentence vectors, which
`features` reads. An attribute `backbone` at the root may name their encoder.
"""

import pathlib
from typing import Any

import h5py
import numpy as np

from data_pipeline import rows
from data_pipeline.errors import ArrayError, DataError
from data_pipeline.hdf5_claims import HDF5_ERRORS, Stored
from data_pipeline.hdf5_file import Hdf5File
from data_pipeline.limits import Claim
from data_pipeline.rows import RowError
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.training_free.wavelets import filters

# The attribute `format` of its index.
INDEX = 'tf-prvr-v2'
_UNNAMED = 'unspecified'


def attributes(path: pathlib.Path) -> dict[str, str | int | float | bool]:
  """Returns the texts and numbers among the attributes of an HDF5 file; none if
  it cannot be read."""
  found: dict[str, str | int | float | bool] = {}
  try:
    with h5py.File(path, 'r', locking=False) as file:
      for name in ('format', 'complete', 'wavelet', 'beta', 'backbone'):
        value: Any = file.attrs.get(name)
        if isinstance(value, bytes):
          value = value.decode('utf-8', 'replace')
        if isinstance(value, np.generic):
          value = value.item()
        if isinstance(value, str | int | float | bool):
          found[name] = value
  except HDF5_ERRORS:
    # Whoever reads the datasets says what is wrong.
    return {}
  return found


def backbone(path: pathlib.Path) -> str:
  """Returns the encoder that a file of features names; '' if none."""
  named = str(attributes(path).get('backbone', '')) if path.is_file() else ''
  return '' if named == _UNNAMED else named


def is_index(path: pathlib.Path) -> bool:
  """Returns whether an HDF5 file is an index of TF-PRVR's program."""
  return attributes(path).get('format') == INDEX


def videos_of(row: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
  """Returns the query and the right videos of a row of annotations,
  {"query_id": id, "video_ids": [id, ...]}.

  Raises:
    RowError, TextError: If it is not such a row.
  """
  query, videos = row['query_id'], row['video_ids']
  if not isinstance(query, str):
    raise RowError(f'"query_id" is {rows.shown(query)}, not a text')
  named = isinstance(videos, list) and all(isinstance(v, str) for v in videos)
  if not named or not videos:
    raise RowError(
      f'"video_ids" is {rows.shown(videos)}, not a list of one id or more'
    )
  # A video that is named twice counts once.
  found = dict.fromkeys(rows.name(video, 'video') for video in videos)
  return rows.name(query, 'query_id'), tuple(found)


class MomentArrays:
  """The moments in an index, with the methods of `npz.Npz`.

  Attributes:
    ids: Ids of the videos.
    settings: 'wavelet' and 'beta' that they were made with.
  """

  def __init__(self, path: pathlib.Path):
    """Opens an index.

    Raises:
      DataError: If it was not finished, lacks its settings or videos, or was
        made with another wavelet than those that are known here.
    """
    facts = attributes(path)
    if not facts.get('complete'):
      raise DataError(
        f'{path} is an index of TF-PRVR that was not finished; make it again'
      )
    wavelet, beta = facts.get('wavelet'), facts.get('beta')
    if not isinstance(wavelet, str) or not isinstance(beta, int | float):
      raise DataError(
        f'{path} is an index of TF-PRVR without its wavelet and beta; make it '
        'again'
      )
    try:
      # Evaluation would refuse another.
      filters(wavelet)
    except UserError as error:
      raise DataError(
        f'{path} is an index of TF-PRVR that cannot be read: {error}; make it '
        'again, or import the features of the videos'
      ) from None
    self.settings = {'wavelet': wavelet, 'beta': float(beta)}
    self._file = Hdf5File(path)
    self._found: dict[str, Stored] = {}
    try:
      with h5py.File(path, 'r', locking=False) as file:
        group = file.get('videos')
        self.ids = list(group) if isinstance(group, h5py.Group) else []
    except HDF5_ERRORS as error:
      raise DataError(
        f'{path} has no readable group of videos ({error}); make it again'
      ) from None

  def claim(self, name: str) -> Claim:
    """Returns the claim of a video's moments.

    Raises:
      ArrayError: If it has none.
    """
    found = self._file.find(f'videos/{name}/features')
    if found is None:
      raise ArrayError('has no dataset "features"; make the index again')
    self._found[name] = found
    return found.claim

  def read(self, name: str) -> np.ndarray:
    """Returns a video's moments; their claim must have been read before.

    Raises:
      ArrayError: If they are damaged.
    """
    return self._file.read(self._found[name])

  def edges(self, name: str) -> np.ndarray:
    """Returns the borders of a video's moments, (m + 1,) int64 frames.

    Raises:
      ArrayError: If they are missing, or no borders of these moments.
    """
    stored = self._file.find(f'videos/{name}/spans')
    count = self._found[name].claim.shape[0]
    if stored is None or stored.claim.shape != (count, 2):
      raise ArrayError(f'has no dataset "spans" of shape ({count}, 2)')
    spans = self._file.read(stored).astype(np.int64)
    edges = np.append(spans[:, 0], spans[-1, 1])
    if edges[0] != 0 or not (
      (np.diff(edges) > 0).all() and (spans[:-1, 1] == spans[1:, 0]).all()
    ):
      raise ArrayError('has "spans" that do not follow each other from 0 on')
    return edges

  def close(self) -> None:
    """Closes the file."""
    self._file.close()
