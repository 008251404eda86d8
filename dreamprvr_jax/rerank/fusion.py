"""Fusion with the retriever's scores, new ranks, and corrections of scores."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.metrics import retrieval
from dreamprvr_jax.rerank.candidates import Candidates

TEMPERATURES = (1.0, 10.0, 100.0)
WEIGHTS = (0.05, 0.1, 0.2, 0.5, 1.0)
CORRECTIONS = ('', 'qb_norm', 'dual_softmax')
# As QB-Norm and dual softmax are used with cosine scores.
_SHARPNESS = 20.0


@dataclasses.dataclass(frozen=True)
class Fusion:
  """S' = S + weight softmax(temperature x) over a list.

  Source: docs/method.md, "Re-ranking".

  The added share is positive, so a list stays above all other videos.
  """

  temperature: float = 1.0
  weight: float = 1.0

  def __call__(
    self, scores: Float[np.ndarray, 'n k'], found: Float[np.ndarray, 'n k']
  ) -> Float[np.ndarray, 'n k']:
    """Returns the fused scores of the candidates."""
    logits = self.temperature * found.astype(np.float64)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    share = powers / powers.sum(axis=1, keepdims=True)
    return scores + self.weight * share


def ranks_after(
  candidates: Candidates, fused: Float[np.ndarray, 'n k']
) -> Int[np.ndarray, ' n']:
  """Returns the ranks of the right videos once their lists are reordered."""
  is_right = candidates.videos == candidates.right[:, None]
  own = np.max(np.where(is_right, fused, -np.inf), axis=1, keepdims=True)
  lower = candidates.videos < candidates.right[:, None]
  ahead = np.sum((fused > own) | ((fused == own) & lower), axis=1)
  return np.where(is_right.any(axis=1), 1 + ahead, candidates.ranks)


def tune(
  candidates: Candidates, found: Float[np.ndarray, 'n k']
) -> tuple[Fusion, dict[str, float]]:
  """Returns the fusion with the best SumR, and its metrics.

  At equal SumR, the lower temperature and then the lower weight wins.
  """
  best: tuple[Fusion, dict[str, float]] | None = None
  for temperature, weight in itertools.product(TEMPERATURES, WEIGHTS):
    fusion = Fusion(temperature, weight)
    fused = fusion(candidates.scores, found)
    metrics = retrieval.summary(ranks_after(candidates, fused))
    if best is None or metrics['SumR'] > best[1]['SumR']:
      best = fusion, metrics
  assert best is not None
  return best


def scatter(
  scores: Float[np.ndarray, 'n v'],
  candidates: Candidates,
  fused: Float[np.ndarray, 'n k'],
) -> Float[np.ndarray, 'n v']:
  """Returns the score matrix with the candidates' scores replaced."""
  out = np.array(scores, np.float32)
  np.put_along_axis(out, candidates.videos, fused.astype(np.float32), axis=1)
  return out


def corrected(
  scores: Float[np.ndarray, 'n v'],
  kind: str,
  bank: Float[np.ndarray, 'm v'] | None = None,
) -> Float[np.ndarray, 'n v']:
  """Returns scores corrected by other queries' scores; for comparison only.

  'dual_softmax' (Cheng et al. 2021): each score times the softmax over all
  queries of its video's column. 'qb_norm' (Bogolin et al. 2022, dynamic
  inverted softmax): the scores of videos are lowered by how much the queries
  of a bank match them, for queries whose best video is also the best of a
  query of the bank. It is computed in the logarithm, which keeps the order and
  the scale.

  Raises:
    UserError: If `kind` is unknown, or 'qb_norm' without a bank.
  """
  if kind not in CORRECTIONS:
    raise UserError(
      f'config.rerank.correction is {kind!r}; choose from {CORRECTIONS}'
    )
  if not kind:
    return scores
  if kind == 'dual_softmax':
    logits = _SHARPNESS * scores
    powers = np.exp(logits - logits.max(axis=0, keepdims=True))
    return scores * powers / powers.sum(axis=0, keepdims=True) * len(scores)
  if bank is None:
    raise UserError('qb_norm needs the scores of a bank of queries')
  logits = _SHARPNESS * bank
  most = logits.max(axis=0)
  liked = (most + np.log(np.exp(logits - most).sum(axis=0))) / _SHARPNESS
  active = np.unique(bank.argmax(axis=1))
  is_active = np.isin(scores.argmax(axis=1), active)
  return np.where(is_active[:, None], scores - liked, scores)


def spread(ranks: Sequence[Int[np.ndarray, ' n']]) -> dict[str, list[float]]:
  """Returns {metric: one value per noise seed}."""
  found = [retrieval.summary(r) for r in ranks]
  return {name: [m[name] for m in found] for name in found[0]}
