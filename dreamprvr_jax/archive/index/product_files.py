"""Product codes of a segment, made from its float16 tokens."""

import os
import pathlib
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from dreamprvr_jax.archive.index import product
from dreamprvr_jax.archive.index.array_files import array_file
from dreamprvr_jax.archive.index.store import codebook_name

# Tokens of a branch that k-means sees: 128 per centre.
_SAMPLE = 2**15
# Videos coded at a time.
_BATCH = 64


def add_products(
  folder: pathlib.Path,
  sub_vectors: int,
  codebooks: Mapping[str, Float[np.ndarray, 'm k w']],
  *,
  keep: bool,
) -> None:
  """Writes the product codes of a segment's tokens and their codebooks.

  Args:
    folder: The segment's, with float16 tokens in it.
    sub_vectors: Of a token.
    codebooks: Those of the index; if empty, they are made from a sample of
      the segment.
    keep: Whether the float16 tokens stay.
  """
  mask = np.load(folder / 'frame_mask.npy', mmap_mode='r')
  for branch in ('clip', 'frame'):
    path = folder / f'{branch}_tokens.npy'
    tokens = np.load(path, mmap_mode='r')
    if codebooks:
      codebook = codebooks[branch]
    else:
      real = np.ones(tokens.shape[:2], bool) if branch == 'clip' else mask
      sample = _sample(tokens, real)
      codebook = np.asarray(product.train(sample, sub_vectors))
    with (folder / codebook_name(branch)).open('wb') as file:
      np.save(file, codebook)
      file.flush()
      os.fsync(file.fileno())
    shape = (len(tokens), sub_vectors, tokens.shape[1])
    with array_file(folder / f'{branch}_products.npy', shape, np.uint8) as file:
      for start in range(0, len(tokens), _BATCH):
        few = tokens[start : start + _BATCH]
        # Always of one size: one program.
        filled = np.pad(few, ((0, _BATCH - len(few)), (0, 0), (0, 0)))
        codes = np.asarray(product.encode(filled, codebook))[: len(few)]
        file.write(np.ascontiguousarray(codes).data)
    del tokens
    if not keep:
      path.unlink()


def _sample(
  tokens: Float[np.ndarray, 'b s d'], real: np.ndarray
) -> Float[np.ndarray, 'n d']:
  """Returns some real tokens, the same ones each time; of none, all."""
  places = np.flatnonzero(real if real.any() else np.ones_like(real))
  if len(places) > _SAMPLE:
    rng = np.random.default_rng(0)
    places = np.sort(rng.choice(places, _SAMPLE, replace=False))
  return tokens.reshape(-1, tokens.shape[-1])[places]
