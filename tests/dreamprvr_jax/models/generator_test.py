"""DiffusionRet's generators: worked examples and golden numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamprvr_jax.diffusion.process import q_sample_rows
from dreamprvr_jax.diffusion.sampler import sample
from dreamprvr_jax.diffusion.schedule import cosine_schedule
from dreamprvr_jax.interop.official import from_official, to_official
from dreamprvr_jax.losses.listwise import listwise_entropy
from dreamprvr_jax.models.generator import (
  TextToVideoGenerator,
  VideoToTextGenerator,
)
from tests.helpers import models
from tests.helpers.golden import distance, load, part
from tests.helpers.models import apply

RELEASED = {'mask_mode': 'after', 'feature_norm': 'raw'}
GENERATORS = {'t2v': TextToVideoGenerator, 'v2t': VideoToTextGenerator}
NAMES = {'t2v': 'text_to_video', 'v2t': 'video_to_text'}
DIRECTIONS = tuple(GENERATORS)


def fill(shape, j, scale):
  n = np.arange(np.prod(shape)).reshape(shape)
  return (scale * np.sin(0.37 * n + j)).astype(np.float32)


def appendix(direction, num_steps=50):
  """Returns the generator, variables and inputs of the worked examples."""
  d, model = (
    4,
    models.generator(GENERATORS[direction], 4, num_steps, **RELEASED),
  )
  shapes = {
    'q_proj': [(d, d)],
    'k_proj': [(d, d)],
    'v_proj': [(d, d)],
    'proj': [(d, d), (d,)],
    'time_embed_0': [(d, d), (d,)],
    'time_embed_2': [(d, d), (d,)],
    'decoder_0': [(2 * d, 2 * d), (2 * d,)],
    'decoder_2': [(1, 2 * d), (1,)],
  }
  params, j = {}, 1
  for name, (kernel, *bias) in shapes.items():
    params[name] = {'kernel': fill(kernel, j, 0.5).T}
    j += 1
    if bias:
      params[name]['bias'] = fill(*bias, j, 0.5)
      j += 1
  params['decoder_2']['bias'] = np.asarray([-1.0], np.float32)
  whole = np.ones((2, 3), bool)
  if direction == 't2v':
    mask = np.ones((2, 3, 3), bool)
    mask[0, 1, 2] = mask[1, 2, 1] = mask[1, 2, 2] = False
    inputs = fill((2, 4), 21, 0.5), fill((2, 3, 3, 4), 22, 0.5), mask, whole
  else:
    mask = np.ones((2, 3), bool)
    mask[1, 2] = False
    inputs = fill((2, 3, 4), 24, 0.5), fill((2, 3, 4), 23, 0.5), mask, whole
  return model, {'params': params}, inputs


X = fill((2, 3), 20, 1)
OUTPUT = {
  't2v': [[-0.129889, -0.034648, -0.000307], [0.070593, -0.084638, -0.350639]],
  'v2t': [[0.175863, -0.223051, 0.516620], [-0.156521, 0.228616, -0.217310]],
}
SAMPLES = {
  ('t2v', 5): [
    [-0.109184, -0.048230, 0.001537],
    [0.062661, -0.077545, -0.349818],
  ],
  ('v2t', 5): [
    [0.249668, -0.348933, 0.567868],
    [-0.214894, 0.308633, -0.242539],
  ],
  ('t2v', 50): [
    [-0.106116, -0.054665, 0.005281],
    [0.027128, -0.056250, -0.335893],
  ],
  ('v2t', 50): [
    [0.256164, -0.369482, 0.581310],
    [-0.231431, 0.313197, -0.231216],
  ],
}
LOSSES = {
  't2v': (0.913203, 4.3e-9),
  'v2t': (1.059485, 18.820290),
}


def test_time_embedding_of_the_appendix():
  model, variables, _ = appendix('t2v')
  found = apply(model, variables, method='time_embedding')
  for k, expected in {
    0: [0.920590, -0.170353, -0.905401, -0.254772],
    3: [0.592157, -0.200704, -0.582472, -0.165860],
    40: [0.763538, -0.173278, -0.748879, -0.223463],
  }.items():
    np.testing.assert_allclose(found[k], expected, atol=2e-6)


@pytest.mark.parametrize('direction', DIRECTIONS)
def test_output_of_the_appendix(direction):
  model, variables, inputs = appendix(direction)
  steps = np.asarray([3, 0])
  found = apply(model, variables, X, steps, *inputs)
  np.testing.assert_allclose(found, OUTPUT[direction], atol=2e-6)
  direct = models.direct_generator(
    direction, variables['params'], X, steps, *inputs[:3]
  )
  np.testing.assert_allclose(direct['output'], OUTPUT[direction], atol=2e-6)


@jax.jit
def noisy_rows(start, noise, steps):
  return q_sample_rows(cosine_schedule(50), start, noise, steps)


def denoised(model, variables, inputs, start, **options):
  @jax.jit
  def run(variables, inputs, start):
    terms = apply(model, variables, *inputs, method='terms')
    table = apply(model, variables, method='step_terms')
    return sample(
      cosine_schedule(model.num_steps),
      lambda x, step: apply(model, variables, x, step, terms, method='denoise'),
      start,
      step_inputs=table,
      prediction='start',
      method='ddim',
      **options,
    )

  return jax.device_get(run(variables, inputs, start))


@pytest.mark.parametrize(('direction', 'num_steps'), SAMPLES)
def test_samples_of_the_appendix(direction, num_steps):
  model, variables, inputs = appendix(direction, num_steps)
  found = denoised(model, variables, inputs, X)
  np.testing.assert_allclose(
    found, SAMPLES[direction, num_steps], rtol=1e-5, atol=3e-6
  )


@pytest.mark.parametrize('direction', DIRECTIONS)
def test_loss_of_the_appendix(direction):
  model, variables, inputs = appendix(direction)
  steps = np.asarray([10, 40])
  start = np.float32([[1, 0, 0]] * 2)
  noisy = noisy_rows(start, X, steps)
  np.testing.assert_allclose(
    noisy,
    [[1.255023, 0.347234, 0.330063], [1.018171, 0.470058, 0.135181]],
    atol=2e-6,
  )
  output = apply(model, variables, noisy, steps, *inputs)
  entropy = jax.jit(listwise_entropy)
  mean = lambda t: np.mean(entropy(output, inputs[3], t))
  low, high = LOSSES[direction]
  assert mean(1.0) == pytest.approx(low, rel=1e-5)
  assert mean(100.0) == pytest.approx(high, rel=1e-5, abs=1e-6)


# Golden numbers of the released program.


def golden(direction, prefix='params'):
  file = load('diffusionret_tiny')
  model = models.generator(
    GENERATORS[direction],
    32,
    int(file['hyper/T']),
    **RELEASED,
    pool_temperature=1.0,
  )
  template = jax.eval_shape(
    lambda: model.init(
      jax.random.key(0),
      jnp.zeros((1, 2)),
      jnp.zeros((1,), jnp.int32),
      *_inputs(file, direction, np.asarray([[0, 1]]), np.asarray([0])),
    )
  )
  variables = from_official(part(file, prefix), template, NAMES[direction])
  return file, model, variables


def _inputs(file, direction, lists, rows):
  """Returns the inputs of the lists of some items."""
  texts, frames = file['batch/cls'], file['batch/video_feat']
  mask = file['batch/video_mask'] > 0
  whole = np.ones(lists.shape, bool)
  if direction == 't2v':
    return texts[rows], frames[lists], mask[lists], whole
  return frames[rows], texts[lists], mask[rows], whole


def _forward_inputs(file, direction):
  rows = file['forward/rows']
  return _inputs(file, direction, file[f'train/{direction}_lists'][rows], rows)


@pytest.mark.parametrize('direction', DIRECTIONS)
def test_time_embedding(direction):
  file, model, variables = golden(direction)
  found = apply(model, variables, method='time_embedding')
  rows = file['time/rows']
  # Rows beyond the 50 steps belong to the released table of 5000.
  inside = rows < 50
  assert inside.sum() > 3
  expected = file[f'time/{direction}_embedding'][inside]
  assert distance(found[rows[inside]], expected) < 1e-5


@pytest.mark.parametrize('direction', DIRECTIONS)
def test_outputs(direction):
  file, model, variables = golden(direction)
  inputs = _forward_inputs(file, direction)
  run = lambda x, k: apply(model, variables, x, k, *inputs)
  for i, k in enumerate(file['forward/steps']):
    steps = np.full(4, k)
    for name, x in (
      ('outputs', file['forward/x']),
      ('outputs_x_zero', np.zeros_like(file['forward/x'])),
    ):
      expected = file[f'forward/{direction}_{name}'][i]
      assert distance(run(x, steps), expected) < 1e-5
    direct = models.direct_generator(
      direction, variables['params'], file['forward/x'], steps, *inputs[:3]
    )
    for name in ('attention', 'list_vector'):
      expected = file[f'forward/{direction}_{name}'][i]
      assert distance(direct[name], expected) < 1e-5
  mixed = run(file['forward/x'], file['forward/mixed_steps'])
  assert distance(mixed, file[f'forward/{direction}_mixed_outputs']) < 1e-5
  terms = apply(model, variables, *inputs, method='terms')
  pooled = terms.candidates if direction == 't2v' else terms.pooled
  assert distance(pooled, file[f'forward/{direction}_pooled']) < 1e-5


@pytest.mark.parametrize('direction', DIRECTIONS)
@pytest.mark.parametrize(
  ('name', 'num_steps', 'kept'),
  [('T50', 50, None), ('T10', 10, None), ('T50_spaced_10', 50, 10)],
)
def test_samples(direction, name, num_steps, kept):
  file, model, variables = golden(direction)
  model = model.clone(num_steps=num_steps)
  states = denoised(
    model,
    variables,
    _forward_inputs(file, direction),
    file['ddim/start'],
    num_steps=kept,
    keep_states=True,
  )
  assert distance(states, file[f'ddim/{direction}_{name}/x']) < 1e-5
  assert distance(states[-1], file[f'ddim/{direction}_{name}/sample']) < 1e-5


@pytest.mark.parametrize('direction', DIRECTIONS)
def test_a_thousand_steps(direction):
  file, model, variables = golden(direction)
  found = denoised(
    model.clone(num_steps=1000),
    variables,
    _forward_inputs(file, direction),
    file['ddim/start'],
  )
  assert distance(found, file[f'ddim/{direction}_T1000/sample']) < 1e-4


@pytest.mark.parametrize('direction', DIRECTIONS)
@pytest.mark.parametrize(
  ('prefix', 'temperature', 'multiplier', 'negative'),
  [('', 1.0, 100.0, 0.0), ('mild/', 0.5, 5.0, -1.0)],
)
def test_loss_and_gradients(
  direction, prefix, temperature, multiplier, negative
):
  file, model, variables = golden(direction)
  model = model.clone(pool_temperature=temperature)
  inputs = _inputs(
    file, direction, file[f'train/{direction}_lists'], np.arange(10)
  )
  steps = file['draws/steps']
  start = np.full((10, 9), negative, np.float32)
  start[:, 0] = 1
  noisy = noisy_rows(start, file[f'draws/noise_{direction}'], steps)
  assert distance(noisy, file[f'{prefix}train/{direction}_x_noisy']) < 1e-5

  def loss(params):
    output = apply(model, {'params': params}, noisy, steps, *inputs)
    rows = listwise_entropy(output, inputs[3], multiplier)
    return rows.mean(), (output, rows)

  (total, (output, rows)), gradients = jax.device_get(
    jax.jit(jax.value_and_grad(loss, has_aux=True))(variables['params'])
  )
  assert distance(output, file[f'{prefix}train/{direction}_output']) < 1e-5
  expected = file[f'{prefix}train/{direction}_row_losses']
  np.testing.assert_allclose(rows, expected, rtol=1e-4, atol=1e-4)
  assert float(total) == pytest.approx(
    file[f'{prefix}loss/{direction}'], rel=1e-5
  )
  named = to_official({'params': gradients}, NAMES[direction])
  assert len(named) == 13
  for name, found in named.items():
    if name.endswith('decoder.2.bias'):
      # This is zero except for rounding: a constant does not change a softmax.
      assert np.abs(found).max() < 1e-4
      continue
    expected = file[f'{prefix}grads/{name}']
    assert distance(found, expected) < 1e-4, name
