"""Sentences as queries: the encoder that makes word features of them."""

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
    name: The encoder, see `encoders.build`; '': the one that its checkpoint
      was trained with.
    device: See `encoders.build`.

  Raises:
    UserError: If it is not known, or its features are not as wide as those of
      the checkpoint.
    DataError: If it cannot be had.
  """
  identity = retriever.stored.get('encoder')
  if name:
    found = encoders.build(name, device=device)
  elif identity:
    found = encoders.from_identity(identity, device=device)
  else:
    raise UserError(
      f'{retriever.checkpoint} does not say which text encoder made its word '
      'features, as is so with official features: give that encoder with '
      '--encoder=..., or word features with --queries=FILE.npz or .hdf5; '
      'checkpoints trained on what --mode=extract wrote know theirs'
    )
  width = retriever.stored['text_width']
  if found.text_width != width:
    raise UserError(
      f'the encoder {found.name} makes word features of width '
      f'{found.text_width}, but {retriever.checkpoint} was trained on '
      f'{width}; give the encoder that its features were made with'
    )
  return found


def encode(encoder: Encoder, text: str, where: str) -> np.ndarray:
  """Returns the (words, e) features of a query, in NFC.

  Args:
    encoder: Of words.
    text: The sentence.
    where: It came from, for the error.

  Raises:
    UserError: If it is no text, shows nothing, or has no word that the encoder
      reads.
  """
  asked = texts.sentence(text, where)
  # An encoder that goes by how words are written would make numbers of
  # punctuation, too, and find videos at random.
  readable = encoder.semantic or re.search(r'\w', asked)
  words = encoder.words(asked) if readable else ()
  if not len(words):
    raise UserError(
      f'{where}: {asked!r} has no word that the text encoder {encoder.name} '
      'reads; write what to look for in words'
    )
  return np.asarray(words)
