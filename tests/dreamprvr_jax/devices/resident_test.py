"""Batches gathered on devices, against batches from the host."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipeline import batching, iterators
from data_pipeline.corpus import Split
from data_pipeline.options import DataOptions
from data_pipeline.resident import ResidentSource
from dreamprvr_jax.devices import meshes, resident
from dreamprvr_jax.types import Batch

VIDEOS, WORDS, VISUAL, TEXT = 21, 5, 6, 4
# Clips and frames of a video, by the kind of clips.
LENGTHS = {'pooled': (3, 7), 'merged': (32, 128)}
BATCH, MULTIPLE, SEED = 8, 8, 3


class Arrays:
  """Items that are returned unchanged."""

  def __init__(self, videos, captions, plans):
    self._videos, self._captions, self._plans = videos, captions, plans

  def videos(self, indices):
    return [self._videos[i] for i in indices]

  def captions(self, indices):
    return [self._captions[i] for i in indices]

  def plans(self, indices):
    return self._plans[np.asarray(indices)]


@pytest.fixture(scope='module', params=LENGTHS)
def split(request):
  """A split with odd lengths and with a video's captions in scattered lines."""
  rng = np.random.default_rng(0)
  num_clips, max_frames = LENGTHS[request.param]
  options = DataOptions(
    clips=request.param,
    num_clips=num_clips,
    max_frames=max_frames,
    max_words=WORDS,
    num_workers=1,
  )
  made = lambda *shape: rng.standard_normal(shape, np.float32)
  frames = rng.integers(1, 2 * max_frames, VIDEOS)
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
      [
        (made(num_clips, VISUAL), made(n, VISUAL))
        for n in options.stored_frames(frames)
      ],
      [made(n, TEXT) for n in words],
      rng.integers(1, 32, (VIDEOS, 2, num_clips)).astype(np.int8),
    ),
    options=options,
  )


def placed(split, mesh, dtype=np.float32):
  return resident.place(
    ResidentSource(split, progress=False, dtype=dtype).arrays(),
    mesh,
    max_frames=split.options.max_frames,
    max_words=WORDS,
    dtype=dtype,
  )


def gather(mesh):
  return resident.compile_gather(
    mesh, batch_size=BATCH, steps_per_epoch=-(-VIDEOS // BATCH), seed=SEED
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
  mesh = meshes.make_mesh(devices)
  held, program = placed(split, mesh), gather(mesh)
  plan = batching.TrainPlan(
    split.caption_video,
    VIDEOS,
    batch_size=BATCH,
    seed=SEED,
    multiple=MULTIPLE,
  )
  for number in range(4 * plan.steps_per_epoch):
    theirs = iterators.train_batch(split, split.source, plan, number)
    ours = program(held, np.int32(number), plan.slots_of(number))
    # Fields of merged clips are None otherwise.
    assert set(theirs) == {
      name
      for name in ours.__dataclass_fields__
      if getattr(ours, name) is not None
    }
    assert ('clip_sizes' in theirs) == split.options.merged
    for name, value in theirs.items():
      array = getattr(ours, name)
      assert array.dtype == value.dtype, name
      assert array.sharding.is_equivalent_to(meshes.by_row(mesh), array.ndim)
      np.testing.assert_array_equal(array, value, err_msg=name)


def test_features_do_not_travel(split):
  mesh = meshes.make_mesh(8)
  text = (
    gather(mesh).lower(placed(split, mesh), np.int32(0), 40).compile().as_text()
  )
  assert 'gather' in text
  # An older JAX distributes the work on the few indices.
  travels = re.findall(r'= (.*?) (?:all-\w+|collective-permute)\(', text)
  assert not any('f32' in what for what in travels), travels
  # A device gathers its own row of the batch, not all of them.
  frames = split.options.max_frames
  assert f'f32[1,{frames},{VISUAL}]' in text
  assert f'f32[{BATCH},{frames},{VISUAL}]' not in text


def test_dtype_of_the_copy(split):
  mesh = meshes.make_mesh(1)
  whole = placed(split, mesh)
  half = placed(split, mesh, jnp.bfloat16)
  for name in ('clips', 'frames', 'words'):
    assert getattr(half, name).dtype == jnp.bfloat16
    np.testing.assert_array_equal(
      getattr(half, name), np.asarray(getattr(whole, name), jnp.bfloat16)
    )
  assert half.frame_starts.dtype == jnp.int32


def test_rows_that_are_padding(split):
  held = placed(split, meshes.make_mesh(1))
  read = lambda kind, rows: jax.device_get(
    jax.jit(kind)(held, np.asarray(rows, np.int32))
  )
  videos = read(resident.read_videos, [4, -1, 0])
  captions = read(resident.read_captions, [-1, 5, 2])
  assert videos['video_mask'].tolist() == [True, False, True]
  assert captions['caption_mask'].tolist() == [False, True, True]
  for found, row in ((videos, 1), (captions, 0)):
    assert not any(
      np.any(value[row])
      for name, value in found.items()
      if name not in ('clip_sizes', 'clip_groups')
    )
  for found, theirs in (
    (videos, split.read_videos([4, -1, 0])),
    (captions, split.read_captions([-1, 5, 2])),
  ):
    for name, value in theirs.items():
      np.testing.assert_array_equal(found[name], value, err_msg=name)
  if split.options.merged:
    assert videos['clip_sizes'][1].tolist() == [4] * 32
    assert videos['clip_groups'][1].tolist() == list(range(32))


def test_a_batch_has_what_there_is(split):
  arrays = {
    **split.read_videos([0]),
    **split.read_captions([0]),
    'video_mask': np.ones(1, bool),
    'caption_mask': np.ones(1, bool),
    'caption_video': np.zeros(1, np.int32),
    'more': 0,
  }
  batch = Batch.from_dict(arrays)
  assert batch.clip_groups is arrays.get('clip_groups')
  del arrays['word_mask']
  with pytest.raises(TypeError, match='word_mask'):
    Batch.from_dict(arrays)
