"""The inverted lists of an index: both branches, and whose they are.

Layout of their folder, lists/NAME in an index:
  clip.faiss, frame.faiss   lists of each branch that counts for the score
  clip_owners.npy, ...      video of each representative, a number
  names.json                id of each of these videos; '' for none
"""

import concurrent.futures
import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from dreamprvr_jax.archive.index.array_files import ArrayFile, Rows
from dreamprvr_jax.archive.index.files import DamagedError
from dreamprvr_jax.archive.index.layout import BRANCHES, read_ids
from dreamprvr_jax.archive.index.lists_record import NAMES, ListsRecord
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.lists.branch_lists import (
  PER_CENTRE,
  BranchLists,
  centres_for,
)
from dreamprvr_jax.archive.lists.representatives import representatives
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.host_memory import size_text
from dreamprvr_jax.models.contract import Model
from dreamprvr_jax.progress import bar

# Rows whose representatives are made at a time: they fit in a CPU's caches.
_ROWS = 64
# Representatives that FAISS takes at a time.
_ADDED = 8192
# Rows from which the number of representatives is estimated.
_PILOT = 1024
# Share of the memory for the sample of k-means.
_SAMPLE_SHARE = 0.25


@dataclasses.dataclass
class Lists:
  """The lists of an index.

  Attributes:
    branches: Branch -> its lists; those of weight 0 are missing.
    owners: Branch -> (representatives,) int32, number of the video of each.
    names: Id of each of these videos; '' for one that no longer counts.
    fit: See `ListsRecord`.
  """

  branches: dict[str, BranchLists]
  owners: dict[str, Int[np.ndarray, ' m']]
  names: list[str]
  fit: dict[str, float]

  @classmethod
  def built(
    cls, store: Store, model: Model, memory: float, *, show: bool = False
  ) -> 'Lists':
    """Returns the lists of all videos of an index.

    Centres and codes are made from a sample. Tokens are read part by part.

    Args:
      store: The index, with a video or more.
      model: Says how tokens are compared, and the weights of the branches.
      memory: Bytes that this may take.
      show: Whether progress bars are shown.

    Raises:
      UserError: If FAISS is missing, or the lists do not fit in the memory.
    """
    rows = np.flatnonzero(store.items >= 0)
    rng = np.random.default_rng(0)
    found = cls({}, {}, [], {})
    pilot = _some(rng, rows, _PILOT)
    for branch in _counting(model):
      reader = _Reader(store, model, branch)
      per_row = len(reader.read(pilot)) / len(pilot)
      expected = per_row * len(rows)
      centres = centres_for(int(expected))
      need = centres * PER_CENTRE
      width = store.manifest.width
      _check_memory(expected, width, memory, store.directory)
      most = int(_SAMPLE_SHARE * memory / (4 * width))
      sampled = _some(rng, rows, int(np.ceil(min(need, most) / per_row)))
      vectors = [reader.read(pilot)] if not centres else []
      vectors += [
        reader.read(part)
        for part in bar(
          _batches(sampled),
          f'{branch} sample',
          total=-(-len(sampled) // _ROWS),
          show=show,
        )
      ]
      sample = np.concatenate(vectors)
      found.branches[branch] = BranchLists.trained(sample, centres)
      found.fit[branch] = found.branches[branch].fit(sample)
      found.owners[branch] = np.zeros(0, np.int32)
    found.add(store, model, list(store.rows_of()), show=show)
    return found

  def add(
    self,
    store: Store,
    model: Model,
    ids: Sequence[str],
    *,
    show: bool = False,
  ) -> dict[str, float]:
    """Adds videos of an index; what was known of the same ids no longer counts.

    Args:
      store: The index.
      model: See `built`.
      ids: Ids of videos that it has.
      show: Whether a progress bar is shown.

    Returns:
      The mean product of a new representative with its centre, by branch.
    """
    self.forget(ids)
    rows_of = store.rows_of()
    parts = [rows_of[name] for name in ids]
    rows = np.concatenate([np.zeros(0, np.int64), *map(np.asarray, parts)])
    owners = len(self.names) + np.repeat(
      np.arange(len(ids)), list(map(len, parts))
    )
    self.names += ids
    fits = {}
    total = len(self.branches) * -(-len(rows) // _ROWS)
    with bar([], 'lists', total=total, show=show) as progress:
      for branch, lists in self.branches.items():
        reader, new, fit = _Reader(store, model, branch), [], []
        parts = list(_batches(np.arange(len(rows))))
        read = lambda part, reader=reader: reader.read_with_places(rows[part])
        waiting = []
        for part, (vectors, places) in zip(
          parts, _ahead(read, parts), strict=True
        ):
          waiting.append(vectors)
          new.append(owners[part][places].astype(np.int32))
          is_last = part is parts[-1]
          if is_last or sum(map(len, waiting)) >= _ADDED:
            some = np.concatenate(waiting)
            waiting = []
            lists.add(some)
            if sum(map(len, fit)) < _PILOT:
              fit.append(some)
          progress.update()
        self.owners[branch] = np.concatenate([self.owners[branch], *new])
        fits[branch] = lists.fit(np.concatenate(fit)) if fit else 1.0
    return fits

  def check_memory(self, store: Store, videos: int, memory: float) -> None:
    """Raises UserError unless so many more videos fit."""
    here = sum(map(len, self.branches.values()))
    count = here * (1 + videos / max(len(self.names), 1))
    _check_memory(count / 2, store.manifest.width, memory, store.directory)

  def forget(self, ids: Iterable[str]) -> None:
    """Drops what is known of some ids, if anything."""
    gone = set(ids)
    self.names = ['' if name in gone else name for name in self.names]

  @classmethod
  def read(
    cls, folder: pathlib.Path, record: ListsRecord, width: int
  ) -> 'Lists':
    """Returns lists from their folder, whose checksums were checked.

    Args:
      folder: The folder.
      record: What the manifest says of them.
      width: Numbers of a token.

    Raises:
      DamagedError: If the files do not belong together.
    """
    names = read_ids(folder / NAMES)
    found = cls({}, {}, names, dict(record.fit))
    for branch in BRANCHES:
      path = folder / f'{branch}.faiss'
      if path.name not in record.files:
        continue
      lists = BranchLists.read(path, width)
      rows = Rows(folder / f'{branch}_owners.npy')
      rows.require((len(lists),), np.dtype(np.int32))
      owners = rows.read(0, len(rows))
      if len(owners) and not (0 <= owners.min() <= owners.max() < len(names)):
        raise DamagedError(rows.path, 'names videos that the lists do not have')
      found.branches[branch], found.owners[branch] = lists, owners
    return found

  def write(self, folder: pathlib.Path) -> None:
    """Writes the lists into a new folder, and syncs them to disk."""
    for branch, lists in self.branches.items():
      lists.write(folder / f'{branch}.faiss')
      path = folder / f'{branch}_owners.npy'
      with contextlib.closing(ArrayFile(path, (), np.int32)) as file:
        file.write(self.owners[branch])
        file.finish()
    with (folder / NAMES).open('w') as file:
      json.dump(self.names, file)
      file.flush()
      os.fsync(file.fileno())


class _Reader:
  """Reads rows of a branch as representatives."""

  def __init__(self, store: Store, model: Model, branch: str):
    self._store, self._branch = store, branch
    self._scaled = model.token_score == 'cosine'

  def read(self, rows: Int[np.ndarray, ' b']) -> Float[np.ndarray, 'm d']:
    """Returns the representatives of some rows."""
    return self.read_with_places(rows)[0]

  def read_with_places(
    self, rows: Int[np.ndarray, ' b']
  ) -> tuple[Float[np.ndarray, 'm d'], Int[np.ndarray, ' m']]:
    """Returns the representatives of some rows, and the place of each one's row
    among them."""
    tokens = self._store.tokens(self._branch, rows)
    norms = np.einsum('bsd->bs', np.abs(tokens))
    self._store.check_finite(norms, rows, 'tokens')
    if self._branch == 'clip':
      real = np.ones(tokens.shape[:2], bool)
    else:
      real = self._store.take('frame_mask', rows)
    return representatives(tokens, real, unit=self._scaled)


def _ahead(
  work: Callable[[np.ndarray], Any], parts: Sequence[np.ndarray]
) -> Iterator[Any]:
  """Yields what work makes of each part; the next one is begun before."""
  with concurrent.futures.ThreadPoolExecutor(1) as pool:
    coming = [pool.submit(work, part) for part in parts[:1]]
    for part in parts[1:]:
      done = coming.pop()
      found = done.result()
      coming.append(pool.submit(work, part))
      yield found
    for done in coming:
      yield done.result()


def _counting(model: Model) -> Iterator[str]:
  """Yields the branches that count for the score."""
  weights = model.clip_weight, model.frame_weight
  for branch, weight in zip(BRANCHES, weights, strict=True):
    if weight:
      yield branch


def _some(
  rng: np.random.Generator, rows: Int[np.ndarray, ' r'], count: int
) -> Int[np.ndarray, ' s']:
  """Returns some of the rows, in the order of the file."""
  if count >= len(rows):
    return rows
  return np.sort(rng.choice(rows, count, replace=False))


def _batches(rows: Int[np.ndarray, ' r']) -> Iterator[np.ndarray]:
  for start in range(0, len(rows), _ROWS):
    yield rows[start : start + _ROWS]


def _check_memory(
  count: float, width: int, memory: float, where: pathlib.Path
) -> None:
  """Raises UserError unless lists of so many representatives fit."""
  need = count * BranchLists.bytes_each(width)
  if need > memory / 2:
    raise UserError(
      f'the lists of {where} would take about {size_text(2 * need)}, more '
      f'than --memory ({size_text(memory)}); give more, or search exactly'
    )
