"""The family against numbers of the released programs, in tests/golden.

Tolerances are relative Frobenius norms: outputs and losses 1e-5, gradients
1e-4 per tensor, weights after three updates 1e-5, their moves 1e-2.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dreamprvr_jax.interop import official
from dreamprvr_jax.models import base
from dreamprvr_jax.train.bert_adam import bert_adam, warmup_linear
from tests.helpers import golden as files
from tests.helpers.family_cases import CASES

every_case = pytest.mark.parametrize('case', CASES.values(), ids=CASES)


@functools.cache
def variables_of(case):
  wanted = files.shapes(case.model, 24, 20, case.model.max_words)
  state = files.part(files.load(case.file), 'params')
  if case.name == 'holmes_multi':
    # The file has only the additional tensors.
    state = {**files.part(files.load('holmes_tiny'), 'params'), **state}
  return official.from_official(state, wanted, case.name)


def ranks_of(golden, prefix='draws', hard=True):
  """Returns the drawn negatives, or the hardest caption without a draw."""
  none = np.zeros(len(golden['batch/videos_mask']), int)
  draws = files.part(golden, prefix)
  ranks = {
    branch: (
      draws.get(f'{branch}_t2v_rank'),
      draws.get(f'{branch}_v2t_rank', none),
    )
    for branch in ('clip', 'frame')
  }
  guided = draws.get('frame_row_rank'), draws.get('frame_column_rank')
  return {**ranks, 'guided': guided, 'hard': np.asarray(hard)}


@functools.cache
def step(case):
  golden = files.load(case.file)
  batch, ranks = files.batch_of(golden), ranks_of(golden)
  draws = {}
  if case.name == 'ral':
    sides = [golden[f'draws/eps_{side}'] for side in ('text', 'video')]
    draws = {'proxy_draws': np.stack(sides)}

  def loss(params):
    output = case.model.apply({'params': params}, batch, **draws)
    total, terms = case.objective(output, batch, ranks)
    return total, (terms, output)

  return jax.jit(jax.value_and_grad(loss, has_aux=True))


@functools.cache
def first_step(case):
  return jax.device_get(step(case)(variables_of(case)['params']))


def skipped(case, name):
  return name.endswith(case.no_gradient)


@every_case
def test_inference(case):
  golden = files.load(case.file)
  batch = files.batch_of(golden)
  queries, videos, scores, _ = files.inference(
    case.model, variables_of(case), batch
  )
  weights = golden.get('hyper/fusion_weights', (0.6, 0.4))
  fused = weights[0] * scores.clip + weights[1] * scores.frame
  frames = videos.frame_tokens
  expected = files.part(golden, 'eval')
  if case.name == 'ms_sl':
    # The released program does not mask the padded frames of its output.
    frames = np.where(batch.frame_mask[..., None], frames, 0)
    expected['frame_feat'] = (
      expected['frame_feat'] * batch.frame_mask[..., None]
    )
  if expected['frame_feat'].ndim == 2:
    frames = frames[:, 0]
  if case.name == 'holmes_multi':
    words = queries.reshape(len(queries), -1, 32)[:, 1:]
    assert files.distance(words, expected['query_tokens']) < 1e-5
  if case.name == 'ral':
    words = queries.reshape(len(queries), -1, 32)[:, 1:]
    theirs = expected['frame_query_tokens'] * batch.word_mask[..., None]
    assert files.distance(words, theirs) < 1e-5
  ours = {
    'query': case.model.pooled(queries),
    'frame_feat': frames,
    'clip_scores': scores.clip,
    'frame_scores': scores.frame,
    'fused_scores': fused,
  }
  if 'clip_feat' in expected:
    ours['clip_feat'] = videos.clip_tokens
  for key, value in ours.items():
    assert files.distance(value, expected[key]) < 1e-5, key


@every_case
def test_short_videos(case):
  golden = files.load(case.file)
  expected = files.part(golden, 'eval_short')
  if not expected:
    pytest.skip('no such numbers')
  # Two videos twice: the shapes of the test above, and so its program.
  batch = files.shortened(files.batch_of(golden), [0, 2, 3, 0, 2], 60)
  model = case.model
  if case.name == 'gmmformer':
    model = model.clone(frame_length='batch')
  # Our program always has 128 frames; the rest is padding.
  pad = ((0, 0), (0, 68))
  batch = batch.replace(
    frame_features=np.pad(batch.frame_features, (*pad, (0, 0))),
    frame_mask=np.pad(batch.frame_mask, pad),
  )
  _, _, scores, _ = files.inference(model, variables_of(case), batch)
  for key, value in (
    ('clip_scores', scores.clip),
    ('frame_scores', scores.frame),
  ):
    assert files.distance(value[:, :3], expected[key]) < 1e-5, key


@every_case
def test_training_outputs(case):
  golden = files.part(files.load(case.file), 'train')
  (_, (_, output)), _ = first_step(case)
  clip = output.clip_scores
  frame = output.frame_scores or output.guided_scores
  ours = {
    'clip_scores': clip.cosine,
    'clip_scores_raw': clip.raw,
    'frame_scores': frame.cosine,
    'frame_scores_raw': frame.raw,
  }
  if output.guided_scores is None:
    queries = 'student_query' if case.name == 'msc' else 'queries'
    ours[queries] = output.text_queries
  if output.cone is not None:
    ours |= {
      'cone_video': output.cone.videos,
      'cone_text': output.cone.captions,
      'curvature': output.cone.curvature,
    }
  if output.alignment is not None:
    ours |= {
      'projected_clips': output.alignment.clips,
      'projected_frames': output.alignment.frames,
    }
  for key, value in ours.items():
    assert files.distance(value, golden[key]) < 1e-5, key


@every_case
def test_losses(case):
  golden = files.part(files.load(case.file), 'loss')
  (total, (terms, _)), _ = first_step(case)
  for ours, theirs in case.terms:
    assert files.distance(terms[ours], golden[theirs]) < 1e-5, ours
  if 'edl_clip_raw' in golden:
    kinds = ('frame', 'clip', 'combined')
    inter = sum(golden[f'edl_{kind}_raw'] for kind in kinds)
    assert files.distance(terms['inter_evidence'], inter) < 1e-5
  assert files.distance(total, golden['total']) < 1e-5


@every_case
def test_soft_negatives(case):
  golden = files.load(case.file)
  expected = files.part(golden, 'soft/loss')
  if not expected:
    pytest.skip('no such numbers')
  (_, (_, output)), _ = first_step(case)
  ranks = ranks_of(golden, 'soft/draws', hard=False)
  total, _ = jax.jit(case.objective.__call__)(
    output, files.batch_of(golden), ranks
  )
  assert files.distance(total, expected['total']) < 1e-5


@every_case
def test_gradients(case):
  theirs = files.part(files.load(case.file), 'grads')
  _, gradients = first_step(case)
  ours = official.to_official({'params': gradients}, case.name)
  if case.name == 'holmes_multi':
    assert set(theirs) < set(ours)
  else:
    assert set(ours) == set(theirs)
  for key in theirs:
    # These follow in float64.
    if not skipped(case, key) and key not in case.cancelling:
      bar = next((b for end, b in case.loose if key.endswith(end)), 1e-4)
      assert files.distance(ours[key], theirs[key]) < bar, key


@pytest.fixture
def float64():
  jax.config.update('jax_enable_x64', True)
  yield
  jax.config.update('jax_enable_x64', False)


@pytest.mark.usefixtures('float64')
def test_gradients_that_nearly_cancel():
  """The rounding of float32 alone changes one of the scales by some 2 %, so
  all are compared in float64, with a lower bar than in float32."""
  case = CASES['hlformer_tiny']
  golden = files.load(case.file)
  in_float64 = functools.partial(
    jax.tree.map,
    lambda x: np.asarray(x, np.float64 if x.dtype == np.float32 else x.dtype),
  )
  batch, ranks = in_float64(files.batch_of(golden)), ranks_of(golden)

  def loss(params):
    return case.objective(
      case.model.apply({'params': params}, batch), batch, ranks
    )[0]

  gradients = jax.jit(jax.grad(loss))(in_float64(variables_of(case)['params']))
  ours = official.to_official({'params': jax.device_get(gradients)}, case.name)
  theirs = files.part(golden, 'grads')
  ends = tuple(end for end, _ in case.loose)
  names = [key for key in theirs if key.endswith(ends)]
  assert len(names) == 16
  assert {*case.cancelling} < {*names}
  for key in names:
    assert ours[key].dtype == np.float64
    assert files.distance(ours[key], theirs[key]) < 2e-3, key


def updates_of(optimizer):
  """Returns a compiled function from (gradients, state, parameters) to the next
  parameters and state."""

  @jax.jit
  def update(gradients, state, params):
    updates, state = optimizer.update(gradients, state, params)
    return optax.apply_updates(params, updates), state

  return update


@every_case
def test_three_updates(case):
  golden = files.load(case.file)
  optimizer = bert_adam(warmup_linear(2.5e-4, 42 * 100))
  before = params = variables_of(case)['params']
  state = jax.jit(optimizer.init)(params)
  totals = []

  update = updates_of(optimizer)
  for _ in range(3):
    params = case.model.constrain(params)
    (total, _), gradients = step(case)(params)
    totals.append(float(total))
    params, state = update(gradients, state, params)
  assert files.distance(totals, golden['loss/trajectory']) < 1e-5

  after = files.part(golden, 'params_after_3')
  if not after:
    return
  ours = official.to_official({'params': jax.device_get(params)}, case.name)
  start = official.to_official({'params': before}, case.name)
  found = set(after) & set(ours)
  assert found
  for key in found:
    # A scalar near zero is compared only by its move.
    if np.linalg.norm(after[key]) > 1e-3:
      assert files.distance(ours[key], after[key]) < 1e-5, key
    if not skipped(case, key):
      moved = after[key] - start[key]
      bar = 3e-2 if moved.size == 1 else 1e-2
      assert files.distance(ours[key] - start[key], moved) < bar, key


@pytest.mark.parametrize('variant', ['low', 'high', 'saturated'])
def test_bounds_of_hlformers_scalars(variant):
  case = CASES['hlformer_tiny']
  golden = files.load(case.file)
  expected = files.part(golden, f'variants/{variant}')
  given = files.part(expected, 'params')
  wanted = files.shapes(case.model, 24, 20)
  params = official.from_official(
    {**files.part(golden, 'params'), **given}, wanted, case.name
  )['params']

  used = official.to_official(
    {'params': case.model.constrain(params)}, case.name
  )
  for key, value in files.part(expected, 'params_used').items():
    np.testing.assert_allclose(used[key], value, rtol=1e-6, err_msg=key)
  # The forward pass applies the bounds by itself.
  (total, (terms, _)), gradients = jax.device_get(step(case)(params))
  assert files.distance(total, expected['loss/total']) < 1e-5
  assert files.distance(terms['cone'], expected['loss/cone_raw']) < 1e-5
  ours = official.to_official({'params': gradients}, case.name)
  for key, value in files.part(expected, 'grads').items():
    if np.linalg.norm(value) > 1e-8:
      assert files.distance(ours[key], value) < 1e-3, key


@pytest.mark.parametrize('file', ['gmmformer_v2_tiny', 'hlformer_tiny'])
def test_scores_of_padding(file):
  """Pairs whose best frame is padding score 0 and pass no gradient."""
  golden = files.load(file)
  floor = files.part(golden, 'floor')
  frames = golden['eval/frame_feat']

  def total(queries):
    cosine, raw = base.token_scores(queries, frames)
    return jnp.sum(floor['weight'] * (cosine + 0.1 * raw)), (cosine, raw)

  differentiated = jax.jit(jax.grad(total, has_aux=True))
  gradient, (cosine, raw) = differentiated(floor['queries'])
  assert files.distance(cosine, floor['frame_scores']) < 1e-5
  assert files.distance(raw, floor['frame_scores_raw']) < 1e-5
  assert files.distance(gradient, floor['grad_queries']) < 1e-4


def test_what_mscs_optimiser_decays():
  case = CASES['msc_tiny']
  golden = files.load(case.file)
  optimizer = bert_adam(warmup_linear(2e-3, 5, 0.4))
  before = params = variables_of(case)['params']
  state = jax.jit(optimizer.init)(params)
  totals = []
  update = updates_of(optimizer)
  for _ in range(5):
    (total, _), gradients = step(case)(params)
    totals.append(float(total))
    params, state = update(gradients, state, params)
  assert files.distance(totals, golden['strong/trajectory']) < 1e-5
  ours = official.to_official({'params': jax.device_get(params)}, case.name)
  start = official.to_official({'params': before}, case.name)
  for key, after in files.part(golden, 'strong/params_after_5').items():
    moved = after - start[key]
    assert files.distance(ours[key] - start[key], moved) < 2e-4, key
