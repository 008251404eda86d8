"""What a search finds, and the choice of it from all that was scored."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from dreamprvr_jax.archive.search.calibration import STRENGTHS, strength_of
from dreamprvr_jax.archive.search.catalogue import NO_FILE, File
from dreamprvr_jax.archive.search.duplicates import folded
from dreamprvr_jax.archive.search.looks import Looks
from dreamprvr_jax.archive.search.moments import Moment
from dreamprvr_jax.archive.videos.files import shown

# Takes a number of hits; returns their scores and rows, (n, m) each, or fewer
# if there are no more.
Search = Callable[[int], tuple[np.ndarray, np.ndarray]]
# How many times k hits are looked through for k that are no copies.
_DEEPEST = 16


@dataclasses.dataclass(frozen=True, eq=False)
class Hit:
  """A video that was found.

  Attributes:
    video_id: Its id.
    score: Its score.
    duration: Its seconds, NaN if unknown.
    moments: The best moments, by falling score; see `moments`.
    timeline: (g,) a value for each of g equal stretches; see `moments`.
    file: Its file.
    others: Ids of its copies that were found, too, by falling score.
    strength: How well it fits: 'strong', 'weak' or 'none'; see `calibration`.
      '' if that is not asked for.
  """

  video_id: str
  score: float
  duration: float
  moments: list[Moment]
  timeline: Float[np.ndarray, ' g']
  file: File = NO_FILE
  others: tuple[str, ...] = ()
  strength: str = ''

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
      'file': {**dataclasses.asdict(self.file), 'path': shown(self.file.path)},
      'others': list(self.others),
      'strength': self.strength,
    }


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
  """All that was scored for some queries, before it is cut to k hits.

  Attributes:
    scores: (n, m) by falling score.
    rows: (n, m) the rows of the index.
    groups: For each query the places of its hits, copies together, best first.
  """

  scores: Float[np.ndarray, 'n m']
  rows: Int[np.ndarray, 'n m']
  groups: list[list[list[int]]]


def found_alone(search: Search, k: int) -> Found:
  """Returns k hits of each query, copies as hits of their own."""
  scores, rows = search(k)
  return Found(scores, rows, [[[i] for i in range(rows.shape[1])]] * len(rows))


def found_folded(
  search: Search, k: int, count: int, ids: Sequence[str], looks: Looks
) -> Found:
  """Returns at least k groups of copies for each query, if there are so many.

  Args:
    search: Finds hits.
    k: Groups that are wanted.
    count: Videos that can be found.
    ids: The id of each row's video.
    looks: What the videos look like.
  """
  # Powers of two, so that few programs are compiled.
  depth = 1 << (2 * k - 1).bit_length() if k > 0 else k
  while True:
    scores, rows = search(depth)
    groups = [
      folded(looks([ids[int(i)] for i in row]), lambda: looks.scale)
      for row in rows
    ]
    least = min(map(len, groups), default=k)
    if least >= k or depth >= min(count, _DEEPEST * k):
      return Found(scores, rows, groups)
    depth *= 2


@dataclasses.dataclass(frozen=True)
class Chosen:
  """A hit of a list, before its moments are looked for.

  Attributes:
    place: Where it is among all that was found.
    others: Where its copies are.
    strength: See `Hit`.
  """

  place: int
  others: tuple[int, ...]
  strength: str


def chosen(
  found: Found, k: int, levels: Float[np.ndarray, 'n 2'] | None, cutoff: str
) -> list[list[Chosen]]:
  """Returns up to k hits of each query that are not weaker than `cutoff`.

  Args:
    found: All that was found.
    k: Hits of a query, at most.
    levels: See `Calibration.levels`; None if strengths are not known.
    cutoff: One of `STRENGTHS`.
  """
  lists = []
  for i, groups in enumerate(found.groups):
    lists.append([])
    for group in groups[:k]:
      strength = ''
      if levels is not None:
        strength = strength_of(float(found.scores[i, group[0]]), levels[i])
        if STRENGTHS.index(strength) < STRENGTHS.index(cutoff):
          # Scores fall, so all that follow are weaker, too.
          break
      lists[-1].append(Chosen(group[0], tuple(group[1:]), strength))
  return lists
