"""An index that is open for search."""

import dataclasses
import os
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from dreamprvr_jax.archive.index.manifest import Manifest
from dreamprvr_jax.archive.index.store import Store, open_index
from dreamprvr_jax.archive.search.moments import Moment, find_moments
from dreamprvr_jax.archive.search.searcher import Candidates, Searcher
from dreamprvr_jax.archive.search.timelines import (
  pooled,
  video_timelines,
)
from dreamprvr_jax.devices import meshes
from dreamprvr_jax.trained.retriever import Retriever

# Values of a hit's timeline, at most.
_SHOWN = 512


@dataclasses.dataclass(frozen=True, eq=False)
class Hit:
  """A video that was found.

  Attributes:
    video_id: Its id.
    score: Its score.
    duration: Its seconds, NaN if unknown.
    moments: The best moments, by falling score; see `moments`.
    timeline: (g,) a value for each of g equal stretches; see `moments`.
  """

  video_id: str
  score: float
  duration: float
  moments: list[Moment]
  timeline: Float[np.ndarray, ' g']

  def to_json(self, rank: int) -> dict[str, Any]:
    """Returns the hit as JSON values; unknown seconds are NaN.

    Args:
      rank: The place of the hit in its list, from 1.
    """
    return {
      'rank': rank,
      'video': self.video_id,
      'score': self.score,
      'duration': self.duration,
      'moments': [dataclasses.asdict(moment) for moment in self.moments],
      'timeline': [round(float(x), 5) for x in self.timeline],
    }


class Index:
  """Use: `Index.open(DIR).search(word_features, word_mask, k=10)`.

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

  def search(
    self,
    words: Any,
    word_mask: Any = None,
    k: int = 10,
    *,
    first_pass: str | Candidates | None = None,
    rescore: int = 4,
    moments: int = 3,
  ) -> list[list[Hit]]:
    """Returns the hits of each query, by falling score.

    Args:
      words: Word features (n, words, e), or (words, e) of one query.
      word_mask: Which words are real; all if None.
      k: Hits of a query; all videos if there are fewer.
      first_pass: See `Searcher.search`; None to score all exactly.
      rescore: See `first_pass`.
      moments: Moments of a hit, at most.

    Raises:
      UserError: If the features or options do not fit.
    """
    queries = self._searcher.encode(*self._retriever.words(words, word_mask))
    return self.search_encoded(
      queries, k, first_pass=first_pass, rescore=rescore, moments=moments
    )

  def search_encoded(
    self,
    queries: Float[np.ndarray, 'n q'],
    k: int = 10,
    *,
    first_pass: str | Candidates | None = None,
    rescore: int = 4,
    moments: int = 3,
  ) -> list[list[Hit]]:
    """Returns the hits of encoded queries; see `search`.

    Args:
      queries: What `searcher.encode` returns.
      k: Hits of a query.
      first_pass: See `Searcher.search`.
      rescore: See `first_pass`.
      moments: Moments of a hit, at most.
    """
    scores, rows = self._searcher.search(
      queries, k, first_pass=first_pass, rescore=rescore
    )
    return self.hits(queries, scores, rows, moments)

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
    rows_of = self._store.rows_of()
    # A video's tokens are read once for all queries that found it.
    for group in np.unique(groups):
      of_query, place = np.nonzero(groups == group)
      first = rows[of_query[0], place[0]]
      lines = video_timelines(
        self._store,
        model,
        queries[of_query],
        rows_of[self._store.ids[first]],
      )
      for i, j, line in zip(of_query, place, lines.values, strict=True):
        found[int(i), int(j)] = line, lines.seconds
    return found
