"""Queries that are sentences, encoded as the captions of training were."""

import dataclasses
import re

import numpy as np
from jaxtyping import Float

from dreamprvr_jax import text as texts
from dreamprvr_jax.archive import encoders
from dreamprvr_jax.archive.encoders import Encoder
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.trained.retriever import Retriever

# Characters of a query that are read. No encoder reads that many words, and
# splitting a book into words takes long.
MAX_CHARACTERS = 1000


@dataclasses.dataclass(frozen=True, eq=False)
class TextQuery:
  """A sentence, ready for `Retriever.words`.

  Attributes:
    text: The part of the sentence that was read, in NFC.
    features: Features of its words, or its sentence vector as the only one.
    notice: What was left out of a long sentence, as a sentence; '' if nothing.
  """

  text: str
  features: Float[np.ndarray, 'l e']
  notice: str


class TextQueries:
  """Encodes sentences for a retriever."""

  def __init__(self, retriever: Retriever, encoder: Encoder):
    """Args:
      retriever: The retriever.
      encoder: The encoder that `open_encoder` returns for it.

    Raises:
      UserError: If the retriever compares pictures with sentence vectors, and
        the encoder has no space that both share.
    """
    self._encoder = encoder
    self._max_words = retriever.stored['config']['data']['max_words']
    self._by_sentence = retriever.model.reads == 'sentence'
    if self._by_sentence and not encoder.shared:
      raise UserError(
        f'the encoder {encoder.name} knows pictures and words, but not which '
        'words fit a picture, so the index cannot be searched by sentences; '
        'search it by --image=FILE or --clip=FILE, or index the videos with '
        '--encoder=siglip2'
      )

  @property
  def encoder(self) -> Encoder:
    """The encoder."""
    return self._encoder

  def read(self, text: str, where: str = 'the query') -> TextQuery:
    """Returns a sentence with its features.

    Args:
      text: The sentence; it is composed (NFC), and cut if it is long.
      where: Origin of the sentence, for the error.

    Raises:
      UserError: If it is not valid text, blank, or has no word that the encoder
        reads.
    """
    sentence, notice = _cut(texts.sentence(text, where))
    # An encoder that compares spelling would also encode punctuation and find
    # random videos.
    readable = self._encoder.semantic or re.search(r'\w', sentence)
    words = self._features(sentence) if readable else ()
    if not len(words):
      raise UserError(
        f'{where}: {sentence!r} has no word that the text encoder '
        f'{self._encoder.name} reads; write what to look for in words'
      )
    if len(words) > self._max_words:
      notice = (
        f'a query has {len(words)} words, and the model reads the first '
        f'{self._max_words}'
      )
    return TextQuery(sentence, np.asarray(words), notice)

  def _features(self, sentence: str) -> Float[np.ndarray, 'l e']:
    if self._by_sentence:
      return self._encoder.sentence(sentence)[None]
    return self._encoder.words(sentence)


def _cut(sentence: str) -> tuple[str, str]:
  """Returns the part of a sentence that is read, and a notice if it is not the
  whole."""
  if len(sentence) <= MAX_CHARACTERS:
    return sentence, ''
  start = sentence[: MAX_CHARACTERS + 1]
  # A word that is longer than the limit is cut, too.
  start = start.rpartition(' ')[0] or start[:MAX_CHARACTERS]
  return start, (
    f'a query has {len(sentence):,} characters, and the first {len(start):,} '
    'are read'
  )


def open_encoder(
  retriever: Retriever, name: str = '', *, device: str = ''
) -> Encoder:
  """Returns the encoder that makes a retriever's queries.

  Args:
    retriever: The retriever.
    name: The encoder, see `encoders.build`; '' for the retriever's own.
    device: See `encoders.build`.

  Raises:
    UserError: If the encoder is unknown, or its features have another width
      than those that the retriever takes.
    DataError: If it cannot be loaded.
  """
  identity = retriever.stored.get('encoder')
  if name:
    found = encoders.build(name, device=device)
  elif identity:
    found = encoders.from_identity(identity, device=device)
  else:
    raise UserError(
      f'{retriever.checkpoint} does not name the text encoder of its word '
      'features, because it was not trained on features from --mode=extract; '
      'give the encoder with --encoder=..., or word features with '
      '--queries=FILE.npz or .hdf5'
    )
  if retriever.model.reads == 'sentence':
    kind, width = 'frame features', found.visual_width
  else:
    kind, width = 'word features', found.text_width
  known = retriever.stored['text_width']
  if width != known:
    raise UserError(
      f'the encoder {found.name} makes {kind} of width {width}, but '
      f'{retriever.checkpoint} takes {known}; give the encoder that made its '
      'features'
    )
  return found
