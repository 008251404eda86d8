"""TRACE as part of a model: off, weight 0, in training, in evaluation."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from dreamprvr_jax.devices import meshes
from dreamprvr_jax.devices.pace import Pace
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.evaluation import encoder
from dreamprvr_jax.evaluation.evaluator import Evaluator
from dreamprvr_jax.models.dreamprvr import DreamPRVR
from dreamprvr_jax.models.template import variable_shapes
from dreamprvr_jax.models.traced import HEAD, SCHEDULE, SHARE
from dreamprvr_jax.objectives.registry import build_objective
from dreamprvr_jax.objectives.terms import TERMS
from dreamprvr_jax.progress import Watch
from dreamprvr_jax.train.bert_adam import bert_adam, warmup_linear
from dreamprvr_jax.train.second_phase import held, rising_share
from dreamprvr_jax.train.step import create_state, init_variables, update
from dreamprvr_jax.types import Batch, parameter_count
from tests.helpers import models
from tests.helpers.models import apply
from tests.helpers.retrieval import features, task_of

WIDTH, CLIPS, FRAMES, FEATURES = 8, 3, 5, 6
VIDEOS, QUERIES = 21, 19
FACTORS = {
  'clip_nce': 0.02,
  'frame_nce': 0.04,
  'diversity': 0.003,
  'structure': 0.01,
}
GENERATION = {'variational': 1e-4, 'diffusion': 1e-3}


def build(**options):
  # Pooled registers compile in half of the time of generated ones.
  sizes = {
    'register_source': 'adaptive_pooling',
    'width': WIDTH,
    'num_heads': 2,
    'num_clips': CLIPS,
    'max_frames': FRAMES,
    'max_words': 1,
    'block_widths': (0.0, 1.0),
    'num_registers': 2,
    'diffusion_steps': 2,
    'diffusion_layers': 1,
    **models.NO_DROPOUT,
  }
  return models.make('dreamprvr', **{**sizes, **options})


PLAIN, TRACED = build(), build(trace='query')
WITHOUT_WEIGHT = build(trace='query', trace_weight=0.0)


@functools.cache
def data():
  return features(VIDEOS, QUERIES, width=FEATURES, clips=CLIPS, frames=FRAMES)


def batch():
  """Returns a batch of 8 videos with 10 captions, one of each is padding."""
  given = data()
  return Batch(
    clip_features=given['clips'][:8],
    frame_features=given['frames'][:8],
    frame_mask=given['mask'][:8],
    video_mask=np.arange(8) < 7,
    word_features=given['words'][:10],
    word_mask=given['word_mask'][:10],
    caption_mask=np.arange(10) < 9,
    caption_video=np.array([0, 0, 1, 2, 2, 3, 4, 5, 6, 7], np.int32),
  )


@functools.cache
def variables(model):
  return models.drawn(model, batch())


def random_maps(found, seed=3):
  """Returns variables whose maps are not the identity."""
  rng = np.random.default_rng(seed)
  maps = jax.tree.map(
    lambda x: rng.normal(size=x.shape).astype(np.float32),
    found['params'][HEAD],
  )
  return {**found, 'params': {**found['params'], HEAD: maps}}


def without_maps(params):
  return {name: value for name, value in params.items() if name != HEAD}


def objective(model, **factors):
  return build_objective(
    'dreamprvr', model, **models.loss_fields(**FACTORS, **factors)
  )


def trained(model, factors, optimizer, steps, **others):
  """Returns the parameters and scalars after each update."""
  step = jax.jit(
    functools.partial(
      update,
      model=model,
      objective=objective(model, **factors),
      optimizer=optimizer,
      seed=0,
      hard_from_step=1,
      **others,
    )
  )
  begin = jax.jit(create_state, static_argnums=1)
  state, rows = begin(variables(model), optimizer), []
  for _ in range(steps):
    state, scalars = step(state, batch())
    rows.append((jax.device_get(state), jax.device_get(scalars)))
  return rows


def assert_same(one, other):
  jax.tree.map(np.testing.assert_array_equal, one, other)


def test_size():
  counts = [
    parameter_count(variable_shapes(model, batch())['params'])
    for model in (PLAIN, TRACED)
  ]
  assert counts[1] - counts[0] == 4 * WIDTH**2


def test_defaults_are_those_of_the_config():
  # A checkpoint without these keys is built with the defaults of the class.
  fields = {field.name: field for field in dataclasses.fields(DreamPRVR)}
  for name, value in models.fields('dreamprvr').items():
    if name.startswith('trace'):
      assert fields[name].default == value, name


@pytest.mark.long
def test_weight_0_is_dreamprvr_bit_for_bit():
  whole = {'register_source': 'diffusion', 'dropout': 0.1, 'input_dropout': 0.1}
  model, without = (
    build(**whole),
    build(**whole, trace='query', trace_weight=0.0),
  )
  plain, traced = (
    jax.device_get(init_variables(made, batch(), 0))
    for made in (model, without)
  )
  assert_same(plain['params'], without_maps(traced['params']))
  optimizer = bert_adam(warmup_linear(0.01, 10, 0.3))
  ours = trained(without, GENERATION, optimizer, 2)
  theirs = trained(model, GENERATION, optimizer, 2)
  for (one, scalars), (other, expected) in zip(ours, theirs, strict=True):
    assert_same(without_maps(one.params), other.params)
    assert_same(scalars, expected)
  outputs = [
    jax.jit(functools.partial(owner.apply, train=True))(
      found, batch(), rngs=stream_keys()
    )
    for owner, found in ((model, plain), (without, traced))
  ]
  videos = dataclasses.replace(outputs[1].videos, registers=None)
  assert_same(
    outputs[0],
    dataclasses.replace(outputs[1], trace_scores=None, videos=videos),
  )
  one = meshes.make_mesh(1)
  scores = [
    Evaluator(owner, one, task_of(data()))
    .run(found, keep_scores=True, show=False)[1]
    .scores
    for owner, found in ((model, plain), (without, traced))
  ]
  np.testing.assert_array_equal(*scores)


def stream_keys():
  streams = ('dropout', 'perturbation', 'registers', 'proxies')
  return dict.fromkeys(streams, jax.random.key(1))


def test_training_computes_trace_scores():
  for model, there in ((PLAIN, False), (WITHOUT_WEIGHT, True)):
    run = functools.partial(model.apply, train=True, rngs=stream_keys())
    output = jax.eval_shape(run, variables(model), batch())
    assert (output.trace_scores is not None) == there


def test_first_phase_moves_the_maps_alone():
  factors = {'trace_nce': 0.02, 'trace_triplet': 0.05}
  inner = bert_adam(warmup_linear(0.01, 10, 0.0))
  optimizer = held(inner, lambda path: path[0].key == HEAD, 2)
  begin = variables(TRACED)['params']
  rows = trained(
    TRACED,
    factors,
    optimizer,
    3,
    constants=rising_share(first=0, rise=2, steps_per_epoch=1),
  )
  states = [state for state, _ in rows]
  for state in states[:2]:
    assert_same(without_maps(state.params), without_maps(begin))
  moved = lambda one, other: [
    bool(np.any(x != y))
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
  ]
  assert all(moved(states[0].params[HEAD], begin[HEAD]))
  third = moved(without_maps(states[2].params), without_maps(begin))
  assert np.mean(third) > 0.9
  # Until then the moments of what was held are zero.
  moments = states[1].opt_state.inner[1].first
  assert not any(np.any(x) for x in jax.tree.leaves(without_maps(moments)))
  assert all(np.any(x) for x in jax.tree.leaves(moments[HEAD]))
  shares = [state.constants[SCHEDULE][SHARE] for state in states]
  assert shares == [0.0, 0.5, 1.0]
  terms = rows[0][1]
  assert terms['loss/trace_nce'] > 0
  assert terms['loss/trace_triplet'] > 0


def test_losses_against_plain_ones():
  scores = np.random.default_rng(4).normal(size=(10, 8)).astype(np.float32)
  made = objective(TRACED, trace_nce=1.0, trace_triplet=1.0, margin=0.3)

  class Output:
    """What these losses read."""

    def __init__(self, scores):
      self.trace_scores = scores

  given = batch()

  @jax.jit
  def losses(scores, ranks):
    return [
      TERMS[name].value(made, Output(scores), given, ranks)
      for name in ('trace_nce', 'trace_triplet')
    ]

  # A rank is one of a caption's other videos, and one of a video's other
  # captions, in descending order.
  t2v, v2t = np.array([1, 2, 3] * 3 + [1]), np.array([0, 1] * 4)
  nce, triplet = losses(scores, {'frame': (t2v, v2t)})
  real = scores[:9, :7] / 0.07
  own = real[np.arange(9), given.caption_video[:9]]
  expected = np.mean(np.log(np.exp(real).sum(axis=1)) - own)
  np.testing.assert_allclose(nce, expected, rtol=1e-5)

  real, video = scores[:9, :7], given.caption_video[:9]
  captions = []
  for n, v in enumerate(video):
    others = np.sort(np.delete(real[n], v))[::-1]
    captions.append(max(0, 0.3 + others[t2v[n] - 1] - real[n, v]))
  videos = []
  for v in range(7):
    others = np.sort(real[video != v, v])[::-1]
    mean = real[video == v, v].mean()
    videos.append(max(0, 0.3 + others[v2t[v]] - mean))
  np.testing.assert_allclose(
    triplet, np.mean(captions) + np.mean(videos), rtol=1e-5
  )


@pytest.mark.parametrize('routing', ['query', 'shuffled', 'best_frame'])
def test_score_is_the_sum(routing):
  model = build(trace=routing, trace_weight=0.5)
  found = random_maps(variables(model))
  given = data()
  features = given['clips'], given['frames'], given['mask']
  videos = apply(model, found, *features, method='encode_video')
  words = given['words'], given['word_mask']
  queries = apply(model, found, *words, method='encode_query')
  trace = apply(model, found, queries, videos, method='trace_scores')
  scores = apply(model, found, queries, videos, method='score')
  np.testing.assert_allclose(scores.addition, 0.5 * trace, rtol=1e-6)
  half = {**found, SCHEDULE: {SHARE: np.float32(0.5)}}
  less = apply(model, half, queries, videos, method='score')
  np.testing.assert_allclose(less.addition, 0.25 * trace, rtol=1e-6)
  plain = {'params': without_maps(found['params'])}
  both = apply(PLAIN, plain, queries, videos, method='score')
  assert both.addition is None
  fused = 0.6 * both.clip + 0.4 * both.frame + 0.5 * trace
  evaluator = Evaluator(model, meshes.make_mesh(1), task_of(data()))
  ranking = evaluator.run(found, keep_scores=True, show=False)[1]
  np.testing.assert_allclose(ranking.scores, fused, atol=1e-5)


@pytest.mark.parametrize('devices', [(8, 1), (8, 4)])
def test_devices_blocks_and_parts(devices, monkeypatch):
  """Eight devices, small blocks and parts give the scores of one device at
  once."""
  found = random_maps(variables(TRACED))

  def run(mesh, pace):
    evaluator = Evaluator(TRACED, mesh, task_of(data()), pace=pace)
    ranking = evaluator.run(found, keep_scores=True, show=False)[1]
    parts = evaluator.encode(found, Watch(show=False))[1].layout.parts
    return ranking, parts

  whole, parts = run(
    meshes.make_mesh(1), Pace(products=2**22, work=1e9, encode_at_once=False)
  )
  assert parts == 1
  monkeypatch.setattr(
    encoder, 'free_memory', lambda mesh: 6000 / mesh.shape['corpus']
  )
  small = Pace(products=200, work=0, encode_at_once=False)
  other, parts = run(meshes.make_mesh(*devices), small)
  assert parts > 1
  np.testing.assert_allclose(whole.scores, other.scores, atol=1e-5)
  np.testing.assert_array_equal(
    whole.by_branch['fused'], other.by_branch['fused']
  )


def test_what_the_contract_says():
  assert PLAIN.token_score == WITHOUT_WEIGHT.token_score == 'cosine'
  assert not PLAIN.reads_registers
  assert not WITHOUT_WEIGHT.reads_registers
  assert TRACED.token_score == 'other'
  assert TRACED.reads_registers


def test_a_model_without_registers_is_refused():
  model = build(trace='query', num_registers=0)
  with pytest.raises(UserError, match='but the model makes no registers; set'):
    init_variables(model, batch(), 0)
  with pytest.raises(UserError, match='has no trace scores to compute it from'):
    objective(PLAIN, trace_nce=0.1)
  with pytest.raises(UserError, match="routing 'best' is unknown"):
    init_variables(build(trace='best'), batch(), 0)
  with pytest.raises(UserError, match="trace_start is 'zero'; choose from"):
    init_variables(build(trace='query', trace_start='zero'), batch(), 0)
