"""An index that is open for search."""

import dataclasses
import functools
import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from dreamprvr_jax.archive.encoders import Encoder
from dreamprvr_jax.archive.index.manifest import Manifest
from dreamprvr_jax.archive.index.store import Store, open_index
from dreamprvr_jax.archive.search.calibration import (
  STRENGTHS,
  Calibration,
  sample_of,
)
from dreamprvr_jax.archive.search.catalogue import Catalogue
from dreamprvr_jax.archive.search.filters import Filters
from dreamprvr_jax.archive.search.hits import (
  Chosen,
  Found,
  Hit,
  chosen,
  found_alone,
  found_folded,
)
from dreamprvr_jax.archive.search.looks import Looks
from dreamprvr_jax.archive.search.moments import find_moments
from dreamprvr_jax.archive.search.picked import Picked
from dreamprvr_jax.archive.search.searcher import Candidates, Searcher
from dreamprvr_jax.archive.search.text_queries import TextQueries, open_encoder
from dreamprvr_jax.archive.search.timelines import (
  pooled,
  video_timelines,
)
from dreamprvr_jax.devices import meshes
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.trained.retriever import Retriever

if TYPE_CHECKING:
  from dreamprvr_jax.archive.search.picture_queries import PictureQueries

__all__ = ['Hit', 'Index']

# Values of a hit's timeline, at most.
_SHOWN = 512

_log = logging.getLogger(__name__)


