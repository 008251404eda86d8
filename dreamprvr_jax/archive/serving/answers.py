"""Answers to batches of queries, in few shapes, so that no query waits for a
compilation."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from dreamprvr_jax.archive.search.calibration import STRENGTHS
from dreamprvr_jax.archive.search.filters import Filters
from dreamprvr_jax.archive.search.index import Hit, Index
from dreamprvr_jax.archive.search.text_queries import TextQuery
from dreamprvr_jax.errors import UserError

# Batches are padded to one of these sizes.
SIZES = (1, 8, 32)
# Videos found for each query; an answer has as many of them as its query asks
# for.
DEPTHS = (10, 40, 100)
# (height, width) of the picture that compiles the encoder of pictures.
_SHAPE = (90, 160)


class BadQuery(UserError):
  """A query that cannot be encoded."""


@dataclasses.dataclass(frozen=True, eq=False)
class Query:
  """A query: a sentence or a picture.

  Attributes:
    text: A sentence.
    picture: A picture, instead of a sentence.
    k: Videos to find, at most `DEPTHS[-1]`.
    moments: Moments of each video, at most.
    filters: Conditions on the videos.
    duplicates: Whether copies of a video are hits of their own.
  """

  text: str = ''
  picture: UInt8[np.ndarray, 'h w 3'] | None = None
  k: int = 10
  moments: int = 3
  filters: Filters = dataclasses.field(default_factory=Filters)
  duplicates: bool = False

  @property
  def options(self) -> tuple[int, int, Filters, bool]:
    """What queries that are answered together have in common."""
    depth = next(d for d in DEPTHS if d >= self.k)
    return depth, self.moments, self.filters, self.duplicates


@dataclasses.dataclass(frozen=True)
class Answer:
  """What was found.

  Attributes:
    hits: The hits of a query.
    text: The part of the sentence that was read.
    notice: What was left out of a long sentence; '' if nothing.
  """

  hits: list[Hit]
  text: str = ''
  notice: str = ''


@dataclasses.dataclass(frozen=True, eq=False)
class _Read:
  """A query as it was read: the words of a sentence, (1, l, e) and (1, l), or
  an encoded picture."""

  text: str = ''
  notice: str = ''
  words: Any = None
  mask: Any = None
  query: Any = None


class Answers:
  """Answers queries; only one thread may use it at a time."""

  def __init__(
    self,
    index: Index,
    texts: Callable[[str], TextQuery] | None,
    pictures: Callable[[np.ndarray], Float[np.ndarray, ' q']] | None = None,
    *,
    semantic: bool = True,
  ):
    """Compiles nothing yet.

    Args:
      index: The index to search.
      texts: Makes the features of a sentence; None if the index cannot be
        searched by sentences.
      pictures: Encodes a picture as a query; None if it cannot be searched by
        pictures.
      semantic: Whether the encoder understands words.
    """
    self._index, self._texts, self._pictures = index, texts, pictures
    self.semantic = semantic

  @property
  def reads(self) -> list[str]:
    """The kinds of queries that are answered: 'text', 'picture'."""
    known = (('text', self._texts), ('picture', self._pictures))
    return [name for name, function in known if function]

  def warm_up(self) -> Iterator[str]:
    """Compiles and loads all that answers need; yields each step."""
    encoded = []
    if self._pictures:
      encoded.append(self._pictures(np.zeros((*_SHAPE, 3), np.uint8)))
      yield 'the encoder of pictures'
    if self._texts:
      features = self._texts('a first query').features
      found = self._index.retriever.words(features)
      for size in SIZES:
        words, mask = (np.repeat(x, size, axis=0) for x in found)
        encoded.append(self._index.searcher.encode(words, mask)[0])
      yield 'the encoder of sentences'
    for size in SIZES:
      queries = np.repeat(encoded[-1][None], size, axis=0)
      for depth in DEPTHS:
        self._hits(queries, Query(k=depth).options)
        yield f'{size} queries, {depth} hits'

  def __call__(self, batch: Sequence[Query]) -> list[Answer | Exception]:
    """Returns the answer to each query, or its error."""
    read = [self._read(query) for query in batch]
    answers: list[Any] = list(read)
    groups: dict[Any, list[int]] = {}
    for i, found in enumerate(read):
      if isinstance(found, _Read):
        groups.setdefault(batch[i].options, []).append(i)
    for options, places in groups.items():
      size = next(s for s in SIZES if s >= len(places))
      queries = self._encoded([answers[i] for i in places], size)
      try:
        hits = self._hits(queries, options)
      except UserError as error:
        # It depends on the filters, which other groups do not share.
        hits = [error] * len(places)
      for i, row in zip(places, hits, strict=False):
        found = answers[i]
        answers[i] = (
          row
          if isinstance(row, Exception)
          else Answer(row[: batch[i].k], found.text, found.notice)
        )
    return answers

  def _hits(
    self,
    queries: Float[np.ndarray, 'n q'],
    options: tuple[int, int, Filters, bool],
  ) -> list[Any]:
    if not self._index.manifest.num_videos:
      # All were removed while it was served.
      return [[] for _ in queries]
    depth, moments, filters, duplicates = options
    return self._index.search_encoded(
      queries,
      depth,
      moments=moments,
      filters=filters or None,
      duplicates=duplicates,
      cutoff=STRENGTHS[0],
    )

  def _encoded(
    self, read: Sequence['_Read'], size: int
  ) -> Float[np.ndarray, 'size q']:
    """Returns the queries, filled up with copies of the first."""
    rows = [x.query for x in read]
    texts = [i for i, row in enumerate(rows) if row is None]
    if texts:
      fitting = next(s for s in SIZES if s >= len(texts))
      filled = texts + texts[:1] * (fitting - len(texts))
      words = np.concatenate([read[i].words for i in filled])
      mask = np.concatenate([read[i].mask for i in filled])
      encoded = self._index.searcher.encode(words, mask)
      for i, row in zip(texts, encoded, strict=False):
        rows[i] = row
    return np.stack([*rows, *rows[:1] * (size - len(rows))])

  def _read(self, query: Query) -> '_Read | Exception':
    """Returns the features of a sentence, an encoded picture, or the error."""
    try:
      if query.picture is not None:
        if not self._pictures:
          raise UserError(
            'this index cannot be searched by pictures; send a sentence'
          )
        return _Read(query=self._pictures(query.picture))
      if not self._texts:
        raise UserError(
          'this index cannot be searched by sentences, because its encoder '
          'does not know which words fit a picture; send a picture'
        )
      found = self._texts(query.text)
      words, mask = self._index.retriever.words(found.features)
      return _Read(found.text, found.notice, words, mask)
    except UserError as error:
      return BadQuery(str(error))
    except Exception as error:  # Raised where this query waits, not for others.
      return error
