"""Common behaviour of the models of the family, and of a new model."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.common import MODELS as CONFIGS
from configs.common import TRAINED
from dreamprvr_jax.devices import meshes
from dreamprvr_jax.models import base, registry
from dreamprvr_jax.models.contract import Model
from dreamprvr_jax.models.outputs import RetrievalOutput
from dreamprvr_jax.models.registry import MODELS, build_model
from dreamprvr_jax.objectives.registry import build_objective
from dreamprvr_jax.train.bert_adam import bert_adam, warmup_linear
from dreamprvr_jax.train.step import (
  compile_update,
  create_state,
  init_variables,
)
from dreamprvr_jax.types import Batch, VideoEncoding
from tests.helpers import models

VIDEOS, CAPTIONS, WORDS = 16, 32, 4
# The smallest config that still has all parts.
SMALL = {
  'width': 8,
  'num_heads': 2,
  'block_widths': (0.0, 1.0),
  'lorentz_widths': (0.0, 1.0),
  'lorentz_dim': 7,
  'num_registers': 2,
  'diffusion_steps': 2,
  'diffusion_layers': 1,
  'num_layers': 1,
  'num_positions': 128,
  'dropout': 0.2,
  'input_dropout': 0.2,
}


def batch():
  rng = np.random.default_rng(0)
  normal = lambda *shape: rng.standard_normal(shape).astype(np.float32)
  return Batch(
    clip_features=normal(VIDEOS, 32, 6),
    frame_features=normal(VIDEOS, 128, 6),
    frame_mask=np.arange(128) < rng.integers(9, 128, VIDEOS)[:, None],
    video_mask=np.arange(VIDEOS) < VIDEOS - 1,
    word_features=normal(CAPTIONS, WORDS, 5),
    word_mask=np.arange(WORDS) < rng.integers(1, WORDS, CAPTIONS)[:, None],
    caption_mask=np.arange(CAPTIONS) < CAPTIONS - 2,
    caption_video=np.repeat(np.arange(VIDEOS), 2).astype(np.int32),
    clip_sizes=np.full((VIDEOS, 32), 4, np.int32),
    clip_groups=np.tile(np.arange(32, dtype=np.int32) // 4, (VIDEOS, 1)),
  )


def small(name):
  known = set(MODELS[name].__dataclass_fields__)
  sizes = {key: value for key, value in SMALL.items() if key in known}
  return models.make(name, **{'max_frames': 128, **sizes, 'max_words': WORDS})


def course(name, devices):
  """Returns the losses of three updates."""
  model, data = small(name), batch()
  mesh = meshes.make_mesh(devices)
  loss = dict(CONFIGS[name]('tvr')['loss'])
  update = compile_update(
    mesh,
    model=model,
    objective=build_objective(name, model, **loss),
    optimizer=bert_adam(warmup_linear(0.01, 10, 0.3)),
    seed=0,
    hard_from_step=1,
  )
  state = create_state(
    init_variables(model, data, 0), bert_adam(warmup_linear(0.01, 10, 0.3))
  )
  state = meshes.replicate(state, mesh)
  data = jax.device_put(data, meshes.by_row(mesh))
  losses = []
  for _ in range(3):
    state, scalars = update(state, data)
    losses.append(
      {key: float(value) for key, value in jax.device_get(scalars).items()}
    )
  return losses


@pytest.mark.long
@pytest.mark.parametrize('name', TRAINED)
def test_initial_values(name):
  """Other tests of most models draw their weights without a program."""
  found = init_variables(small(name), batch(), 0)
  for path, leaf in jax.tree_util.tree_leaves_with_path(found['params']):
    assert np.isfinite(leaf).all(), path
    if jax.tree_util.keystr(path).endswith("['kernel']"):
      assert np.ptp(leaf) > 0, path


@pytest.mark.slow
@pytest.mark.parametrize('name', TRAINED)
def test_one_device_and_eight_give_the_same_course(name):
  one, eight = course(name, 1), course(name, 8)
  assert all(np.isfinite(list(row.values())).all() for row in one)
  assert one[0]['loss/total'] != one[2]['loss/total']
  for ours, theirs in zip(one, eight, strict=True):
    assert set(ours) == set(theirs)
    for key, value in ours.items():
      np.testing.assert_allclose(
        value, theirs[key], rtol=2e-4, atol=1e-5, err_msg=key
      )


@pytest.mark.parametrize('name', MODELS)
def test_contract(name):
  model = small(name)
  assert isinstance(model, Model)
  fields = {field.name for field in dataclasses.fields(RetrievalOutput)}
  assert model.provided() <= fields | {'queries', 'clip_tokens'}


class Toy(base.RetrievalModel):
  """An eighth model, as a user would add it."""

  def setup(self):
    self.add_inputs()

  def encode_branches(
    self, clip_features, frame_features, frame_mask, clip_sizes=None, *, train
  ):
    del clip_sizes
    frames = self.frame_input(frame_features, train=train)
    return VideoEncoding(
      clip_tokens=self.clip_input(clip_features, train=train),
      frame_tokens=jnp.where(frame_mask[..., None], frames, 0),
      frame_mask=frame_mask,
    ), None


def test_an_eighth_model_touches_the_registry_only(monkeypatch):
  monkeypatch.setattr(registry, 'MODELS', {**registry.MODELS, 'toy': Toy})
  sizes = models.shared_fields(width=8, num_heads=2, max_words=WORDS)
  model = build_model('toy', **{**sizes, 'dtype': 'float32'})
  factors = models.loss_fields(
    clip_nce=0.02, structure=0.1, matching=0.1, inter_evidence=0.1
  )
  objective = build_objective('toy', model, **factors)
  data = batch()
  variables = init_variables(model, data, 0)

  @jax.jit
  @jax.value_and_grad
  def loss(params):
    output = model.apply(
      {'params': params},
      data,
      train=True,
      rngs={'dropout': jax.random.key(0)},
    )
    ranks = objective.draw(jax.random.key(1), data, True)
    return objective(output, data, ranks)[0]

  value, gradient = jax.device_get(loss(variables['params']))
  assert np.isfinite(value)
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))
