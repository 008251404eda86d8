"""One or many updates per call, with a model of one matrix."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from dreamprvr_jax.devices import meshes, resident
from dreamprvr_jax.train.step import (
  compile_steps,
  compile_update,
  create_state,
)

VIDEOS, BATCH, SLOTS, SEED = 20, 8, 16, 5
STEPS = 3  # in an epoch


class Bilinear(nn.Module):
  """Scores of captions against videos by one matrix, with dropout."""

  def constrain(self, params):
    return params

  @nn.compact
  def __call__(self, batch, *, train):
    frames = jnp.mean(batch.frame_features, axis=1) + jnp.mean(
      batch.clip_features, axis=1
    )
    words = jnp.mean(batch.word_features, axis=1)
    words = nn.Dropout(0.5, deterministic=not train)(words)
    return nn.Dense(frames.shape[-1])(words) @ frames.T


class Contrast:
  """Negative log-likelihood of the right video; infinite after some step."""

  def draw(self, key, batch, hard):
    return jax.random.uniform(key), hard

  def __call__(self, scores, batch, ranks):
    noise, hard = ranks
    scores = (
      jnp.where(batch.video_mask, scores, -1e9) + noise * batch.video_mask
    )
    found = jnp.take_along_axis(
      jax.nn.log_softmax(scores), batch.caption_video[:, None], axis=1
    )
    loss = -jnp.mean(found[:, 0], where=batch.caption_mask)
    loss = jnp.where(hard, jnp.inf, loss)
    return loss, {'part': loss / 2}


@functools.cache
def split_on(mesh):
  rng = np.random.default_rng(0)
  made = lambda *shape: rng.standard_normal(shape, np.float32)
  counts = rng.integers(1, 3, VIDEOS)
  captions = counts.sum()
  starts = lambda lengths: (np.cumsum(lengths) - lengths).astype(np.int32)
  frames, words = rng.integers(1, 6, VIDEOS), rng.integers(1, 5, captions)
  arrays = {
    'clips': made(VIDEOS, 2, 6),
    'frames': made(frames.sum(), 6),
    'words': made(words.sum(), 4),
    'captions': rng.permutation(captions).astype(np.int32),
  }
  for name, lengths in (
    ('frame', frames),
    ('word', words),
    ('caption', counts),
  ):
    arrays[f'{name}_starts'] = starts(lengths)
    arrays[f'{name}_counts'] = lengths.astype(np.int32)
  return resident.place(
    arrays, mesh, max_frames=5, max_words=4, dtype=np.float32
  )


@functools.cache
def batches_on(mesh):
  """Returns the program from (split, epoch, step) to a batch."""
  return jax.jit(
    lambda split, epoch, step: resident.train_batch(
      split,
      resident.epoch_order(VIDEOS, SEED, epoch),
      step,
      mesh,
      batch_size=BATCH,
      slots=SLOTS,
    )
  )


# One of each: settings with the same parts share their programs.
CONTRAST, OPTIMIZER = Contrast(), optax.adamw(1e-2)


class Setting:
  """Both kinds of program and a fresh state."""

  def __init__(self, devices=1, most=STEPS, hard_from_step=99):
    self.mesh = meshes.make_mesh(devices)
    self.split = split_on(self.mesh)
    parts = {
      'model': Bilinear(),
      'objective': CONTRAST,
      'optimizer': OPTIMIZER,
      'seed': SEED,
      'hard_from_step': hard_from_step,
    }
    self.update = compile_update(self.mesh, **parts)
    self.steps = compile_steps(
      self.mesh, batch_size=BATCH, steps_per_epoch=STEPS, most=most, **parts
    )

  def batch(self, number):
    epoch, step = map(np.int32, divmod(number, STEPS))
    return batches_on(self.mesh)(self.split, epoch, step)

  def state(self):
    variables = Bilinear().init(jax.random.key(0), self.batch(0), train=False)
    return meshes.replicate(create_state(variables, OPTIMIZER), self.mesh)

  def one_by_one(self, count):
    state, rows = self.state(), []
    for number in range(count):
      state, scalars = self.update(state, self.batch(number))
      rows.append(jax.device_get(scalars))
    return state, rows

  def together(self, counts):
    state, rows = self.state(), []
    for count in counts:
      state, scalars = self.steps(state, self.split, np.int32(count), SLOTS)
      scalars = jax.device_get(scalars)
      rows += [{n: v[i] for n, v in scalars.items()} for i in range(count)]
    return state, rows


def assert_same(ours, theirs):
  jax.tree.map(
    np.testing.assert_array_equal, *map(jax.device_get, (ours, theirs))
  )


def test_many_a_call_are_one_after_the_other():
  setting = Setting()
  found = setting.together((3, 3))
  for counts in ((1,) * 6, (2, 1, 1, 2)):
    assert_same(setting.together(counts), found)
  assert setting.steps._cache_size() == 1
  # This is another program, which XLA may round differently.
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7),
    jax.device_get(found),
    jax.device_get(setting.one_by_one(6)),
  )


def test_eight_devices():
  one, eight = Setting(), Setting(devices=8)
  state, rows = eight.together((3, 2))
  whole = meshes.replicated(eight.mesh)
  assert all(
    leaf.sharding.is_equivalent_to(whole, leaf.ndim)
    for leaf in jax.tree.leaves(state)
  )
  for ours, theirs in zip(rows, one.one_by_one(5)[1], strict=True):
    np.testing.assert_allclose(
      ours['loss/total'], theirs['loss/total'], rtol=1e-5
    )


def test_scalars_behind_the_last_update_are_zero():
  setting = Setting(most=5)
  _, scalars = setting.steps(setting.state(), setting.split, np.int32(2), SLOTS)
  assert scalars['alive'].tolist() == [True, True, False, False, False]
  assert scalars['loss/total'].shape == (5,)
  assert not scalars['loss/total'][2:].any()


def test_ends_with_the_update_that_is_not_finite():
  setting = Setting(hard_from_step=1)
  good, _ = setting.one_by_one(1)
  state, scalars = setting.steps(
    setting.state(), setting.split, np.int32(3), SLOTS
  )
  assert scalars['alive'].tolist() == [True, False, False]
  assert np.isinf(scalars['loss/total'][1])
  assert scalars['loss/total'][2] == 0
  assert not state.alive
  # Updates that are already issued do not change anything either.
  state, scalars = setting.steps(state, setting.split, np.int32(2), SLOTS)
  assert not scalars['alive'].any()
  assert_same(dataclasses.replace(state, alive=good.alive), good)


def test_an_update_that_is_not_finite_leaves_the_state():
  setting = Setting(hard_from_step=1)
  good, _ = setting.one_by_one(1)
  state, rows = setting.one_by_one(3)
  assert [bool(row['alive']) for row in rows] == [True, False, False]
  assert_same(dataclasses.replace(state, alive=good.alive), good)


def test_the_split_is_not_copied():
  setting = Setting()
  large = dataclasses.replace(
    setting.split, frames=jnp.zeros((10**6, setting.split.frames.shape[1]))
  )
  program = setting.steps.lower(setting.state(), large, np.int32(1), SLOTS)
  memory = program.compile().memory_analysis()
  assert memory.argument_size_in_bytes > large.frames.nbytes
  assert memory.temp_size_in_bytes < large.frames.nbytes / 100
