"""Token ids of sentences, as the hub's tokenizers make them.

CLIP's rules are all in tokenizer.json. SigLIP 1 has a SentencePiece model, for
lower-case text without punctuation; SigLIP 2 has Gemma's tokenizer, for
lower-case text. Both pad to all positions of the model.
"""

import logging
import pathlib
import re
import string
from typing import Any, Protocol

import numpy as np
from jaxtyping import Bool, Int

from data_pipeline.errors import DataError
from dreamprvr_jax.archive.encoders.architecture import (
  Architecture,
  read_object,
)

_FAST = 'tokenizer.json'
_PIECES = 'spiece.model'
_SETTINGS = 'tokenizer_config.json'
_PUNCTUATION = str.maketrans('', '', string.punctuation)

_log = logging.getLogger(__name__)


class _Tokenizer(Protocol):
  def ids(self, text: str) -> tuple[list[int], bool]:
    """Returns the ids, and whether some were cut off."""
    ...


class Tokens:
  """Makes the inputs of a text tower."""

  def __init__(self, tokenizer: _Tokenizer, length: int, pad: int, left: bool):
    """Use `read`.

    Args:
      tokenizer: Makes the ids.
      length: Ids of a text.
      pad: The id that fills up short ones.
      left: Whether it is put in front.
    """
    self._tokenizer = tokenizer
    self._length = length
    self._pad = pad
    self._left = left
    self._told = False

  @classmethod
  def read(cls, folder: pathlib.Path, architecture: Architecture) -> 'Tokens':
    """Returns the tokenizer of a model's folder.

    Raises:
      DataError: If a file is missing or damaged, or a library is missing.
    """
    length = architecture.text.positions
    settings: dict[str, Any] = {}
    if (folder / _SETTINGS).exists():
      settings = read_object(folder / _SETTINGS)
    if architecture.network == 'siglip' and (folder / _PIECES).exists():
      pieces = _Pieces(folder / _PIECES, length)
      return cls(pieces, length, pieces.end, False)
    fast = _Fast(folder / _FAST, architecture.network, settings, length)
    # After CLIP's end of text, padding is of no consequence.
    pad = architecture.text.end
    if architecture.network == 'siglip':
      pad = fast.special('pad_token', ('<pad>', '</s>'))
    return cls(fast, length, pad, settings.get('padding_side') == 'left')

  def __call__(
    self, text: str
  ) -> tuple[Int[np.ndarray, '1 l'], Bool[np.ndarray, '1 l']]:
    """Returns the ids of a text, padded to all positions, and which of them are
    no padding. A text that is too long is cut, which is told once."""
    found, cut = self._tokenizer.ids(text)
    if cut and not self._told:
      self._told = True
      _log.warning(
        'a sentence is longer than the %d tokens that the encoder reads; '
        'the rest is left out: %.60s...',
        self._length,
        text,
      )
    ids = np.full((1, self._length), self._pad, np.int32)
    real = np.zeros((1, self._length), bool)
    start = self._length - len(found) if self._left else 0
    ids[0, start : start + len(found)] = found
    real[0, start : start + len(found)] = True
    return ids, real


class _Fast:
  """A tokenizer.json."""

  def __init__(
    self, path: pathlib.Path, network: str, settings: dict, most: int
  ):
    tokenizers = _library('tokenizers')
    content = read_object(path)
    try:
      self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # The library raises no narrower one.
      raise DataError(
        f'{path} cannot be read ({error}); download the model again, or update '
        'the library tokenizers'
      ) from None
    self._path = path
    self._settings = settings
    self._tokenizer.no_padding()
    kind = content.get('model', {}).get('type')
    self._clean = str
    if network == 'siglip':
      self._clean = canonical if kind == 'Unigram' else str.lower
      self._frame(tokenizers)
    # Not while it encodes: several threads do.
    self._tokenizer.enable_truncation(most)

  def ids(self, text: str) -> tuple[list[int], bool]:
    """See _Tokenizer."""
    found = self._tokenizer.encode(self._clean(text))
    return found.ids, bool(found.overflowing)

  def special(self, key: str, usual: tuple[str, ...]) -> int:
    """Returns the id of a special token.

    Args:
      key: Its key in tokenizer_config.json.
      usual: Its texts if the key is missing; the first that is a token.

    Raises:
      DataError: If there is none.
    """
    named = self._settings.get(key)
    named = named.get('content') if isinstance(named, dict) else named
    for text in (named,) if named else usual:
      found = self._tokenizer.token_to_id(str(text))
      if found is not None:
        return found
    raise DataError(
      f'{self._path} has no {key} {named or " or ".join(usual)}; download the '
      'model again'
    )

  def _frame(self, tokenizers: Any) -> None:
    """Sets the tokens around a text where the settings name them; they win over
    tokenizer.json, as in transformers."""
    before, after = (
      self._settings.get(key) for key in ('add_bos_token', 'add_eos_token')
    )
    if before is None and after is None:
      return
    ends = {'bos_token': bool(before), 'eos_token': bool(after)}
    usual = {'bos_token': ('<bos>',), 'eos_token': ('<eos>', '</s>')}
    ids = {key: self.special(key, usual[key]) for key in ends if ends[key]}
    texts = {key: self._tokenizer.id_to_token(ids[key]) for key in ids}
    single = [texts.get('bos_token'), '$A', texts.get('eos_token')]
    self._tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
      single=[part for part in single if part],
      special_tokens=[(texts[key], ids[key]) for key in ids],
    )


class _Pieces:
  """A SentencePiece model, spiece.model."""

  def __init__(self, path: pathlib.Path, most: int):
    library = _library('sentencepiece')
    try:
      self._model = library.SentencePieceProcessor(model_file=str(path))
    except (OSError, RuntimeError) as error:
      raise DataError(
        f'{path} cannot be read ({error}); download the model again'
      ) from None
    self.end: int = self._model.piece_to_id('</s>')
    self._most = most

  def ids(self, text: str) -> tuple[list[int], bool]:
    """See _Tokenizer; the last id is that of the end."""
    found = self._model.encode(canonical(text))
    return [*found[: self._most - 1], self.end], len(found) >= self._most


def canonical(text: str) -> str:
  """Returns the text that SigLIP 1 was trained on: lower case, without
  punctuation, with single spaces."""
  bare = text.lower().translate(_PUNCTUATION)
  return re.sub(r'\s+', ' ', bare).strip()


def _library(name: str) -> Any:
  try:
    return __import__(name)
  except ImportError as error:
    raise DataError(
      f'the tokenizer needs {name}, which cannot be imported ({error}); '
      f"install it: pip install 'dreamprvr_jax[hub]' or pip install {name}"
    ) from None
