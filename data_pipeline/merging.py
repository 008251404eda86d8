"""Clips of merged frames, and the plan to merge them further (MSC).

A video is sampled to 128 frames. Three rounds merge the most similar
neighbouring frames, which leaves 32 clips in order. Training merges the clips
of a homogeneous video further, similar ones at any distance. Which ones depends
on the features alone, so it is planned here (docs/method.md, "Merged clips").
Everything runs in float64. Scores that differ only by rounding are ties, and
the first one wins: short videos repeat frames, and their plan must not depend
on how a machine sums.
"""

import numpy as np

from data_pipeline import pooling

NUM_FRAMES, NUM_CLIPS = 128, 32
# Number of tokens after each round that merges neighbours.
NEIGHBOUR_ROUNDS = (80, 52, 32)
# Number of clips, and of tokens after each further round.
BUDGETS = (32, 20, 12, 8, 5)
_DIGITS = 10
_TINY = 1e-12

# (n, e) tokens, (n,) sizes, (m,) new place of each of the m former tokens
Merged = tuple[np.ndarray, np.ndarray, np.ndarray]


def merge_video(
  frames: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns the clips, the frames and the plan of a video with merged clips.

  Args:
    frames: (n, e) frame vectors of any float type and any n.
    threshold: See `connected_pairs`.

  Returns:
    (32, e) float32 clips and (128, e) float32 frames, both of unit length, and
    the plan, (2, 32) int8: how many of the 128 frames each clip has, and the
    merged clip, counted from 0, that it joins in training.
  """
  sampled = pooling.pool_segments(frames, NUM_FRAMES)
  tokens, sizes = sampled, np.ones(NUM_FRAMES, np.int64)
  for count in NEIGHBOUR_ROUNDS:
    tokens, sizes, _ = merge_neighbours(tokens, sizes, count)
  clips = pooling.normalize_rows(tokens)
  budget = clip_budget(connected_pairs(clips, threshold))
  plan = np.stack([sizes, group_clips(clips, sizes, budget)])
  frames = pooling.normalize_rows(sampled)
  return (
    clips.astype(np.float32),
    frames.astype(np.float32),
    plan.astype(np.int8),
  )


def merge_neighbours(
  tokens: np.ndarray, sizes: np.ndarray, count: int
) -> Merged:
  """Returns `count` tokens: the best of the pairs (0, 1), (2, 3), ... merged.

  A pair's score is its dot product: long vectors are merged first.
  """
  scores = _without_noise(np.sum(tokens[0::2] * tokens[1::2], axis=1))
  order = np.argsort(-scores, kind='stable')
  best = order[: len(tokens) - count]
  return _absorb(tokens, sizes, 2 * best, 2 * best + 1)


def connected_pairs(clips: np.ndarray, threshold: float) -> int:
  """Returns how many ordered pairs of clips are connected.

  Two clips are linked if their cosine is above the threshold, and connected
  if a chain of links leads from one to the other.
  """
  unit = _unit(clips)
  connected = (unit @ unit.T > threshold) | np.eye(len(clips), dtype=bool)
  # Every squaring doubles the length of the chains.
  for _ in range(len(clips).bit_length()):
    connected = connected @ connected
  return int(connected.sum()) - len(clips)


def clip_budget(connected: int) -> int:
  """Returns the number of merged clips of a video: each fifth of all pairs
  that is connected adds a round of merging."""
  rounds = 5 * connected // (NUM_CLIPS * (NUM_CLIPS - 1))
  return BUDGETS[min(rounds, len(BUDGETS) - 1)]


def group_clips(
  clips: np.ndarray, sizes: np.ndarray, budget: int
) -> np.ndarray:
  """Returns the merged clip that each of the (32, e) clips joins.

  Args:
    clips: (32, e) clips of unit length.
    sizes: (32,) frames of each.
    budget: The number of merged clips, one of `BUDGETS`.

  Returns:
    (32,) int64 in 0..budget-1.
  """
  groups = np.arange(len(clips))
  for count in BUDGETS[1:]:
    if len(clips) <= budget:
      break
    clips, sizes, place = merge_alike(clips, sizes, count)
    groups = place[groups]
  return groups


def merge_alike(tokens: np.ndarray, sizes: np.ndarray, count: int) -> Merged:
  """Returns `count` tokens: even ones merged with odd ones by cosine.

  The best pair of free tokens is merged, then the next best. The merged token
  takes the position of the even one.
  """
  unit = _unit(tokens)
  scores = _without_noise(unit[0::2] @ unit[1::2].T)
  even, odd = [], []
  for _ in range(len(tokens) - count):
    # The first of equal scores: the smaller row, then the smaller column.
    row, column = divmod(int(scores.argmax()), scores.shape[1])
    scores[row], scores[:, column] = -np.inf, -np.inf
    even.append(2 * row)
    odd.append(2 * column + 1)
  return _absorb(tokens, sizes, np.array(even), np.array(odd))


def _absorb(
  tokens: np.ndarray, sizes: np.ndarray, into: np.ndarray, gone: np.ndarray
) -> Merged:
  """Merges tokens `gone` into tokens `into`, weighted by size, in order."""
  weight = (sizes[gone] / (sizes[into] + sizes[gone]))[:, None]
  tokens, sizes = tokens.copy(), sizes.copy()
  tokens[into] = (1 - weight) * tokens[into] + weight * tokens[gone]
  sizes[into] += sizes[gone]
  kept = np.ones(len(tokens), bool)
  kept[gone] = False
  place = np.cumsum(kept) - 1
  place[gone] = place[into]
  return tokens[kept], sizes[kept], place


def _unit(tokens: np.ndarray) -> np.ndarray:
  """Returns tokens of length one; zero stays zero."""
  norms = np.linalg.norm(tokens, axis=1, keepdims=True)
  return tokens / np.maximum(norms, _TINY)


def _without_noise(scores: np.ndarray) -> np.ndarray:
  """Returns scores relative to the largest, without their last digits."""
  return np.round(scores / max(np.abs(scores).max(), _TINY), _DIGITS)
