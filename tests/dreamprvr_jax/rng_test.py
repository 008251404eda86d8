"""Tests of the random streams."""

import jax
import numpy as np
import pytest

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.rng import STREAMS, step_keys, stream_key


def bits(key):
  return tuple(np.asarray(jax.random.key_data(key)).tolist())


def test_streams_seeds_and_steps_differ():
  keys = {
    bits(stream_key(seed, stream, step))
    for seed in (0, 1)
    for stream in STREAMS
    for step in (0, 1, 2)
  }
  assert len(keys) == 2 * len(STREAMS) * 3


def test_a_key_is_a_function_of_its_arguments():
  assert bits(stream_key(3, 'dropout', 7)) == bits(stream_key(3, 'dropout', 7))
  assert bits(stream_key(3, 'dropout')) == bits(stream_key(3, 'dropout', 0))


def test_a_traced_step_gives_the_same_key():
  traced = jax.jit(
    lambda step: jax.random.key_data(stream_key(3, 'dropout', step))
  )
  expected = bits(stream_key(3, 'dropout', 7))
  assert tuple(np.asarray(traced(7)).tolist()) == expected


def test_step_keys_are_those_of_the_streams():
  keys = step_keys(5, 2)
  assert set(keys) == set(STREAMS) - {'init'}
  for stream, key in keys.items():
    assert bits(key) == bits(stream_key(5, stream, 2))


def test_unknown_stream():
  with pytest.raises(
    UserError, match=r"random stream 'droput' is unknown; known: .*'dropout'"
  ):
    stream_key(0, 'droput')
