"""Copies of a video: identical files, and the same content encoded again.

Two videos are copies if their files have the same content, or if they last
equally long and their tokens are nearly the same at the same times. "Nearly the
same" is measured in the index's own terms, because encoders differ in how far
apart they place unlike pictures:
- D, the mean squared distance of two videos' unit tokens at the same times, is
  at most 0.1 B, where B is the upper quartile of such distances between
  different videos of the index;
- and it is at most half of V, the smaller of the two videos' own mean squared
  distances between different times: two shots by one camera look alike, but
  differ as much from each other as each does from itself. Where a video hardly
  changes, D has to be at most 0.02 B instead.
`benchmarks/duplicates.py` measures this on copies that were encoded again.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

# Times of a video at which its tokens are compared.
TIMES = 32
# Shares of B and V, see above.
_NEAR, _NEARER, _OF_CHANGE = 0.1, 0.02, 0.5
# Copies may differ in length by this share, and so many seconds: containers
# round, and a converter may lose the last pictures.
_SHARE, _SECONDS = 0.01, 0.5


@dataclasses.dataclass(frozen=True, eq=False)
class Look:
  """What a video looks like over time.

  Attributes:
    tokens: (TIMES, d) float32, its unit tokens at equally spaced times.
    change: V, how much it changes.
    seconds: Its length, NaN if unknown.
    content: Hash of its file, '' if unknown.
  """

  tokens: Float[np.ndarray, 't d']
  change: float
  seconds: float
  content: str

  @classmethod
  def of(
    cls, tokens: Float[np.ndarray, 't d'], seconds: float, content: str = ''
  ) -> 'Look':
    """Returns the look of a video.

    Args:
      tokens: Its unit tokens at the times.
      seconds: Its length.
      content: Hash of its file.
    """
    found = np.asarray(tokens, np.float32)
    # The mean of |a - b|^2 over all pairs is twice the variance.
    return cls(found, 2 * float(found.var(axis=0).sum()), seconds, content)


def distance(one: Look, other: Look) -> float:
  """Returns D, the mean squared distance at the same times."""
  return float(np.square(one.tokens - other.tokens).sum(axis=1).mean())


def typical(looks: Sequence[Look]) -> float:
  """Returns B, the upper quartile of the distances between different videos; 1
  if there are fewer than two."""
  found = [
    distance(one, other) for i, one in enumerate(looks) for other in looks[:i]
  ]
  return float(np.quantile(found, 0.75)) if found else 1.0


def are_copies(
  one: Look, other: Look, scale: float, far: float | None = None
) -> bool:
  """Returns whether two videos are copies; see the module.

  Args:
    one: A video.
    other: Another.
    scale: B.
    far: Their distance, if it is known.
  """
  if one.content and one.content == other.content:
    return True
  a, b = one.seconds, other.seconds
  if math.isnan(a) != math.isnan(b):
    return False
  # Never if both are NaN.
  if abs(a - b) > _SECONDS + _SHARE * max(a, b):
    return False
  if far is None:
    far = distance(one, other)
  changes = min(one.change, other.change)
  return far <= _NEAR * scale and (
    far <= _OF_CHANGE * changes or far <= _NEARER * scale
  )


def _distances(looks: Sequence[Look]) -> Float[np.ndarray, 'n n']:
  """Returns the distances between all videos of a list."""
  flat = np.stack([look.tokens.reshape(-1) for look in looks])
  flat = flat.astype(np.float64)
  squares = np.einsum('nd,nd->n', flat, flat)
  found = squares[:, None] + squares - 2 * flat @ flat.T
  return np.maximum(found, 0) / len(looks[0].tokens)


def folded(
  looks: Sequence[Look], scale: Callable[[], float]
) -> list[list[int]]:
  """Returns the hits of a list as groups of copies.

  Args:
    looks: The looks of the hits, best first.
    scale: Returns B; only called if there is something to compare.

  Returns:
    The places of each group, best first, in the order of their first hits.
  """
  groups: list[list[int]] = []
  far = _distances(looks).tolist() if len(looks) > 1 else []
  for i, own in enumerate(looks):
    for group in groups:
      # The first hit of a group stands for it.
      first = group[0]
      if are_copies(looks[first], own, scale(), far[first][i]):
        group.append(i)
        break
    else:
      groups.append([i])
  return groups
