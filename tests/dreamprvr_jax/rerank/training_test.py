"""Training a re-ranker: golden updates, and a task that can be learnt."""

import jax
import numpy as np
import optax
import pytest

from dreamprvr_jax.devices import meshes
from dreamprvr_jax.diffusion.process import q_sample_rows
from dreamprvr_jax.diffusion.schedule import cosine_schedule
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.interop.official import from_official, to_official
from dreamprvr_jax.losses.listwise import listwise_entropy
from dreamprvr_jax.models.generator import (
  TextToVideoGenerator,
  VideoToTextGenerator,
)
from dreamprvr_jax.rerank import training
from dreamprvr_jax.rerank.candidates import best_candidates, training_lists
from dreamprvr_jax.rerank.features import RerankFeatures, restore, save
from dreamprvr_jax.rerank.networks import build_reranker
from dreamprvr_jax.rerank.reranker import Reranker
from dreamprvr_jax.train.bert_adam import bert_adam, warmup_cosine
from dreamprvr_jax.train.step import global_norm
from tests.helpers import disks
from tests.helpers.golden import distance, load, part
from tests.helpers.models import generator

SETTINGS = {
  'network': 'generator',
  'diffusion': True,
  'num_steps': 20,
  'schedule': 'cosine',
  'negative': 0.0,
  'pool_temperature': 1.0,
  'mask_mode': 'before',
  'feature_norm': 'scaled',
  'feature_scale': 10.0,
  'sampling_steps': 5,
  'eta': 0.0,
}


def test_rate():
  rate = warmup_cosine(1e-4, 30)
  factors = [float(rate(k)) / 1e-4 for k in range(6)]
  np.testing.assert_allclose(
    factors[:4], [0, 1 / 3, 2 / 3, 0.9755283], rtol=1e-5
  )
  assert float(rate(30)) == pytest.approx(0, abs=1e-9)


def test_golden_updates():
  """Both generators get three and five updates, clipped together."""
  file = load('diffusionret_tiny')
  frames, texts = file['batch/video_feat'], file['batch/cls']
  mask = file['batch/video_mask'] > 0
  released = {'mask_mode': 'after', 'feature_norm': 'raw'}
  models = {
    't2v': generator(TextToVideoGenerator, 32, **released),
    'v2t': generator(VideoToTextGenerator, 32, **released),
  }
  names = {'t2v': 'text_to_video', 'v2t': 'video_to_text'}
  whole = np.ones((10, 9), bool)
  inputs = {}
  for direction in models:
    lists = file[f'train/{direction}_lists']
    inputs[direction] = (
      (texts, frames[lists], mask[lists], whole)
      if direction == 't2v'
      else (frames, texts[lists], mask, whole)
    )
  steps = file['draws/steps']
  start = np.zeros((10, 9), np.float32)
  start[:, 0] = 1
  noisy_rows = jax.jit(
    lambda noise: q_sample_rows(cosine_schedule(50), start, noise, steps)
  )
  noisy = {d: noisy_rows(file[f'draws/noise_{d}']) for d in models}
  params = {}
  for d, model in models.items():
    template = jax.eval_shape(
      lambda model=model, d=d: model.init(
        jax.random.key(0), noisy[d], steps, *inputs[d]
      )
    )
    found = from_official(part(file, 'params'), template, names[d])
    params[d] = found['params']
  before = {d: to_official({'params': p}, names[d]) for d, p in params.items()}

  def loss(params):
    rows = [
      listwise_entropy(
        model.apply({'params': params[d]}, noisy[d], steps, *inputs[d]),
        whole,
        100.0,
      ).mean()
      for d, model in models.items()
    ]
    return sum(rows)

  optimizer = bert_adam(
    warmup_cosine(float(file['hyper/lr']), int(file['hyper/total_steps'])),
    weight_decay=float(file['hyper/decay']),
    global_norm=float(file['hyper/max_grad_norm']),
    b2=float(file['hyper/beta2']),
  )

  @jax.jit
  def step(params, state, average):
    total, gradients = jax.value_and_grad(loss)(params)
    updates, state = optimizer.update(gradients, state, params)
    params = optax.apply_updates(params, updates)
    decay = float(file['hyper/ema'])
    average = jax.tree.map(
      lambda mean, new: decay * mean + (1 - decay) * new, average, params
    )
    return params, state, average, total, global_norm(gradients)

  state = jax.jit(optimizer.init)(params)
  factor = float(file['hyper/ema_start_factor'])
  average = jax.tree.map(lambda p: np.float32(factor * p), params)
  totals, norms, kept = [], [], {}
  for number in range(1, 6):
    params, state, average, total, norm = step(params, state, average)
    totals.append(float(total))
    norms.append(float(norm))
    kept[number] = params
  np.testing.assert_allclose(totals, file['loss/trajectory'], rtol=1e-5)
  np.testing.assert_allclose(norms, file['loss/gradient_norms'], rtol=1e-4)
  for d in models:
    for number in (3, 5):
      after = to_official({'params': jax.device_get(kept[number][d])}, names[d])
      for name, value in after.items():
        if name.endswith('decoder.2.bias'):
          continue
        moved = file[f'params_after_{number}/{name}'] - before[d][name]
        assert distance(value - before[d][name], moved) < 5e-3, name
    mean = to_official({'params': jax.device_get(average[d])}, names[d])
    for name, value in mean.items():
      if not name.endswith('decoder.2.bias'):
        assert distance(value, file[f'ema_after_5/{name}']) < 1e-5, name


