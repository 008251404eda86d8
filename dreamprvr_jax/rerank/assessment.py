"""Metrics of a retriever before and after re-ranking, and latency."""

import statistics
import time
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from dreamprvr_jax.metrics import retrieval, seeds
from dreamprvr_jax.rerank import fusion
from dreamprvr_jax.rerank.candidates import Candidates, best_candidates
from dreamprvr_jax.rerank.features import RerankFeatures
from dreamprvr_jax.rerank.reranker import Reranker
from dreamprvr_jax.rerank.trained import TrainedReranker
from dreamprvr_jax.types import parameter_count

# Queries at a time, and repetitions, of the latency.
_BATCHES = (1, 64)
_TIMES = 7


def assess(
  trained: TrainedReranker,
  mesh: Mesh,
  features: RerankFeatures,
  scores: Float[np.ndarray, 'n v'],
  right: Int[np.ndarray, ' n'],
  *,
  seed: int,
  noise_seeds: int,
) -> tuple[dict[str, Any], Float[np.ndarray, 'n v']]:
  """Returns (metrics, fused scores) of a split; the metrics ready for JSON.

  Args:
    trained: The re-ranker.
    mesh: The device mesh.
    features: Encodings of the split.
    scores: The retriever's scores, from which the candidates are taken.
    right: The right video of each query.
    seed: Seed of the noise that sampling starts from.
    noise_seeds: Draws of noise, for the spread of the metrics.
  """
  diffusion = trained.model.diffusion
  candidates = best_candidates(scores, right, trained.num_candidates)
  ask = Reranker(trained.model, mesh, features, seed=seed)

  def ranked(**options: Any) -> tuple[np.ndarray, np.ndarray]:
    found = ask(
      trained.variables,
      candidates.videos,
      num_steps=trained.sampling_steps,
      **options,
    )
    fused = trained.fusion(candidates.scores, found)
    return fused, fusion.ranks_after(candidates, fused)

  runs = [ranked(noise=i) for i in range(noise_seeds if diffusion else 1)]
  metrics = {
    'directory': trained.directory,
    'network': trained.settings['network'],
    'parameters': parameter_count(trained.variables),
    'diffusion': diffusion,
    'candidates': candidates.videos.shape[1],
    'temperature': trained.fusion.temperature,
    'weight': trained.fusion.weight,
    'sampling_steps': trained.sampling_steps if diffusion else 1,
    'before': retrieval.summary(candidates.ranks),
    'after': retrieval.summary(runs[0][1]),
    'by_noise': {
      name: seeds.spread(values)
      for name, values in fusion.spread([r for _, r in runs]).items()
    },
    'ceiling': retrieval.summary(
      np.where(candidates.contain_right, 1, candidates.ranks)
    ),
  }
  if diffusion:
    metrics['single_pass'] = retrieval.summary(ranked(how='single')[1])
  metrics['milliseconds'] = _latency(trained, mesh, features, candidates)
  return metrics, fusion.scatter(scores, candidates, runs[0][0])


def _latency(
  trained: TrainedReranker,
  mesh: Mesh,
  features: RerankFeatures,
  candidates: Candidates,
) -> dict[str, float]:
  """Returns the median milliseconds per query, by queries at a time."""
  found = {}
  for batch in _BATCHES:
    ask = Reranker(trained.model, mesh, features, seed=0, chunk=batch)
    lists = candidates.videos[: min(batch, len(candidates.videos))]
    times = []
    for _ in range(_TIMES + 1):
      began = time.perf_counter()
      ask(trained.variables, lists, num_steps=trained.sampling_steps)
      times.append(time.perf_counter() - began)
    # The first one compiles.
    found[str(batch)] = 1000 * statistics.median(times[1:]) / len(lists)
  return found
