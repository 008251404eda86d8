"""The queries of search: sentences, features, captions, a picture or a clip."""

import dataclasses
import logging
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from dreamprvr_jax.archive.search.index import Index
from dreamprvr_jax.archive.search.text_queries import TextQueries, open_encoder
from dreamprvr_jax.archive.videos.files import shown
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.trained.retriever import Retriever

# Captions that are read at a time.
_BATCH = 1024
# Samples per second of a clip, if the index does not say.
_FPS = 2.0
_SPAN = re.compile(r'([\d.:]+)-([\d.:]+)')

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Request:
  """The flags that queries come from; see `options.py`."""

  query: str | None
  queries: str
  caption: int | None
  image: str
  clip: str
  span: str
  encoder: str
  device: str
  progress: bool


@dataclasses.dataclass(frozen=True)
class Queries:
  """Queries that are read one after the other.

  Attributes:
    count: How many there are.
    each: Yields for each its facts, `id` and maybe `text` and `right`, and what
      `encode` takes.
    encode: Returns some of them encoded.
  """

  count: int
  each: Iterator[tuple[dict[str, Any], Any]]
  encode: Callable[[list[Any]], Float[np.ndarray, 'n q']]


def check(request: Request) -> None:
  """Raises UserError if the flags name queries of two kinds."""
  flags = {
    '--query': request.query is not None,
    '--queries': bool(request.queries),
    '--caption': request.caption is not None,
    '--image': bool(request.image),
    '--clip': bool(request.clip),
  }
  given = [flag for flag, is_given in flags.items() if is_given]
  if len(given) > 1:
    raise UserError(
      f'{" and ".join(given[:2])} name two kinds of queries; give one of them'
    )
  if request.span and not request.clip:
    raise UserError(
      f'--span={request.span} is a stretch of --clip, which is not given; name '
      'the video as --clip=FILE'
    )


def read(config: ConfigDict, request: Request, index: Index) -> Queries:
  """Returns the queries that the flags name.

  Raises:
    UserError: If they cannot be read or encoded.
    DataError: If the encoder cannot be loaded.
  """
  retriever = index.retriever
  if request.image or request.clip:
    return _from_picture(request, index)
  if request.query is not None:
    sentences = {'query': request.query}
    return _from_sentences(request, index, '--query', sentences)
  # Queries of the two kinds above need no file.
  from dreamprvr_jax.cli import query_files

  if query_files.holds_sentences(request.queries):
    where = f'--queries={request.queries}'
    sentences = query_files.read_sentences(request.queries)
    return _from_sentences(request, index, where, sentences)
  if request.queries:
    width = retriever.stored['text_width']
    features = query_files.read_queries(request.queries, width)
    each = (
      ({'id': name}, _words(retriever, x)) for name, x in features.items()
    )
    return Queries(len(features), each, _encoded_words(index))
  if 'roots' in index.manifest.archive and request.caption is None:
    raise UserError(
      'there is nothing to search for; give --query="a sentence", --image=FILE '
      'or --clip=FILE'
    )
  return _from_split(config, request, index)


def _words(
  retriever: Retriever, features: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the word features of one query, and their mask."""
  words, mask = retriever.words(features)
  return words[0], mask[0]


def _encoded_words(
  index: Index,
) -> Callable[[list[Any]], Float[np.ndarray, 'n q']]:
  """Returns what encodes word features and their masks."""

  def encode(batch: list[Any]) -> Float[np.ndarray, 'n q']:
    words, masks = zip(*batch, strict=True)
    return index.searcher.encode(np.stack(words), np.stack(masks))

  return encode


def _from_sentences(
  request: Request, index: Index, where: str, sentences: dict[str, str]
) -> Queries:
  retriever = index.retriever
  encoder = open_encoder(retriever, request.encoder, device=request.device)
  reader = TextQueries(retriever, encoder)

  def each() -> Iterator[tuple[dict[str, Any], Any]]:
    cut = 0
    for name, text in sentences.items():
      found = reader.read(text, where)
      if found.notice and not cut:
        # Once for all queries.
        _log.warning('%s: %s', where, found.notice)
      cut += bool(found.notice)
      facts = {'id': name, 'text': text}
      yield facts, _words(retriever, found.features)
    if cut > 1:
      _log.warning('%s: %d queries are that long', where, cut)

  return Queries(len(sentences), each(), _encoded_words(index))


def _from_picture(request: Request, index: Index) -> Queries:
  from dreamprvr_jax.archive.search.picture_queries import PictureQueries

  encoder = open_encoder(
    index.retriever, request.encoder, device=request.device
  )
  reader = PictureQueries(index.retriever, encoder)
  if request.image:
    where = f'--image={request.image}'
    encoded = reader.file(request.image, where)
    facts = {'id': 'image', 'text': shown(request.image)}
  else:
    start, end = span_of(request.span)
    fps = index.manifest.archive.get('fps', _FPS)
    encoded = reader.clip(request.clip, start, end, fps)
    stretch = f' {request.span} s' if request.span else ''
    facts = {'id': 'clip', 'text': f'{shown(request.clip)}{stretch}'}
  return Queries(1, iter([(facts, encoded)]), np.stack)


def span_of(span: str) -> tuple[float, float]:
  """Returns the seconds of '3-8' or '1:03-1:08'; all for ''.

  Raises:
    UserError: If it is no such stretch.
  """
  if not span:
    return 0.0, math.inf
  found = _SPAN.fullmatch(span.replace(' ', ''))
  try:
    if found:
      start, end = map(_seconds, found.groups())
      if start < end:
        return start, end
  except ValueError:
    pass  # One of them is no number.
  raise UserError(
    f'--span={span} is no stretch of a video; give the second where it begins '
    'and the one where it ends, such as 3-8 or 1:03-1:08'
  )


def _seconds(text: str) -> float:
  """Returns the seconds of '63', '1:03' or '0:01:03'."""
  total = 0.0
  for part in text.split(':'):
    total = 60 * total + float(part)
  return total


def _from_split(config: ConfigDict, request: Request, index: Index) -> Queries:
  """Returns the captions of a split, or one of them."""
  from dreamprvr_jax.cli import data

  retriever = index.retriever
  corpus = data.open_data(config, show=request.progress)
  data.check_widths(retriever.stored, corpus, retriever.checkpoint)
  split = data.get_split(corpus, data.final_split(config, corpus))
  total = len(split.caption_ids)
  chosen = range(total)
  if request.caption is not None:
    if request.caption not in chosen:
      raise UserError(
        f'--caption={request.caption}: the split {split.name} has captions 0 '
        f'to {total - 1}'
      )
    chosen = [request.caption]

  def each() -> Iterator[tuple[dict[str, Any], Any]]:
    for start in range(0, len(chosen), _BATCH):
      rows = chosen[start : start + _BATCH]
      read = split.read_captions(rows)
      words, mask = retriever.words(read['word_features'], read['word_mask'])
      for i, row in enumerate(rows):
        video = split.caption_video[row]
        facts = {
          'id': split.caption_ids[row],
          'text': split.captions[row],
          'right': {
            'video': split.video_ids[video],
            'moment': [float(x) for x in split.moments[row]],
          },
        }
        yield facts, (words[i], mask[i])

  return Queries(len(chosen), each(), _encoded_words(index))