def task(videos=24, per_video=2, width=16, seed=0):
  """Returns queries that equal one token of their video except for noise; the
  retriever's scores are noise, too."""
  rng = np.random.default_rng(seed)
  tokens = rng.normal(size=(videos, 4, width)).astype(np.float32)
  right = np.repeat(np.arange(videos), per_video)
  chosen = tokens[right, rng.integers(0, 4, len(right))]
  queries = chosen + 0.1 * rng.normal(size=chosen.shape)
  return (
    RerankFeatures(
      queries=queries.astype(np.float32),
      tokens=tokens,
      token_mask=np.ones((videos, 4), bool),
      scores=rng.uniform(0, 0.1, (len(right), videos)).astype(np.float32),
    ),
    right,
  )


def train(settings, updates, devices=1, features=None, batch_size=16):
  features, right = features or task()
  mesh = meshes.make_mesh(devices)
  model = build_reranker({**SETTINGS, **settings}, features.queries.shape[1])
  optimizer = bert_adam(lambda _: 3e-3, weight_decay=0.0, b2=0.98)
  init = jax.jit(model.init, static_argnums=(1, 2))
  variables = init(jax.random.key(1), 4, features.queries.shape[1])
  feeder = training.ListFeeder(
    jax.device_put(features.on_device(), meshes.replicated(mesh)),
    training_lists(features.scores, right, 10),
    mesh,
    batch_size=batch_size,
    seed=3,
    model=model,
    optimizer=optimizer,
    temperature=100.0,
    decay=0.9,
  )
  create = jax.jit(training.create_state, static_argnums=1)
  state = meshes.replicate(create(variables, optimizer), mesh)
  losses = []
  for number in range(updates):
    state, scalars, done = feeder.advance(state, number, 1)
    assert done == 1
    losses.append(float(scalars['loss/total']))
  feeder.close()
  return model, state, losses


@pytest.mark.parametrize(
  'settings',
  [{'diffusion': False}, {'network': 'cross_attention'}],
  ids=['no diffusion', 'cross attention'],
)
def test_a_separable_task_is_learnt(settings):
  _, _, losses = train(settings, 150)
  assert losses[0] > 2
  assert losses[-1] < 0.1


