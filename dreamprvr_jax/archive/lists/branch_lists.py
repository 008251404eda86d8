"""Inverted lists of FAISS over the representatives of one branch.

A representative is in the list of the nearest centre. There it is stored as
product codes of four bits, of two numbers each, which FAISS scans in registers
of the CPU, and once more with eight bits a number, to rank the best again:
docs/benchmarks.md compares this with other codes. Few representatives are not
worth the training, and are stored as they are.
"""

import os
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from dreamprvr_jax.archive.index.files import DamagedError
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.numerics import NORM_FLOOR

# Numbers that a product code of four bits stands for, at least.
_LENGTH = 2
# With fewer representatives, they are compared one by one.
_FEW = 4096
# Representatives that k-means sees for each centre.
PER_CENTRE = 50
_ITERATIONS = 8
# Times as many representatives as wanted are ranked again.
_AGAIN = 4


def import_faiss() -> Any:
  """Returns the module faiss.

  Raises:
    UserError: If it is not installed.
  """
  # Threads that wait for work would else take time from NumPy's and XLA's.
  os.environ.setdefault('OMP_WAIT_POLICY', 'passive')
  try:
    import faiss  # pyright: ignore[reportMissingImports]
  except ModuleNotFoundError:
    raise UserError(
      'a first pass by lists needs FAISS; install it with pip install '
      "'dreamprvr_jax[lists]', or search with --first_pass=none"
    ) from None
  return faiss


def centres_for(count: int) -> int:
  """Returns how many lists so many representatives have: about twice the square
  root, as a power of two; 0 for none."""
  if count < _FEW:
    return 0
  return 1 << round(np.log2(2 * np.sqrt(count)))


class BranchLists:
  """The lists of one branch.

  Attributes:
    centres: Number of lists; 0 if representatives are compared one by one.
  """

  def __init__(self, index: Any):
    """Use `trained` or `read`."""
    self._faiss = import_faiss()
    self._index = index
    self.centres = 0
    if isinstance(index, self._faiss.IndexRefine):
      self.centres = self._faiss.extract_index_ivf(index).nlist

  @classmethod
  def trained(
    cls, sample: Float[np.ndarray, 'n d'], centres: int
  ) -> 'BranchLists':
    """Returns empty lists whose centres and codes fit a sample.

    Args:
      sample: Representatives, float32.
      centres: Number of lists, see `centres_for`.
    """
    faiss = import_faiss()
    width = sample.shape[1]
    metric = faiss.METRIC_INNER_PRODUCT
    if not centres:
      return cls(faiss.index_factory(width, 'Flat', metric))
    pieces = max(
      count
      for count in range(1, width + 1)
      if width % count == 0 and width // count >= min(_LENGTH, width)
    )
    index = faiss.index_factory(
      width, f'IVF{centres},PQ{pieces}x4fs,Refine(SQ8)', metric
    )
    lists = faiss.extract_index_ivf(index)
    lists.cp.niter = _ITERATIONS
    # The sample has the size that is wanted.
    lists.cp.min_points_per_centroid = 1
    lists.cp.max_points_per_centroid = len(sample)
    index.train(np.ascontiguousarray(sample))
    return cls(index)

  @classmethod
  def read(cls, path: pathlib.Path, width: int) -> 'BranchLists':
    """Returns lists from a file that `write` wrote. Its checksum has to be
    checked before: FAISS trusts what it reads.

    Args:
      path: The file.
      width: Numbers of a token.

    Raises:
      DamagedError: If FAISS cannot read it, or its vectors have another width.
    """
    try:
      index = import_faiss().read_index(str(path))
    except RuntimeError as error:
      # What FAISS raises, for a file that is gone, too.
      raise DamagedError(path, 'cannot be read by FAISS') from error
    if index.d != width:
      raise DamagedError(
        path, f'has vectors of width {index.d} where {width} was expected'
      )
    return cls(index)

  def write(self, path: pathlib.Path) -> None:
    """Writes the lists to a new file, and syncs it to disk."""
    self._faiss.write_index(self._index, str(path))
    with path.open('rb') as file:
      os.fsync(file.fileno())

  def __len__(self) -> int:
    """The number of representatives."""
    return self._index.ntotal

  def add(self, vectors: Float[np.ndarray, 'm d']) -> None:
    """Adds representatives; they are numbered in the order of adding."""
    self._index.add(np.ascontiguousarray(vectors, np.float32))

  @staticmethod
  def bytes_each(width: int) -> int:
    """Returns the bytes that a representative takes: codes of four and of
    eight bits, and FAISS's number and ours."""
    return width // (2 * _LENGTH) + width + 8 + 4

  def fit(self, vectors: Float[np.ndarray, 'm d']) -> float:
    """Returns the mean product of representatives with their centres, both at
    unit length: how well the centres fit; 1 if there are none."""
    if not (self.centres and len(vectors)):
      return 1.0
    faiss = self._faiss
    quantizer = faiss.extract_index_ivf(self._index).quantizer
    found = np.array(vectors, np.float32)
    _, places = quantizer.search(found, 1)
    centres = quantizer.reconstruct_batch(places[:, 0])
    for x in (found, centres):
      x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), NORM_FLOOR)
    return float(np.einsum('md,md->m', found, centres).mean())

  def search(
    self, queries: Float[np.ndarray, 'n d'], count: int, probes: int
  ) -> tuple[Float[np.ndarray, 'n k'], Int[np.ndarray, 'n k']]:
    """Returns the products and numbers of the representatives with the largest
    products, by falling product; -1 where a query found fewer.

    Args:
      queries: The queries, float32.
      count: Representatives of a query, k.
      probes: Lists that are looked into.
    """
    faiss, count = self._faiss, min(count, len(self))
    if not count:
      empty = np.zeros((len(queries), 0))
      return empty.astype(np.float32), empty.astype(np.int64)
    options: dict[str, Any] = {}
    if self.centres:
      options['params'] = faiss.IndexRefineSearchParameters(
        k_factor=min(_AGAIN, len(self) / count),
        base_index_params=faiss.SearchParametersIVF(
          nprobe=min(probes, self.centres)
        ),
      )
    return self._index.search(np.ascontiguousarray(queries), count, **options)
