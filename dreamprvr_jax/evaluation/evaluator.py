"""Text-to-video retrieval: encodes, ranks every query, and computes metrics."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from flax import struct
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from dreamprvr_jax.devices import meshes
from dreamprvr_jax.devices.meshes import DATA_AXIS
from dreamprvr_jax.devices.pace import Pace
from dreamprvr_jax.evaluation.corpus import EncodedCorpus
from dreamprvr_jax.evaluation.encoder import Encoder
from dreamprvr_jax.evaluation.ranker import Ranker
from dreamprvr_jax.evaluation.ranking import BRANCHES
from dreamprvr_jax.evaluation.task import RetrievalTask
from dreamprvr_jax.metrics import retrieval
from dreamprvr_jax.models.contract import Model
from dreamprvr_jax.progress import Watch


@struct.dataclass
class Ranking:
  """Ranks of the right videos; numpy."""

  by_branch: Any  # {branch: (n,) int}
  text_to_text: Any  # (n,) int, best other caption of the video; 0 if none
  scores: Any = None  # (n, v) float32, fused; only on request


class Evaluator:
  """Text-to-video retrieval on one task.

  The queries are split over the mesh's data axis, the encoded corpus over its
  corpus axis. Scores are computed for one block of queries at a time, products
  with tokens for one block of queries and one block of videos.
  """

  def __init__(
    self,
    model: Model,
    mesh: Mesh,
    task: RetrievalTask,
    *,
    corpus_share: float = 0.5,
    pace: Pace | None = None,
  ):
    """Compiles nothing yet.

    Args:
      model: The model.
      mesh: The device mesh.
      task: What is evaluated.
      corpus_share: Share of the free device memory for the encoded corpus; a
        corpus that needs more is ranked in parts.
      pace: How much a device does at a time; None to choose by device.
    """
    pace = pace or Pace.of(mesh)
    self._model, self._task = model, task
    self._mesh, self._pace = mesh, pace
    self._encoder = Encoder(model, mesh, task, corpus_share, pace)
    self._ranker = Ranker(model, mesh, task.name, pace)
    whole = meshes.replicated(mesh)
    self._pick = jax.jit(
      lambda queries, rows: queries.reshape(-1, queries.shape[-1])[rows],
      out_shardings=whole,
    )
    self._split = jax.jit(
      lambda queries: queries,
      in_shardings=whole,
      out_shardings=NamedSharding(mesh, PartitionSpec(None, DATA_AXIS)),
    )

  def pooled(
    self, queries: Float[np.ndarray, '... q']
  ) -> Float[np.ndarray, '... d']:
    """Returns the one vector of each query that stands for all of it."""
    return np.asarray(self._model.pooled(queries))

  @property
  def task(self) -> RetrievalTask:
    """What is evaluated."""
    return self._task

  def run(
    self,
    variables: Any,
    *,
    keep_scores: bool = False,
    show: bool = True,
    should_stop: Callable[[], bool] = lambda: False,
  ) -> tuple[dict[str, Any], Ranking]:
    """Returns (metrics, ranking) of the task.

    Args:
      variables: The model's variables, replicated over the mesh.
      keep_scores: Whether the fused score matrix comes back, too.
      show: Whether progress bars are shown.
      should_stop: Called between two calls of a program; True stops.

    Raises:
      Stopped: If `should_stop` returned True.
    """
    watch = Watch(show, should_stop)
    queries, corpus = self.encode(variables, watch)
    count = len(self._task.caption_ids)
    target = np.full(queries.shape[:2], -1, np.int32)
    target.ravel()[:count] = self._task.caption_video
    tally = self._ranker.videos(
      variables, queries, target, corpus, watch, keep_scores=keep_scores
    )
    ranks = 1 + np.moveaxis(tally.ahead, 1, 0).reshape(len(BRANCHES), -1)
    text = self._ranker.text(queries, target, watch)
    ranking = Ranking(
      by_branch=dict(zip(BRANCHES, ranks[:, :count], strict=True)),
      text_to_text=text.ravel()[:count],
      scores=None if tally.scores is None else tally.scores[:count],
    )
    return self.metrics(ranking), ranking

  def encode(
    self, variables: Any, watch: Watch
  ) -> tuple[Float[Array, 'k q d'], EncodedCorpus]:
    """Returns the queries in blocks, and the corpus; see `Encoder`."""
    return (
      self._encoder.queries(variables, watch),
      self._encoder.corpus(variables, watch),
    )

  def pick(
    self, queries: Float[Array, 'k q d'], chosen: Int[np.ndarray, ' m']
  ) -> Float[np.ndarray, 'm d']:
    """Returns some of the queries."""
    return np.asarray(self._pick(queries, chosen))

  def scores(
    self,
    variables: Any,
    queries: Float[np.ndarray, 'm d'],
    corpus: EncodedCorpus,
  ) -> Float[np.ndarray, 'm v']:
    """Returns the fused scores of a few queries against the corpus."""
    count, size = len(queries), self._task.query_batch
    padded = np.pad(queries, ((0, -count % size), (0, 0)))
    blocks = self._split(padded.reshape(-1, size, queries.shape[1]))
    tally = self._ranker.videos(
      variables,
      blocks,
      np.full(blocks.shape[:2], -1, np.int32),
      corpus,
      Watch(show=False),
      keep_scores=True,
    )
    assert tally.scores is not None
    return tally.scores[:count]

  def matrices(
    self, variables: Any, scorers: Sequence[Any], watch: Watch
  ) -> Iterator[Float[np.ndarray, 'n v']]:
    """Yields the fused scores of all queries: the model's own, then those of
    each scorer on the same encodings.

    Args:
      variables: The model's variables, replicated over the mesh.
      scorers: Modules without parameters that have `score` and both weights,
        see `models.contract.Model`.
      watch: Progress bars, and whether to stop.
    """
    queries, corpus = self.encode(variables, watch)
    target = np.full(queries.shape[:2], -1, np.int32)
    given = [(self._ranker, variables)]
    given += [
      (Ranker(scorer, self._mesh, self._task.name, self._pace), {})
      for scorer in scorers
    ]
    for ranker, values in given:
      tally = ranker.videos(
        values, queries, target, corpus, watch, keep_scores=True
      )
      assert tally.scores is not None
      yield tally.scores[: len(self._task.caption_ids)]

  def metrics(self, ranking: Ranking) -> dict[str, Any]:
    """Returns the metrics of a ranking, ready for JSON."""
    fused = ranking.by_branch['fused']
    text = ranking.text_to_text
    return {
      'split': self._task.name,
      'num_queries': len(self._task.caption_ids),
      'num_videos': len(self._task.video_ids),
      **retrieval.summary(fused),
      'chance': retrieval.chance(len(self._task.video_ids)),
      'by_branch': {
        name: retrieval.summary(ranks)
        for name, ranks in ranking.by_branch.items()
      },
      'by_moment_ratio': retrieval.by_moment_ratio(
        fused, self._task.moment_ratios
      ),
      # For captions whose video has another caption: the best rank of one
      # among all other captions, by cosine of the pooled queries.
      'text_to_text': {
        'queries': int((text > 0).sum()),
        **(retrieval.summary(text[text > 0]) if (text > 0).any() else {}),
      },
    }
