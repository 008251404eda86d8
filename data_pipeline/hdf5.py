"""Feature matrices in an HDF5 file, one root-level dataset per id."""

import pathlib
from collections.abc import Iterable

import numpy as np
import tqdm

from data_pipeline.errors import ArrayError
from data_pipeline.hdf5_claims import Stored
from data_pipeline.hdf5_file import Hdf5File
from data_pipeline.limits import Limits, disk_size, memory_problem
from dreamprvr_jax import text
from dreamprvr_jax.host_memory import available_memory


class Hdf5Store:
  """Random access to the (rows, width) matrices of one file.

  The place of every matrix is looked up once; `Hdf5File` reads them.
  """

  def __init__(
    self,
    path: pathlib.Path,
    ids: Iterable[str],
    optional_prefix: str = '',
    limits: Limits | None = None,
    *,
    vectors: bool = False,
  ):
    """Looks up `ids`; those without a dataset are simply absent.

    Args:
      path: The file.
      ids: Ids of the matrices; a name in the file may be another normal form
        of its id.
      optional_prefix: A prefix of ids that names in the file may lack.
      limits: How far the matrices may unpack; the defaults if not given.
      vectors: Whether datasets are vectors (width,), read as matrices of one
        row; matrices of one row are fine, too.

    Raises:
      DataError: If the file is missing, truncated or not HDF5, or if its
        matrices together unpack too far.
      TextError: If two names in it are the same id in NFC.
    """
    self.path = pathlib.Path(path)
    self._vectors = vectors
    self._file = Hdf5File(self.path)
    self._problems: dict[str, str] = {}
    self._entries: dict[str, Stored] = {}
    try:
      self._locate(ids, optional_prefix)
    finally:
      # It may be replaced while nothing is read.
      self._file.close()
    claims = {name: stored.claim for name, stored in self._entries.items()}
    excess = (limits or Limits()).excess(
      claims, disk_size(self.path), str(self.path)
    )
    for name, problem in excess.items():
      del self._entries[name]
      self._problems[name] = f'{problem} (in {self.path})'

  def _locate(self, ids: Iterable[str], optional_prefix: str) -> None:
    available = available_memory()
    names = tqdm.tqdm(
      ids, desc=f'opening {self.path.name}', disable=None, delay=2
    )
    spellings: dict[str, str] | None = None
    for name in names:
      forms = dict.fromkeys((name, name.removeprefix(optional_prefix)))
      try:
        found = self._first(forms)
        if spellings is None and not (found and name.isascii()):
          # Names are listed only if one may have another normal form.
          spellings = text.by_normal(self._file.names(), str(self.path))
        if found is None and spellings:
          found = self._first(spellings.get(form, form) for form in forms)
      except ArrayError as error:
        self._problems[name] = f'{error} (in {self.path})'
        continue
      if found is not None:
        self._keep(name, found, available)

  def _first(self, names: Iterable[str]) -> Stored | None:
    """Returns the first dataset with one of these names, if any."""
    return next(filter(None, map(self._file.find, names)), None)

  def _keep(self, name: str, found: Stored, available: int | None) -> None:
    claim = found.claim
    problem = memory_problem(claim, available)
    if self._vectors:
      fits = len(claim.shape) == 1 or claim.shape[:-1] == (1,)
    else:
      fits = len(claim.shape) == 2
    if not fits or claim.dtype.kind != 'f':
      expected = 'vector (width,)' if self._vectors else 'matrix (rows, width)'
      self._problems[name] = (
        f'is {claim.dtype} of shape {claim.shape} in {self.path} where a float '
        f'{expected} was expected'
      )
    elif problem:
      self._problems[name] = f'{problem} (in {self.path})'
    else:
      self._entries[name] = found

  def __contains__(self, name: str) -> bool:
    return name in self._entries or name in self._problems

  def problem(self, name: str) -> str | None:
    """Returns what is wrong with the matrix of an id in the file, if
    anything."""
    return self._problems.get(name)

  def shape(self, name: str) -> tuple[int, int]:
    """Returns (rows, width)."""
    shape = self._entries[name].claim.shape
    return (1, shape[0]) if len(shape) == 1 else (shape[0], shape[1])

  def read(self, name: str, max_rows: int | None = None) -> np.ndarray:
    """Returns the first rows of a matrix in its stored precision.

    Raises:
      ArrayError: If its values are damaged or do not fit into memory.
      DataError: If the file ends before the matrix does.
    """
    try:
      return np.atleast_2d(self._file.read(self._entries[name], max_rows))
    except ArrayError as error:
      raise ArrayError(f'{error} (in {self.path})') from None
