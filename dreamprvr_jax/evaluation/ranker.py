"""Ranking encoded queries in an encoded corpus, in blocks."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Bool, Float, Int

from dreamprvr_jax.devices.pace import Pace
from dreamprvr_jax.evaluation.corpus import EncodedCorpus, Layout, Part
from dreamprvr_jax.evaluation.ranking import (
  BLOCKS,
  BRANCHES,
  ROWS,
  compile_ranking,
  compile_text_ranking,
)
from dreamprvr_jax.models.contract import Model
from dreamprvr_jax.numerics import l2_normalize
from dreamprvr_jax.progress import Watch

T = TypeVar('T')


@dataclasses.dataclass
class Tally:
  """Counts so far for n = k q queries in k blocks; numpy.

  Attributes:
    target: The right video, -1 for padding.
    own: Its score by branch, -inf until its part was ranked.
    ahead: Videos counted so far that are ahead of it, by branch.
    scores: Fused scores; None if they are not kept.
  """

  target: Int[np.ndarray, 'k q']
  own: Float[np.ndarray, 'k 3 q']
  ahead: Int[np.ndarray, 'k 3 q']
  scores: Float[np.ndarray, 'n v'] | None = None


class Ranker:
  """Ranks blocks of queries; its programs are compiled once.

  All blocks are ranked in one call if the pace allows it and the whole corpus
  is in memory.
  """

  def __init__(self, model: Model, mesh: Mesh, name: str, pace: Pace):
    self._name, self._work = name, pace.work
    self._program = functools.cache(
      lambda block, keep: compile_ranking(
        model, mesh, block=block, keep_scores=keep
      )
    )
    self._text_program = compile_text_ranking(mesh)

    def normalized(queries):
      x = l2_normalize(model.pooled(queries))
      return x, x.reshape(-1, x.shape[-1])

    self._normalized = jax.jit(
      normalized,
      out_shardings=(
        NamedSharding(mesh, BLOCKS),
        NamedSharding(mesh, ROWS),
      ),
    )

  def videos(
    self,
    variables: Any,
    queries: Float[Array, 'k q d'],
    target: Int[np.ndarray, 'k q'],
    corpus: EncodedCorpus,
    watch: Watch,
    *,
    keep_scores: bool = False,
  ) -> Tally:
    """Returns the tally of the queries over the whole corpus.

    The videos ahead can be counted once the right video's score is known. In
    the first pass over the parts, a part counts for the queries whose right
    videos are in it or before it; in the second pass, for the others.

    Args:
      variables: The model's variables, replicated over the mesh.
      queries: Split over the data axis.
      target: The right video of each query, -1 for padding.
      corpus: The encoded corpus.
      watch: Progress bars, and whether to stop.
      keep_scores: Whether the fused scores are kept.
    """
    layout = corpus.layout
    shape = (len(target), len(BRANCHES), target.shape[1])
    tally = Tally(
      target, np.full(shape, -np.inf, np.float32), np.zeros(shape, np.int32)
    )
    if keep_scores:
      tally.scores = np.empty((target.size, layout.num_videos), np.float32)

    def visit(
      parts: Iterable[Part], counted: Callable[[Part], Any], keep: bool
    ):
      # A function, so that no part of one pass outlives it into the next.
      for part in parts:
        self._visit(
          variables, queries, tally, layout, part, counted(part), keep, watch
        )

    visit(corpus, lambda part: target < part.end, keep_scores)
    ends = (layout.bounds(part)[1] for part in range(layout.parts))
    waiting = sum(end <= target.max() for end in ends)
    again = itertools.islice(corpus, waiting)
    visit(again, lambda part: target >= part.end, False)
    return tally

  def _visit(
    self,
    variables: Any,
    queries: Float[Array, 'k q d'],
    tally: Tally,
    layout: Layout,
    part: Part,
    counted: Bool[np.ndarray, 'k q'],
    keep: bool,
    watch: Watch,
  ) -> None:
    """Adds the counts of one part of the corpus to the tally."""
    count, size = counted.shape
    tokens = sum(x.size for x in jax.tree.leaves(part.videos) if x.ndim == 3)
    group = 1
    if layout.parts == 1 and not keep:
      group = self._group(count, size * tokens)
    starts = [
      start
      for start in range(0, count, group)
      if keep or counted[start : start + group].any()
    ]
    program = self._program(layout.block, keep)

    def call(start: int):
      inside = slice(start, start + group)
      return inside, program(
        variables,
        part.videos,
        part.items,
        queries,
        np.int32(start),
        tally.target[inside],
        tally.own[inside],
        counted[inside],
      )

    real = part.items >= 0
    for inside, found in _one_behind(
      call, watch(starts, f'ranking ({self._name})')
    ):
      tally.own[inside] = found[0]
      tally.ahead[inside] += np.asarray(found[1])
      if keep and tally.scores is not None:
        rows = slice(inside.start * size, inside.stop * size)
        tally.scores[rows, part.items[real]] = np.asarray(found[2])[0][:, real]

  def text(
    self,
    queries: Float[Array, 'k q d'],
    groups: Int[np.ndarray, 'k q'],
    watch: Watch,
  ) -> Int[np.ndarray, 'k q']:
    """Returns each query's rank of the best other query of its group.

    Queries are ranked by cosine among all other queries. The rank is 0 if the
    group has no other query.

    Args:
      queries: Split over the data axis.
      groups: Group of each query, -1 for padding.
      watch: Progress bars, and whether to stop.
    """
    count, size = groups.shape
    group = self._group(count, size * queries.size)
    rows = np.arange(groups.size, dtype=np.int32).reshape(groups.shape)
    normalized, columns = self._normalized(queries)
    ranks = np.zeros_like(groups)

    def call(start: int):
      inside = slice(start, start + group)
      return inside, self._text_program(
        normalized,
        np.int32(start),
        rows[inside],
        groups[inside],
        columns,
        rows.ravel(),
        groups.ravel(),
      )

    starts = range(0, count, group)
    what = f'ranking text ({self._name})'
    for inside, found in _one_behind(call, watch(starts, what)):
      ranks[inside] = found
    return ranks

  def _group(self, count: int, work: float) -> int:
    """Returns how many of `count` blocks one call ranks: all, or one.

    Args:
      count: Blocks.
      work: Multiplications in a block.
    """
    return count if count * work <= self._work else 1


def _one_behind(call: Callable[[int], T], starts: Iterable[int]) -> Iterator[T]:
  """Yields the results of the calls, each after the next call was made.

  The devices work while the host reads.
  """
  before: T | None = None
  for start in starts:
    result = call(start)
    if before is not None:
      yield before
    before = result
  if before is not None:
    yield before
