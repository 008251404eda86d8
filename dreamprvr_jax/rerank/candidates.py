"""Lists of candidates from a retriever's scores."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from dreamprvr_jax.metrics.ranks import ranks_of

# Rows of scores on the device at a time.
_BLOCK = 1024


@dataclasses.dataclass(frozen=True)
class Candidates:
  """The best k of v videos for each of n queries; numpy.

  Attributes:
    videos: (n, k) best first, at equal scores the lower index first.
    scores: (n, k) scores of the retriever.
    right: (n,) the right video.
    ranks: (n,) the right video's rank by the retriever, from 1.
  """

  videos: Int[np.ndarray, 'n k']
  scores: Float[np.ndarray, 'n k']
  right: Int[np.ndarray, ' n']
  ranks: Int[np.ndarray, ' n']

  @property
  def contain_right(self) -> np.ndarray:
    """Whether each list has the right video, (n,) bool."""
    return self.ranks <= self.videos.shape[1]


def best_candidates(
  scores: Float[np.ndarray, 'n v'], right: Int[np.ndarray, ' n'], count: int
) -> Candidates:
  """Returns the best `count` videos, or all if there are fewer."""
  videos, best = _top(scores, count)
  return Candidates(videos, best, right, ranks_of(scores, right))


def training_lists(
  scores: Float[np.ndarray, 'n v'], right: Int[np.ndarray, ' n'], count: int
) -> Int[np.ndarray, 'n k']:
  """Returns lists for training, int32.

  The right video comes first, then the wrong ones by falling score. Candidates
  are videos, so no list has one twice, or the right one of another sentence
  about the same video.
  """
  wrong = np.array(scores, np.float32)
  wrong[np.arange(len(right)), right] = -np.inf
  videos, _ = _top(wrong, min(count, scores.shape[1]) - 1)
  return np.concatenate([right[:, None].astype(np.int32), videos], axis=1)


def _top(
  scores: Float[np.ndarray, 'n v'], count: int
) -> tuple[np.ndarray, np.ndarray]:
  count = min(count, scores.shape[1])
  found = [
    _top_of_block(jnp.asarray(scores[i : i + _BLOCK], jnp.float32), count)
    for i in range(0, len(scores), _BLOCK)
  ]
  best, videos = (np.concatenate(x) for x in zip(*found, strict=True))
  return videos, best


@functools.partial(jax.jit, static_argnums=1)
def _top_of_block(scores, count):
  return jax.lax.top_k(scores, count)
