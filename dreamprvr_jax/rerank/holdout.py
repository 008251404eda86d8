"""Training videos that are held out, for choices instead of training."""

import dataclasses
import zlib

import numpy as np
from jaxtyping import Int

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.rerank.candidates import (
  Candidates,
  best_candidates,
  training_lists,
)
from dreamprvr_jax.rerank.features import RerankFeatures


@dataclasses.dataclass(frozen=True)
class HeldOut:
  """A retrieval task on the videos that are held out."""

  features: RerankFeatures
  candidates: Candidates


def divide(
  features: RerankFeatures,
  right: Int[np.ndarray, ' n'],
  share: float,
  seed: int,
  count: int,
) -> tuple[RerankFeatures, Int[np.ndarray, 'm k'], HeldOut]:
  """Returns features and lists to train on, and the held-out task.

  Held-out videos are not candidates in training: a network would learn that
  they are always wrong.

  Args:
    features: Those of the training split, numpy.
    right: The right video of each query.
    share: Share of the videos that is held out.
    seed: Seed of the run.
    count: Candidates of a list.

  Raises:
    UserError: If there are too few videos.
  """
  total = len(features.tokens)
  number = max(round(share * total), 2)
  if total - number < 2:
    raise UserError(
      f'the train split has {total} videos: too few to hold {number} out and '
      'train on lists of the others'
    )
  random = np.random.default_rng([seed, zlib.crc32(b'held out')])
  order = random.permutation(total)
  parts = []
  for videos in (np.sort(order[number:]), np.sort(order[:number])):
    queries = np.flatnonzero(np.isin(right, videos))
    own = np.searchsorted(videos, right[queries])
    parts.append((features.of_videos(videos, queries), own))
  (train, own), (held, held_own) = parts
  return (
    train,
    training_lists(train.scores, own, count),
    HeldOut(held, best_candidates(held.scores, held_own, count)),
  )
