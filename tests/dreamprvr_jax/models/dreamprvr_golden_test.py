"""DreamPRVR against numbers of the released program, frozen in tests/golden.

Tolerances are relative Frobenius norms: outputs and losses 1e-5, gradients
1e-4 per tensor, weights after three updates 1e-5, their moves 1e-2.
"""

import functools
import zlib

import jax
import numpy as np
import optax
import pytest

from dreamprvr_jax.interop import official
from dreamprvr_jax.objectives.retrieval import BRANCHES
from dreamprvr_jax.train.bert_adam import bert_adam, warmup_linear
from tests.helpers import models
from tests.helpers.golden import (
  batch_of,
  distance,
  inference,
  load,
  part,
  shapes,
)

TINY = models.make('dreamprvr', width=32, num_registers=3)
OBJECTIVE = models.objective(
  clip_nce=0.02,
  frame_nce=0.04,
  diversity=0.003,
  structure=0.01,
  variational=1e-4,
  diffusion=1e-3,
)
CASES = ('dreamprvr_tiny', 'dreamprvr_tiny_hard')
# Tensors whose gradients are zero except for rounding.
NO_GRADIENT = {
  *(
    f'{name}.self.key.bias'
    for name in (
      'query_encoder',
      'mean_clip_encoder',
      'video_qformer.cross_attention',
      'clip_encoder.e_attns.0',
      'frame_encoder.e_attns.0',
      'clip_encoder.ca',
      'frame_encoder.ca',
    )
  ),
  'clip_encoder.layer2.bias',
  'frame_encoder.layer2.bias',
}


@functools.cache
def tiny_variables():
  golden = load('dreamprvr_tiny')
  return official.from_official(part(golden, 'params'), shapes(TINY, 24, 20))


def ranks_of(golden):
  """Returns the drawn negatives, or the hardest caption without a draw."""
  num_videos = len(golden['batch/videos_mask'])
  hardest = np.zeros(num_videos, int)
  return {
    branch: (
      golden[f'draws/{branch}_t2v_rank'],
      golden.get(f'draws/{branch}_v2t_rank', hardest),
    )
    for branch in BRANCHES
  }


@jax.jit
def loss_and_gradients(params, constants, batch, ranks, draws):
  """One program for all cases, which have the same shapes."""

  def loss(params):
    variables = {'params': params, 'constants': constants}
    output = TINY.apply(variables, batch, perturbation_draws=draws)
    total, terms = OBJECTIVE(output, batch, ranks)
    return total, (terms, output)

  return jax.value_and_grad(loss, has_aux=True)(params)


def step_of(name, params):
  """Returns the losses of a case, its outputs and the gradients."""
  golden = load(name)
  draws = np.stack(
    [golden['draws/perturb_alpha'], golden['draws/perturb_beta']]
  )
  constants = tiny_variables()['constants']
  return jax.device_get(
    loss_and_gradients(
      params, constants, batch_of(golden), ranks_of(golden), draws
    )
  )


OPTIMIZER = bert_adam(warmup_linear(2.5e-4, 42 * 100))


@jax.jit
def updated(gradients, state, params):
  updates, state = OPTIMIZER.update(gradients, state, params)
  return optax.apply_updates(params, updates), state


@pytest.mark.parametrize('name', CASES)
def test_inference(name):
  golden = load(name)
  queries, videos, scores, seen = inference(
    TINY, tiny_variables(), batch_of(golden)
  )
  (registers,) = seen['generated_registers']
  fused = 0.6 * scores.clip + 0.4 * scores.frame
  for key, value in {
    'query': queries,
    'clip_tokens': seen['clip_input_tokens'][0],
    'global_tokens': seen['registers']['context_tokens'][0],
    'condition': seen['registers']['condition_tokens'][0],
    'mu': registers.gaussian.mu,
    'logvar': registers.gaussian.logvar,
    'registers': registers.tokens,
    'clip_feat': videos.clip_tokens,
    'frame_feat': videos.frame_tokens,
    'clip_scores': scores.clip,
    'frame_scores': scores.frame,
    'fused_scores': fused,
  }.items():
    assert distance(value, golden[f'eval/{key}']) < 1e-5, key


