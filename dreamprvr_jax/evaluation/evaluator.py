"""Encode a corpus, rank it for every query, report."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from dreamprvr_jax import parallel
from dreamprvr_jax.evaluation.encoder import Encoder, Stopped
from dreamprvr_jax.evaluation.task import RetrievalTask
from dreamprvr_jax.metrics import retrieval
from dreamprvr_jax.metrics.ranks import rank_of_best_sibling, rank_of_target
from dreamprvr_jax.numerics import l2_normalize
from dreamprvr_jax.progress import bar
from dreamprvr_jax.types import VideoEncoding

BRANCHES = ('clip', 'frame', 'fused')


@struct.dataclass
class Ranking:
  """Ranks of the right videos; numpy."""

  by_branch: Any  # {branch: (n,) int}
  text_to_text: Any  # (n,) int, best other caption of the video; 0 if none
  scores: Any = None  # (n, v) float32, fused; only on request


class Evaluator:
  """Text-to-video retrieval on one task.

  Scores are built block by block of queries and of videos, so that memory is
  bounded by blocks, not by queries x videos x tokens.
  """

  def __init__(
    self,
    model: nn.Module,
    mesh: Mesh,
    task: RetrievalTask,
    *,
    query_block: int = 512,
    video_block: int = 64,
  ):
    self._mesh = mesh
    self._task = task
    self._encoder = Encoder(model, mesh)
    devices = mesh.shape[parallel.DATA_AXIS]
    # Never more rows than there are: a small split compiles small blocks.
    queries = min(query_block, len(task.caption_ids))
    self._query_block = -(-queries // devices) * devices
    self._video_block = min(video_block, len(task.video_ids))
    whole, rows = parallel.replicated(mesh), parallel.by_row(mesh)
    # Encodings arrive whole on each device; each then ranks its own queries.
    share = lambda x: jax.lax.with_sharding_constraint(x, rows)
    self._rank = jax.jit(
      lambda variables, blocks, queries, *rest: _rank_block(
        model, variables, blocks, share(queries), *rest
      ),
      out_shardings=whole,
    )
    self._text_rank = jax.jit(
      lambda everything, queries, *rest: _text_rank_block(
        everything, share(queries), *rest
      ),
      out_shardings=whole,
    )

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
      should_stop: Asked between two batches.

    Raises:
      Stopped: If `should_stop` said so.
    """
    queries, videos = self.encode(variables, show=show, should_stop=should_stop)
    ranking = self.rank(
      variables,
      queries,
      videos,
      keep_scores=keep_scores,
      show=show,
      should_stop=should_stop,
    )
    return self.metrics(ranking), ranking

  @property
  def task(self) -> RetrievalTask:
    """What is evaluated."""
    return self._task

  def encode(
    self,
    variables: Any,
    *,
    show: bool = True,
    should_stop: Callable[[], bool] = lambda: False,
  ) -> tuple[Float[Array, 'n d'], VideoEncoding]:
    """Returns the queries and the corpus, padding rows at their ends."""
    options = {'show': show, 'should_stop': should_stop}
    videos = self._encoder.videos(variables, self._task, **options)
    return self._encoder.queries(variables, self._task, **options), videos

  def scores(
    self,
    variables: Any,
    queries: Float[Array, 'q d'],
    videos: VideoEncoding,
  ) -> Float[np.ndarray, 'q v']:
    """Returns the fused scores of a few queries against the corpus."""
    count = len(self._task.video_ids)
    devices = self._mesh.shape[parallel.DATA_AXIS]
    rows = -(-len(queries) // devices) * devices
    _, fused = self._rank(
      variables,
      _video_blocks(videos, count, self._video_block),
      _resized(queries, len(queries), rows),
      np.zeros(rows, np.int32),
      np.int32(count),
    )
    return np.asarray(fused)[: len(queries), :count]

  def rank(
    self,
    variables: Any,
    queries: Float[Array, 'n d'],
    videos: VideoEncoding,
    *,
    keep_scores: bool = False,
    show: bool = True,
    should_stop: Callable[[], bool] = lambda: False,
  ) -> Ranking:
    """Returns the ranking of encoded queries against an encoded corpus."""
    num_videos, num_queries = (
      len(self._task.video_ids),
      len(self._task.caption_ids),
    )
    block = self._query_block
    padded = -(-num_queries // block) * block
    blocks = _video_blocks(videos, num_videos, self._video_block)
    rows = _resized(queries, num_queries, padded)
    target = np.zeros(padded, np.int32)
    target[:num_queries] = self._task.caption_video
    valid = jnp.arange(padded) < num_queries
    ranks: dict[str, list[np.ndarray]] = {name: [] for name in BRANCHES}
    text, scores = [], []
    starts = range(0, padded, block)
    for start in bar(starts, f'ranking ({self._task.name})', show=show):
      if should_stop():
        raise Stopped('ranking')
      inside = slice(start, start + block)
      found, fused = self._rank(
        variables, blocks, rows[inside], target[inside], np.int32(num_videos)
      )
      text.append(
        np.asarray(
          self._text_rank(
            rows,
            rows[inside],
            np.arange(start, start + block, dtype=np.int32),
            target,
            valid,
          )
        )
      )
      for name in BRANCHES:
        ranks[name].append(np.asarray(found[name]))
      if keep_scores:
        scores.append(np.asarray(fused)[:, :num_videos])
    join = lambda parts: np.concatenate(parts)[:num_queries]
    return Ranking(
      by_branch={name: join(parts) for name, parts in ranks.items()},
      text_to_text=join(text),
      scores=join(scores) if keep_scores else None,
    )

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


def _resized(
  x: Float[Array, 'n ...'], rows: int, padded: int
) -> Float[Array, 'm ...']:
  """Returns the first `rows` rows, padded with zeros to `padded`."""
  x = x[:rows]
  return jnp.pad(x, ((0, padded - len(x)), *((0, 0),) * (x.ndim - 1)))


def _video_blocks(
  videos: VideoEncoding, count: int, block: int
) -> VideoEncoding:
  """Returns the encoding with leading axes (blocks, videos in a block)."""
  padded = -(-count // block) * block
  return jax.tree.map(
    lambda x: _resized(x, count, padded).reshape(-1, block, *x.shape[1:]),
    videos,
  )


def _rank_block(
  model: nn.Module,
  variables: Any,
  blocks: VideoEncoding,
  queries: Float[Array, 'q d'],
  target: Int[Array, ' q'],
  num_videos: Int[Array, ''],
) -> tuple[dict[str, Int[Array, ' q']], Float[Array, 'q v']]:
  """Returns the ranks by branch and the fused scores of a block of queries."""

  def score(block):
    found: Any = model.apply(variables, queries, block, method='score')
    return {'clip': found.clip, 'frame': found.frame}

  scores = jax.lax.map(score, blocks)  # (blocks, q, videos in a block)
  scores = {
    name: jnp.moveaxis(s, 0, 1).reshape(len(queries), -1)
    for name, s in scores.items()
  }
  scores['fused'] = (
    model.clip_weight * scores['clip'] + model.frame_weight * scores['frame']
  )
  valid = jnp.arange(scores['fused'].shape[1]) < num_videos
  ranks = {name: rank_of_target(s, target, valid) for name, s in scores.items()}
  return ranks, scores['fused']


def _text_rank_block(
  everything: Float[Array, 'n d'],
  queries: Float[Array, 'q d'],
  row: Int[Array, ' q'],
  groups: Int[Array, ' n'],
  valid: Any,
) -> Int[Array, ' q']:
  """Returns the best sibling's rank of a block of queries."""
  scores = l2_normalize(queries) @ l2_normalize(everything).T
  return rank_of_best_sibling(scores, row, groups, valid)
