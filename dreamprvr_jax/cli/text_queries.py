"""Encodes sentences to word features, for queries."""

import re

import numpy as np

from dreamprvr_jax import text as texts
from dreamprvr_jax.archive import encoders
from dreamprvr_jax.archive.encoders import Encoder
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.trained.retriever import Retriever


def open_encoder(
  retriever: Retriever, name: str = '', *, device: str = ''
) -> Encoder:
  """Returns the encoder that makes a retriever's word features.

  Args:
    retriever: The retriever.
    name: The encoder, see `encoders.build`; '' for the checkpoint's own.
    device: See `encoders.build`.

  Raises:
    UserError: If the encoder is unknown, or its features have another width
      than the checkpoint's.
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
  width = retriever.stored['text_width']
  if found.text_width != width:
    raise UserError(
      f'the encoder {found.name} makes word features of width '
      f'{found.text_width}, but {retriever.checkpoint} was trained on '
      f'{width}; give the encoder that made its features'
    )
  return found


def encode(encoder: Encoder, text: str, where: str) -> np.ndarray:
  """Returns the (words, e) features of a query.

  Args:
    encoder: Encodes the words.
    text: The sentence; it is composed (NFC) first.
    where: Origin of the sentence, for the error.

  Raises:
    UserError: If it is not valid text, blank, or has no word that the encoder
      reads.
  """
  sentence = texts.sentence(text, where)
  # An encoder that compares spelling would also encode punctuation and find
  # random videos.
  readable = encoder.semantic or re.search(r'\w', sentence)
  words = encoder.words(sentence) if readable else ()
  if not len(words):
    raise UserError(
      f'{where}: {sentence!r} has no word that the text encoder {encoder.name} '
      'reads; write what to look for in words'
    )
  return np.asarray(words)