@pytest.mark.parametrize('name', CASES)
def test_training_outputs(name):
  golden = load(name)
  (_, (_, output)), _ = step_of(name, tiny_variables()['params'])
  clip, frame = output.clip_scores, output.frame_scores
  sampler, estimator = output.sampler, output.estimator
  noise = np.broadcast_to(estimator.noise, estimator.predicted.shape)
  for key, value in {
    'clip_scores': clip.cosine,
    'frame_scores': frame.cosine,
    'clip_scores_raw': clip.raw,
    'frame_scores_raw': frame.raw,
    'mu': sampler.mu,
    'logvar': sampler.logvar,
    'noise': noise,
    'predicted_noise': estimator.predicted,
    'queries': output.text_queries,
    'mean_queries': estimator.mean_queries,
  }.items():
    assert distance(value, golden[f'train/{key}']) < 1e-5, key


@pytest.mark.parametrize('name', CASES)
def test_losses(name):
  golden = load(name)
  (total, (terms, _)), _ = step_of(name, tiny_variables()['params'])
  assert distance(total, golden['loss/total']) < 1e-5
  # The released program divides this term by 1 + 1e-5.
  terms['diffusion'] = terms['diffusion'] * (1e-3 / (1e-3 + 1e-8))
  for ours, theirs in {
    'clip_nce': 'clip_nce_raw',
    'frame_nce': 'frame_nce_raw',
    'diversity': 'div_raw',
    'structure': 'qsp_raw',
    'variational': 'kl_raw',
    'diffusion': 'dre_raw',
  }.items():
    assert distance(terms[ours], golden[f'loss/{theirs}']) < 1e-5, ours
  triplets = terms['clip_triplet'] + terms['frame_triplet']
  assert distance(triplets, golden['loss/triplets']) < 1e-5


@pytest.mark.parametrize('name', CASES)
def test_gradients(name):
  golden = load(name)
  _, gradients = step_of(name, tiny_variables()['params'])
  ours = official.to_official({'params': gradients})
  theirs = part(golden, 'grads')
  assert set(ours) == set(theirs)
  for key in set(theirs) - NO_GRADIENT:
    assert distance(ours[key], theirs[key]) < 1e-4, key


@pytest.mark.parametrize('name', CASES)
def test_three_updates(name):
  golden = load(name)
  before = params = tiny_variables()['params']
  state = jax.jit(OPTIMIZER.init)(params)
  totals = []
  for _ in range(3):
    (total, _), gradients = step_of(name, params)
    totals.append(float(total))
    params, state = updated(gradients, state, params)
  assert distance(totals, golden['loss/trajectory']) < 1e-5

  after = part(golden, 'params_after_3')
  if name == 'dreamprvr_tiny':
    assert len(after) == 393
  ours = official.to_official({'params': jax.device_get(params)})
  start = official.to_official({'params': before})
  for key in set(after) & set(ours):
    assert distance(ours[key], after[key]) < 1e-5, key
    if key not in NO_GRADIENT:
      moved = after[key] - start[key]
      assert distance(ours[key] - start[key], moved) < 1e-2, key


def test_real_sizes():
  golden = load('dreamprvr_charades_dims')
  model = models.make('dreamprvr', num_registers=6)
  wanted = shapes(model, 1024, 1024)
  zeros = jax.tree.map(lambda s: np.zeros(s.shape, np.float32), wanted)
  state = {
    name: made_up(name, value.shape)
    for name, value in official.to_official(zeros).items()
  }
  variables = official.from_official(state, wanted)

  queries, videos, scores, seen = inference(model, variables, batch_of(golden))
  (registers,) = seen['generated_registers']
  # The first step of generation multiplies rounding errors by 204.
  assert distance(registers.tokens, golden['eval/registers']) < 5e-5
  for key, value in {
    'query': queries,
    'mu': registers.gaussian.mu,
    'logvar': registers.gaussian.logvar,
    'clip_feat': videos.clip_tokens,
    'frame_feat': videos.frame_tokens[:, ::4],
    'clip_scores': scores.clip,
    'frame_scores': scores.frame,
  }.items():
    assert distance(value, golden[f'eval/{key}']) < 1e-5, key


def made_up(name, shape):
  """Returns a weight by the recipe of the golden file."""
  x = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
  if len(shape) == 1:
    x = 1 + 0.1 * x if name.endswith('.weight') else 0.1 * x
  else:
    x = 0.05 * x
  return x.astype(np.float32)
