"""Batches gathered on devices against those that the host makes."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipeline import batching, iterators
from data_pipeline.corpus import Split
from data_pipeline.options import DataOptions
from data_pipeline.resident import ResidentSource
from dreamprvr_jax import parallel, resident

VIDEOS, CLIPS, FRAMES, WORDS, VISUAL, TEXT = 21, 3, 7, 5, 6, 4
BATCH, MULTIPLE, SEED = 8, 8, 3


class Arrays:
  """Items that are kept as they are."""

  def __init__(self, videos, captions):
    self._videos, self._captions = videos, captions

  def videos(self, indices):
    return [self._videos[i] for i in indices]

  def captions(self, indices):
    return [self._captions[i] for i in indices]


@pytest.fixture(scope='module')
def split():
  """Odd lengths; the captions of a video are scattered over the file."""
  rng = np.random.default_rng(0)
  made = lambda *shape: rng.standard_normal(shape, np.float32)
  frames = rng.integers(1, 2 * FRAMES, VIDEOS)
  owner = np.repeat(np.arange(VIDEOS), rng.integers(1, 6, VIDEOS))
  owner = rng.permutation(owner).astype(np.int32)
  words = rng.integers(1, WORDS + 1, len(owner))
  return Split(
    name='train',
    video_ids=[f'v{i}' for i in range(VIDEOS)],
    caption_ids=[f'c{i}' for i in range(len(owner))],
    captions=[''] * len(owner),
    caption_video=owner,
    num_frames=frames.astype(np.int32),
    num_words=words.astype(np.int32),
    durations=np.full(VIDEOS, np.nan),
    moments=np.full((len(owner), 2), np.nan),
    visual_width=VISUAL,
    text_width=TEXT,
    source=Arrays(
      [(made(CLIPS, VISUAL), made(min(n, FRAMES), VISUAL)) for n in frames],
      [made(n, TEXT) for n in words],
    ),
    options=DataOptions(
      num_clips=CLIPS, max_frames=FRAMES, max_words=WORDS, num_workers=1
    ),
  )


def placed(split, mesh, dtype=np.float32):
  return resident.place(
    ResidentSource(split, progress=False, dtype=dtype).arrays(),
    mesh,
    max_frames=FRAMES,
    max_words=WORDS,
    dtype=dtype,
  )


def gather(mesh, slots):
  return jax.jit(
    functools.partial(
      resident.train_batch, mesh=mesh, batch_size=BATCH, slots=slots
    )
  )


@pytest.mark.parametrize('seed', [0, 1, -1, 2**31, 2**40 + 7, 2**64 - 1])
def test_orders_on_device_and_host_agree(seed):
  order = jax.jit(resident.epoch_order, static_argnums=(0, 1))
  for videos in (1, 2, 33, 5000):
    for epoch in (0, 1, 2, 99, 2**20):
      ours = order(videos, seed, epoch)
      theirs = batching.epoch_order(videos, seed, epoch)
      assert ours.dtype == jnp.int32
      np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize('devices', [1, 8])
def test_batches_are_those_of_the_host(split, devices):
  mesh = parallel.make_mesh(devices)
  held = placed(split, mesh)
  plan = batching.TrainPlan(
    split.caption_video,
    VIDEOS,
    batch_size=BATCH,
    seed=SEED,
    multiple=MULTIPLE,
  )
  for number in range(4 * plan.steps_per_epoch):
    theirs = iterators.train_batch(split, split.source, plan, number)
    epoch, step = divmod(number, plan.steps_per_epoch)
    order = resident.epoch_order(VIDEOS, SEED, epoch)
    ours = gather(mesh, plan.slots_of(number))(held, order, step)
    assert set(theirs) == set(ours.__dataclass_fields__)
    for name, value in theirs.items():
      array = getattr(ours, name)
      assert array.dtype == value.dtype, name
      assert array.sharding.is_equivalent_to(parallel.by_row(mesh), array.ndim)
      np.testing.assert_array_equal(array, value, err_msg=name)


def test_features_do_not_travel(split):
  mesh = parallel.make_mesh(8)
  text = (
    gather(mesh, 40)
    .lower(placed(split, mesh), jnp.arange(VIDEOS), 0)
    .compile()
    .as_text()
  )
  assert 'gather' in text
  # An older JAX shares out the work on the few indices.
  travels = re.findall(r'= (.*?) (?:all-\w+|collective-permute)\(', text)
  assert not any('f32' in what for what in travels), travels
  # A device gathers its own row of the batch, not all of them.
  assert f'f32[1,{FRAMES},{VISUAL}]' in text
  assert f'f32[{BATCH},{FRAMES},{VISUAL}]' not in text


def test_dtype_of_the_copy(split):
  mesh = parallel.make_mesh(1)
  whole = placed(split, mesh)
  half = placed(split, mesh, jnp.bfloat16)
  for name in ('clips', 'frames', 'words'):
    assert getattr(half, name).dtype == jnp.bfloat16
    np.testing.assert_array_equal(
      getattr(half, name), getattr(whole, name).astype(jnp.bfloat16)
    )
  assert half.frame_starts.dtype == jnp.int32


def test_rows_that_are_padding(split):
  held = placed(split, parallel.make_mesh(1))
  videos = resident.read_videos(held, jnp.array([4, -1, 0]))
  captions = resident.read_captions(held, jnp.array([-1, 5, 2]))
  assert videos['video_mask'].tolist() == [True, False, True]
  assert captions['caption_mask'].tolist() == [False, True, True]
  for found, row in ((videos, 1), (captions, 0)):
    assert not any(np.any(value[row]) for value in found.values())
  for found, theirs in (
    (videos, split.read_videos([4, -1, 0])),
    (captions, split.read_captions([-1, 5, 2])),
  ):
    for name, value in theirs.items():
      np.testing.assert_array_equal(found[name], value, err_msg=name)
