"""DiffusionRet's generators: properties that hold for all numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.losses.listwise import listwise_entropy
from dreamprvr_jax.models.generator import (
  CrossAttentionScorer,
  TextToVideoGenerator,
  VideoToTextGenerator,
)
from dreamprvr_jax.types import parameter_count
from tests.helpers import models
from tests.helpers.golden import distance
from tests.helpers.models import apply

GENERATORS = {'t2v': TextToVideoGenerator, 'v2t': VideoToTextGenerator}
DIRECTIONS = tuple(GENERATORS)


def random_lists(direction='t2v', model=None, seed=0, n=5):
  rng = np.random.default_rng(seed)
  draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
  if direction == 't2v':
    inputs = draw(3, 16), draw(3, n, 6, 16), rng.random((3, n, 6)) < 0.7
  else:
    inputs = draw(3, 6, 16), draw(3, n, 16), rng.random((3, 6)) < 0.7
  model = model or models.generator(GENERATORS[direction], 16, 10)
  x, mask = draw(3, n), np.ones((3, n), bool)
  steps = np.asarray([0, 4, 9])
  start = lambda: model.init(jax.random.key(0), x, steps, *inputs, mask)
  # Weights are larger than initial ones, so that every part has an effect.
  variables = jax.tree.map(
    lambda p: rng.normal(0, 0.3, p.shape).astype(np.float32),
    jax.eval_shape(start),
  )
  return model, variables, (x, steps, *inputs, mask)


@pytest.mark.parametrize('direction', DIRECTIONS)
@pytest.mark.parametrize('mask_mode', ['before', 'after'])
def test_taken_apart_or_direct(direction, mask_mode):
  model = models.generator(GENERATORS[direction], 16, 10, mask_mode=mask_mode)
  model, variables, inputs = random_lists(direction, model)
  found = apply(model, variables, *inputs)
  x, steps, query, candidates, frame_mask, _ = inputs
  normed = lambda z: 10 * z / np.linalg.norm(z, axis=-1, keepdims=True)
  direct = models.direct_generator(
    direction,
    variables['params'],
    x,
    steps,
    normed(query),
    normed(candidates),
    frame_mask,
    mask_mode=mask_mode,
  )
  assert distance(found, direct['output']) < 1e-5


@pytest.mark.parametrize(
  'model',
  [models.generator(TextToVideoGenerator, 16, 10), CrossAttentionScorer(16)],
  ids=['generator', 'cross attention'],
)
def test_candidates_have_no_order(model):
  model, variables, inputs = random_lists(model=model)
  x, steps, query, frames, frame_mask, mask = inputs
  order = np.asarray([3, 0, 4, 2, 1])
  found = apply(model, variables, *inputs)
  moved = apply(
    model,
    variables,
    x[:, order],
    steps,
    query,
    frames[:, order],
    frame_mask[:, order],
    mask,
  )
  np.testing.assert_allclose(moved, found[:, order], atol=1e-5)
  assert np.abs(np.diff(found)).min() > 1e-4


@pytest.mark.parametrize('direction', DIRECTIONS)
def test_padding_changes_nothing(direction):
  model, variables, inputs = random_lists(direction)
  *rest, mask = inputs
  short = mask.copy()
  short[:, 3:] = False
  found = apply(model, variables, *rest, short)
  other = [np.array(part, copy=True) for part in rest]
  other[0][:, 3:] = 7.0
  other[3][:, 3:] = -5.0
  again = apply(model, variables, *other, short)
  np.testing.assert_array_equal(found[:, :3], again[:, :3])
  assert not np.allclose(
    apply(model, variables, *rest, mask)[:, :3], found[:, :3]
  )


def test_parameters():
  for width, count in ((512, 2_625_025), (384, 1_477_249)):
    model = models.generator(TextToVideoGenerator, width)
    shapes = jax.eval_shape(
      lambda model=model, width=width: model.init(
        jax.random.key(0),
        jnp.zeros((1, 2)),
        jnp.zeros((1,), jnp.int32),
        jnp.zeros((1, width)),
        jnp.zeros((1, 2, 3, width)),
        jnp.ones((1, 2, 3), bool),
        jnp.ones((1, 2), bool),
      )
    )
    assert parameter_count(shapes) == count


def test_the_control_is_as_large():
  model, control = (
    models.generator(TextToVideoGenerator, 16, 10),
    CrossAttentionScorer(16),
  )
  counts = [parameter_count(random_lists(model=m)[1]) for m in (model, control)]
  # Each has 10 d^2 parameters and some vectors, which matter at a width of 16.
  assert counts[1] == pytest.approx(counts[0], rel=0.1)


def test_the_output_has_no_level():
  model, variables, inputs = random_lists()

  def loss(bias):
    params = {**variables['params']}
    params['decoder_2'] = {**params['decoder_2'], 'bias': bias}
    output = apply(model, {'params': params}, *inputs)
    return listwise_entropy(output, inputs[-1], 100.0).mean()

  both = jax.jit(jax.value_and_grad(loss))
  value, gradient = both(np.zeros(1, np.float32))
  moved, _ = both(np.ones(1, np.float32))
  assert float(moved) == pytest.approx(float(value), rel=1e-4)
  assert abs(float(gradient[0])) < 1e-3


@pytest.mark.parametrize(
  ('options', 'words'),
  [({'mask_mode': 'never'}, 'before'), ({'feature_norm': 'max'}, 'scaled')],
)
def test_unknown_options(options, words):
  with pytest.raises(UserError, match=words):
    random_lists(
      model=models.generator(TextToVideoGenerator, 16, 10, **options)
    )