class Index:
  """Use: `Index.open(DIR).search('a dog runs', k=10)`.

  Later changes of the index on disk are not seen.
  """

  def __init__(self, retriever: Retriever, store: Store, mesh: Mesh, **options):
    """Use `open`, which takes the same options."""
    self._retriever, self._store = retriever, store
    self._searcher = Searcher(retriever, store, mesh, **options)

  @classmethod
  def open(
    cls,
    directory: os.PathLike[str] | str,
    retriever: Retriever | str = '',
    *,
    mesh: Mesh | None = None,
    **options: Any,
  ) -> 'Index':
    """Opens an index; no token is read yet.

    Args:
      directory: The folder of the index.
      retriever: The retriever that encoded the videos, or the folder of its
        checkpoint; '' for the checkpoint that the index names.
      mesh: Devices that share the videos; all if None.
      **options: Options of `Searcher`, such as `memory_share`.

    Raises:
      UserError: If there is no index, it is damaged, or it was made with
        another retriever.
    """
    store, retriever = open_index(directory, retriever)
    return cls(retriever, store, mesh or meshes.make_mesh(), **options)

  @property
  def manifest(self) -> Manifest:
    """The contents of the index."""
    return self._store.manifest

  @property
  def store(self) -> Store:
    """The rows of the index."""
    return self._store

  @property
  def retriever(self) -> Retriever:
    """The retriever that encoded the videos."""
    return self._retriever

  @property
  def searcher(self) -> Searcher:
    """Finds rows, without moments."""
    return self._searcher

  @functools.cached_property
  def text_queries(self) -> TextQueries:
    """Encodes sentences; its encoder is loaded when it is first needed.

    Raises:
      UserError: If the encoder of the retriever is not known, or does not know
        which words fit a picture.
      DataError: If it cannot be loaded.
    """
    return TextQueries(self._retriever, self._encoder)

  @functools.cached_property
  def picture_queries(self) -> 'PictureQueries':
    """Encodes pictures and clips, likewise.

    Raises:
      UserError: If the encoder is not known, or the retriever cannot search by
        pictures.
      DataError: If it cannot be loaded.
    """
    # Sentences do without it.
    from dreamprvr_jax.archive.search.picture_queries import PictureQueries

    return PictureQueries(self._retriever, self._encoder)

  @functools.cached_property
  def catalogue(self) -> Catalogue:
    """What is known of the files of the videos."""
    return Catalogue(self._store)

  @functools.cached_property
  def _encoder(self) -> Encoder:
    return open_encoder(self._retriever)

  @functools.cached_property
  def _looks(self) -> Looks:
    return Looks(self._store, self.catalogue)

  @functools.cached_property
  def _calibration(self) -> Calibration:
    rows = sample_of(np.flatnonzero(self._store.items >= 0))
    return Calibration(self._searcher.scorer(rows), len(rows))

  def search(
    self, words: Any, word_mask: Any = None, k: int = 10, **options: Any
  ) -> list[list[Hit]]:
    """Returns the hits of each query, by falling score.

    Args:
      words: A sentence, or a list of them; or word features (n, words, e), or
        (words, e) of one query.
      word_mask: Which words are real; all if None.
      k: Hits of a query; all videos if there are fewer.
      **options: See `search_encoded`.

    Raises:
      UserError: If a sentence, the features or options do not fit, or there is
        no query.
    """
    if isinstance(words, str):
      words = [words]
    if _is_sentences(words):
      found = [self._read(sentence) for sentence in words]
      words, word_mask = map(np.concatenate, zip(*found, strict=True))
    queries = self._searcher.encode(*self._retriever.words(words, word_mask))
    return self.search_encoded(queries, k, **options)

  def _read(self, sentence: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the features and the mask of a sentence; logs what is cut."""
    query = self.text_queries.read(sentence)
    if query.notice:
      _log.warning('%s', query.notice)
    return self._retriever.words(query.features)

  def search_encoded(
    self,
    queries: Float[np.ndarray, 'n q'],
    k: int = 10,
    *,
    first_pass: str | Candidates | None = 'auto',
    rescore: int = 4,
    moments: int = 3,
    filters: Filters | None = None,
    duplicates: bool = False,
    cutoff: str = '',
  ) -> list[list[Hit]]:
    """Returns the hits of encoded queries, by falling score.

    Args:
      queries: What `searcher.encode` or `picture_queries` returns.
      k: Hits of a query; all videos if there are fewer.
      first_pass: See `Searcher.search`; None to score all exactly.
      rescore: See `first_pass`.
      moments: Moments of a hit, at most.
      filters: Conditions on the videos; they do not make k hits fewer.
      duplicates: Whether copies of a video are hits of their own. If not, they
        are `others` of the first one; see `duplicates`.
      cutoff: 'weak' or 'strong' to leave out hits that are weaker; 'none' to
        leave out none, but to say how strong they are; '' for neither.

    Raises:
      UserError: If the options do not fit.
    """
    if cutoff not in ('', *STRENGTHS):
      raise UserError(
        f'cutoff is {cutoff!r}; choose {", ".join(STRENGTHS)}, or nothing'
      )
    allowed, count = None, self.manifest.num_videos
    if filters:
      met = filters.met(self.catalogue)
      allowed, count = self.catalogue.rows(met), int(met.sum())
    search = lambda depth: self._searcher.search(
      queries, depth, first_pass=first_pass, rescore=rescore, allowed=allowed
    )
    if duplicates:
      found = found_alone(search, k)
    else:
      found = found_folded(search, k, count, self._store.ids, self._looks)
    levels = None
    if cutoff and found.rows.shape[1]:
      searched = self._store.items >= 0
      searched = searched if allowed is None else searched & allowed
      copies = [len(groups[0]) - 1 for groups in found.groups]
      levels = self._calibration.levels(queries, int(searched.sum()), copies)
    lists = chosen(found, k, levels, cutoff or STRENGTHS[0])
    return self._with_moments(queries, found, lists, moments)

  def _with_moments(
    self,
    queries: Float[np.ndarray, 'n q'],
    found: Found,
    lists: list[list[Chosen]],
    moments: int,
  ) -> list[list[Hit]]:
    """Returns the chosen hits of each query."""
    most = max(map(len, lists), default=0)
    if not most:
      return [[] for _ in lists]
    # Shorter lists are filled up, so that tokens are read once for all.
    places = np.zeros((len(lists), most), np.int64)
    for i, row in enumerate(lists):
      places[i, : len(row)] = [one.place for one in row]
    take = lambda x: np.take_along_axis(x, places, axis=1)
    hits = self.hits(queries, take(found.scores), take(found.rows), moments)
    name = lambda i, place: self._store.ids[found.rows[i, place]]
    return [
      [
        dataclasses.replace(
          hit,
          others=tuple(name(i, place) for place in one.others),
          strength=one.strength,
        )
        for one, hit in zip(row, hits[i], strict=False)
      ]
      for i, row in enumerate(lists)
    ]

  def hits(
    self,
    queries: Float[np.ndarray, 'n q'],
    scores: Float[np.ndarray, 'n k'],
    rows: Int[np.ndarray, 'n k'],
    moments: int = 3,
  ) -> list[list[Hit]]:
    """Returns hits for rows that a searcher found.

    Args:
      queries: What `searcher.encode` returns.
      scores: Scores of each query's videos.
      rows: Their rows.
      moments: Moments of a hit, at most.
    """
    lines = self._timelines(queries, rows)
    return [
      [
        self._hit(row, float(scores[i, j]), *lines[i, j], moments)
        for j, row in enumerate(rows[i])
      ]
      for i in range(len(rows))
    ]

  def _hit(
    self,
    row: int,
    score: float,
    line: Float[np.ndarray, ' g'],
    seconds: float,
    moments: int,
  ) -> Hit:
    return Hit(
      self._store.ids[row],
      score,
      seconds,
      find_moments(line, seconds, score, moments),
      pooled(line, _SHOWN),
      self.catalogue.file(self._store.ids[row]),
    )

  def _timelines(
    self, queries: Float[np.ndarray, 'n q'], rows: Int[np.ndarray, 'n k']
  ) -> dict[tuple[int, int], tuple[Float[np.ndarray, ' g'], float]]:
    """Returns the timeline of query i in its video j, and the video's seconds,
    by (i, j)."""
    model = self._retriever.model
    queries = np.asarray(model.pooled(queries))
    found = {}
    groups = self._store.groups[rows]
    # A video's tokens are read once for all queries that found it.
    different, first = np.unique(groups, return_index=True)
    videos = [
      self._store.rows_of_video(self._store.ids[row])
      for row in rows.reshape(-1)[first]
    ]
    picked = Picked(self._store, np.concatenate([[], *videos]).astype(int))
    for group, own in zip(different, videos, strict=True):
      of_query, place = np.nonzero(groups == group)
      lines = video_timelines(picked, model, queries[of_query], own)
      for i, j, line in zip(of_query, place, lines.values, strict=True):
        found[int(i), int(j)] = line, lines.seconds
    return found


def _is_sentences(words: Any) -> bool:
  """Returns whether queries are sentences, one or more, and not features."""
  return (
    isinstance(words, Sequence)
    and len(words) > 0
    and all(isinstance(one, str) for one in words)
  )