def test_with_diffusion_lists_come_into_order():
  features, right = task()
  model, state, losses = train({}, 300)
  assert np.mean(losses[-20:]) < 0.3 * losses[0]
  candidates = best_candidates(features.scores, right, 24)
  ask = Reranker(model, meshes.make_mesh(1), features, seed=0)
  found = ask(state.variables(), candidates.videos, num_steps=5)
  best = candidates.videos[np.arange(len(right)), found.argmax(axis=1)]
  assert np.mean(best == right) > 0.8


def test_eight_devices_train_as_one():
  one, eight = (train({}, 4, devices)[2] for devices in (1, 8))
  np.testing.assert_allclose(one, eight, rtol=2e-4)


def test_what_is_not_finite_changes_nothing():
  features, right = task()
  broken = features.replace(queries=np.full_like(features.queries, np.inf))
  _, state, _ = train({}, 3, features=(broken, right))
  assert not bool(state.alive)
  assert int(state.step) == 0
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.params))


def test_results_depend_on_neither_chunks_nor_devices():
  features, right = task()
  model, state, _ = train({}, 5)
  lists = best_candidates(features.scores, right, 6).videos
  variables = jax.device_get(state.variables())
  runs = [
    Reranker(model, meshes.make_mesh(devices), features, seed=7, chunk=chunk)(
      variables, lists, num_steps=4
    )
    for devices, chunk in ((1, 64), (1, 5), (8, 16))
  ]
  for other in runs[1:]:
    np.testing.assert_allclose(other, runs[0], atol=1e-6)
  noisy = Reranker(model, meshes.make_mesh(1), features, seed=7)
  again = noisy(variables, lists, num_steps=4, noise=1)
  assert np.abs(again - runs[0]).max() > 1e-5
  single = noisy(variables, lists, how='single')
  np.testing.assert_array_equal(
    single, noisy(variables, lists, how='single', noise=1)
  )


def test_eta_draws_noise_of_its_own():
  features, right = task()
  lists = best_candidates(features.scores, right, 6).videos
  found = []
  for eta in (0.0, 1.0):
    model, state, _ = train({'eta': eta}, 2)
    ask = Reranker(model, meshes.make_mesh(1), features, seed=7)
    found.append(ask(state.variables(), lists, num_steps=4))
  assert np.isfinite(found[1]).all()
  assert np.abs(found[0] - found[1]).max() > 1e-6


def test_features_are_kept_and_known_again(tmp_path):
  features, _ = task()
  path = tmp_path / 'sub' / 'features.npz'
  assert restore(path, 'a') is None
  save(path, features, 'a')
  again = restore(path, 'a')
  for name, value in vars(features).items():
    np.testing.assert_array_equal(getattr(again, name), value)
  assert restore(path, 'b') is None
  # A damaged shape could ask for any amount of memory.
  whole = path.read_bytes()
  shape = str(features.tokens.shape)
  path.write_bytes(whole.replace(shape.encode(), f'(9{shape[2:]}'.encode()))
  assert path.read_bytes() != whole
  assert restore(path, 'a') is None
  path.write_bytes(path.read_bytes()[:500])
  assert restore(path, 'a') is None


def test_features_that_do_not_fit_on_the_disk_leave_the_former(tmp_path):
  features, _ = task()
  path = tmp_path / 'features.npz'
  save(path, features, 'a')
  with disks.short_files(1000), pytest.raises(OSError, match='File too large'):
    save(path, features, 'b')
  assert [*tmp_path.iterdir()] == [path]
  assert restore(path, 'a') is not None


@pytest.mark.parametrize(
  ('settings', 'words'),
  [
    ({'network': 'mlp'}, "'mlp'; choose from"),
    ({'schedule': 'sine'}, "'sine' is unknown"),
    ({'sampling_steps': 99}, '99 steps is not possible'),
    ({'schedule': 'linear'}, 'at least 21 steps'),
  ],
)
def test_unknown_options(settings, words):
  with pytest.raises(UserError, match=words):
    build_reranker({**SETTINGS, **settings}, 16)
