"""Answers to batches of queries, in few shapes, so that no query waits for a
compilation."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from dreamprvr_jax.archive.search.index import Hit, Index
from dreamprvr_jax.errors import UserError

# Batches are padded to one of these sizes.
SIZES = (1, 8, 32)
# Videos found for each query of a batch; an answer has as many of them as its
# query asks for.
DEPTHS = (10, 100)


class BadQuery(UserError):
  """A query that the text encoder cannot encode."""


@dataclasses.dataclass(frozen=True)
class Query:
  """A query.

  Attributes:
    text: A sentence.
    k: Videos to find, at most `DEPTHS[-1]`.
    moments: Moments of each video, at most.
  """

  text: str
  k: int = 10
  moments: int = 3


class Answers:
  """Answers queries; only one thread may use it at a time."""

  def __init__(
    self, index: Index, words: Callable[[str], Float[np.ndarray, 'l e']]
  ):
    """Compiles nothing yet.

    Args:
      index: The index to search.
      words: Makes the word features of a text that the index's retriever was
        trained on.

    Raises:
      UserError: If the index is empty.
    """
    if not index.manifest.num_videos:
      raise UserError(
        f'the index {index.store.directory} has no videos; add some with '
        '--mode=index --append'
      )
    self._index, self._words = index, words

  def warm_up(self) -> Iterator[str]:
    """Compiles and loads all that answers need; yields each step."""
    found = self._index.retriever.words(self._words('a first query'))
    yield 'the text encoder'
    for size in SIZES:
      words, mask = (np.repeat(x, size, axis=0) for x in found)
      queries = self._index.searcher.encode(words, mask)
      for depth in DEPTHS:
        scores, rows = self._index.searcher.search(queries, depth)
        self._index.hits(queries[:1], scores[:1], rows[:1])
        yield f'{size} queries, {depth} hits'

  def __call__(self, batch: Sequence[Query]) -> list[list[Hit] | Exception]:
    """Returns the hits of each query, or the error of that query."""
    encoded = [self._encoded(query.text) for query in batch]
    answers: list[Any] = list(encoded)
    good = [i for i, x in enumerate(encoded) if not isinstance(x, Exception)]
    if not good:
      return answers
    size = next(s for s in SIZES if s >= len(good))
    filled = [encoded[i] for i in good] + [encoded[good[0]]] * (
      size - len(good)
    )
    words, mask = (np.concatenate(x) for x in zip(*filled, strict=True))
    queries = self._index.searcher.encode(words, mask)
    most = max(batch[i].k for i in good)
    depth = next(d for d in DEPTHS if d >= most)
    scores, rows = self._index.searcher.search(queries, depth)
    wish = lambda place: (batch[good[place]].k, batch[good[place]].moments)
    places = sorted(range(len(good)), key=wish)
    for (k, moments), group in itertools.groupby(places, key=wish):
      here = list(group)
      hits = self._index.hits(
        queries[here], scores[here, :k], rows[here, :k], moments
      )
      for place, row in zip(here, hits, strict=True):
        answers[good[place]] = row
    return answers

  def _encoded(self, text: str) -> Any:
    """Returns word features and mask, (1, l, e) and (1, l), or the error."""
    try:
      return self._index.retriever.words(self._words(text))
    except UserError as error:
      return BadQuery(str(error))
    except Exception as error:  # Raised where this query waits, not for others.
      return error
