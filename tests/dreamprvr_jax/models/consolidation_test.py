"""Tests of the consolidation layer, with registers and without."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamprvr_jax.models.consolidation import ConsolidationLayer, key_mask
from tests.helpers.models import apply

LENGTH, REGISTERS, WIDTH = 5, 2, 4
MASK = np.arange(LENGTH) < np.asarray([[5], [3]])


def normal(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


TOKENS = normal(0, 2, LENGTH, WIDTH)
NOTES = normal(1, 2, REGISTERS, WIDTH)


def make(registers=NOTES, dropout=0.0):
  layer = ConsolidationLayer(
    (0.0, 1.0), 2, dropout, dropout, 0.6, 'batched', False, jnp.float32
  )
  shapes = jax.eval_shape(
    lambda: layer.init(
      jax.random.key(0), TOKENS, MASK, registers=registers, train=False
    )
  )
  rng = np.random.default_rng(2)
  variables = jax.tree.map(
    lambda p: rng.normal(size=p.shape).astype(np.float32), shapes
  )

  def run(variables, tokens, registers, mask):
    return apply(
      layer, variables, tokens, mask, registers=registers, train=False
    )

  return layer, variables, run


def test_truth_table():
  mask = np.asarray([[True, True, False]])
  np.testing.assert_array_equal(
    key_mask(mask, 2), np.asarray([[[1, 1, 0, 1, 1]]], bool)
  )
  np.testing.assert_array_equal(key_mask(mask, 0), mask[:, None])


def test_without_padding_nothing_is_masked():
  assert key_mask(None, 2) is None


def test_output_is_zero_where_padded():
  _, variables, run = make()
  out = run(variables, TOKENS, NOTES, MASK)
  assert out.shape == (2, LENGTH, WIDTH)
  np.testing.assert_array_equal(out[1, 3:], 0)
  assert (np.abs(out[1, :3]).max(axis=-1) > 0).all()


def test_padded_frames_reach_the_mixture_only():
  # As released, the mean token of the mixture includes padded positions. With
  # its logits at 0 nothing else may depend on them.
  _, variables, run = make()
  variables['params']['merger']['logits']['kernel'] *= 0.0
  changed = np.where(MASK[..., None], TOKENS, normal(3, 2, LENGTH, WIDTH))
  np.testing.assert_array_equal(
    run(variables, TOKENS, NOTES, MASK), run(variables, changed, NOTES, MASK)
  )
  moved = run(variables, changed, NOTES, None)
  assert not np.allclose(
    moved[1, :3], run(variables, TOKENS, NOTES, None)[1, :3]
  )


def test_a_video_does_not_see_the_others():
  _, variables, run = make()
  both = run(variables, TOKENS, NOTES, MASK)
  alone = run(variables, TOKENS[:1], NOTES[:1], MASK[:1])
  np.testing.assert_allclose(both[:1], alone, rtol=1e-4, atol=1e-4)


def test_registers_are_read():
  _, variables, run = make()
  out = run(variables, TOKENS, NOTES, MASK)
  # A mere shift of all channels would be removed by the projection's norm.
  other = run(variables, TOKENS, normal(4, *NOTES.shape), MASK)
  assert not np.allclose(out, other, atol=1e-3)


def test_the_order_of_registers_is_of_no_account():
  _, variables, run = make()
  np.testing.assert_allclose(
    run(variables, TOKENS, NOTES, MASK),
    run(variables, TOKENS, NOTES[:, ::-1], MASK),
    rtol=1e-3,
    atol=1e-4,
  )


@pytest.mark.parametrize('registers', [None, NOTES], ids=['without', 'with'])
def test_parameters(registers):
  _, variables, run = make(registers)
  names = {'parallel', 'merger'}
  if registers is not None:
    names.add('register_projection')
  assert set(variables['params']) == names
  assert run(variables, TOKENS, registers, None).shape == TOKENS.shape


def test_dropout():
  layer, variables, _ = make(dropout=0.5)
  run = lambda train, key: apply(
    layer,
    variables,
    TOKENS,
    MASK,
    registers=NOTES,
    train=train,
    rngs={'dropout': key},
  )
  keys = jax.random.split(jax.random.key(0))
  np.testing.assert_array_equal(run(False, keys[0]), run(False, keys[1]))
  assert not np.allclose(run(True, keys[0]), run(True, keys[1]))
