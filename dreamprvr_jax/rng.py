"""Randomness as a function of (seed, stream, step).

No key is stored or passed from step to step: a resumed run asks for the same
(seed, stream, step) and gets the same bits as an uninterrupted run.
"""

import zlib

import jax
from jaxtyping import Array, Int, Key

from dreamprvr_jax.errors import UserError

STREAMS = (
  'init',  # initial values
  'dropout',  # all dropout masks
  'negatives',  # negatives of the triplet losses
  'perturbation',  # text perturbation sampler
  'registers',  # starting registers and noise, if they are random
  'proxies',  # draws from the Gaussians of videos and captions
  'rerank',  # steps and noise of a re-ranker
)


def stream_key(
  seed: int, stream: str, step: int | Int[Array, ''] = 0
) -> Key[Array, '']:
  """Returns the key of one random stream at one step.

  Args:
    seed: The run's seed.
    stream: One of `STREAMS`.
    step: The update's number, from 0; may be traced.

  Raises:
    UserError: If the stream is not in `STREAMS`.
  """
  if stream not in STREAMS:
    raise UserError(f'random stream {stream!r} is unknown; known: {STREAMS}')
  # A digest of the name rather than its position: a new stream does not change
  # the bits of the others.
  key = jax.random.fold_in(
    jax.random.key(seed), zlib.crc32(stream.encode()) & 0x7FFFFFFF
  )
  return jax.random.fold_in(key, step)


def step_keys(
  seed: int, step: int | Int[Array, '']
) -> dict[str, Key[Array, '']]:
  """Returns {stream: key} of every stream that a training step draws from."""
  return {
    stream: stream_key(seed, stream, step)
    for stream in STREAMS
    if stream != 'init'
  }
