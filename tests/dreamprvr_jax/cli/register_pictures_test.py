"""The inputs of the register pictures, against the model's own output."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipeline import simulated
from data_pipeline.opening import open_corpus
from data_pipeline.options import DataOptions
from dreamprvr_jax.cli import register_pictures
from dreamprvr_jax.models.template import blank_batch, variable_shapes
from tests.helpers import models

SIZES = {'num_clips': 4, 'max_frames': 50, 'max_words': 12}
MODEL = models.make(
  'dreamprvr',
  width=8,
  num_heads=2,
  num_registers=2,
  diffusion_steps=3,
  diffusion_layers=1,
  block_widths=(0.0, 0.5),
  **SIZES,
)
VIDEOS = [3, 1]  # not in the order of the split


@pytest.fixture(scope='module')
def split(tmp_path_factory):
  root = tmp_path_factory.mktemp('corpus')
  simulated.write_corpus(
    root,
    train_videos=0,
    val_videos=0,
    test_videos=5,
    feature='made',
    frames=(20, 60),
    shuffle_captions=True,
  )
  options = DataOptions(
    root=str(root),
    collection='simulated',
    feature='made',
    storage='release',
    **SIZES,
  )
  return open_corpus(options).splits['test']


@pytest.fixture(scope='module')
def variables(split):
  rng = np.random.default_rng(0)
  batch = blank_batch(split.visual_width, split.text_width, **SIZES)
  return jax.tree.map(
    lambda s: jnp.asarray(rng.normal(0, 0.3, s.shape), jnp.float32),
    variable_shapes(MODEL, batch),
  )


@pytest.fixture
def given(monkeypatch):
  """A list that receives the inputs of the pictures."""
  found = []
  for name in ('plot_attention', 'plot_paths'):
    monkeypatch.setattr(
      register_pictures, name, lambda shown, *_: found.extend(shown)
    )
  return found


def test_attention_of_the_right_videos(split, variables, given):
  register_pictures.draw_attention(MODEL, variables, split, VIDEOS, 'unused')
  assert [shown.video_id for shown in given] == [
    split.video_ids[v] for v in VIDEOS
  ]
  for video, shown in zip(VIDEOS, given, strict=True):
    captions = np.flatnonzero(split.caption_video == video)
    assert shown.captions == [split.captions[i] for i in captions]
    np.testing.assert_allclose(
      shown.moments * shown.duration, split.moments[captions]
    )
    assert shown.moments.max() <= 1
    frames = min(split.num_frames[video], SIZES['max_frames'])
    assert shown.frames.shape == (2, frames)
    assert shown.clips.shape == (2, 4)
    np.testing.assert_allclose(shown.registers.sum(axis=1), 1, rtol=1e-5)
    # Padded frames get no attention: with uniform attention the registers would
    # get this share.
    even = 2 / (frames + 2)
    assert 0.3 * even < shown.frames.mean() < 3 * even


def test_paths_of_the_right_videos(split, variables, given):
  register_pictures.draw_paths(MODEL, variables, split, VIDEOS, 'unused')
  assert [shown.video_id for shown in given] == [
    split.video_ids[v] for v in VIDEOS
  ]

  @jax.jit
  def alone(words, video):
    queries = MODEL.apply(variables, *words, method='encode_query')
    _, found = MODEL.apply(
      variables, *video, method='encode_video', mutable='intermediates'
    )
    (made,) = found['intermediates']['generated_registers']
    return queries, made.tokens[0]

  for video, shown in zip(VIDEOS, given, strict=True):
    captions = np.flatnonzero(split.caption_video == video)
    queries, tokens = alone(
      tuple(split.read_captions(captions).values()),
      tuple(split.read_videos([video]).values()),
    )
    np.testing.assert_allclose(shown.states[-1], tokens, atol=2e-4)
    mean = np.asarray(queries).mean(axis=0)
    whitened = (mean - mean.mean()) / np.sqrt(mean.var() + 1e-5)
    np.testing.assert_allclose(
      shown.target_mean, whitened + mean.mean(), atol=1e-4
    )
    assert shown.targets.shape == (register_pictures.TARGETS, 8)
    spread = np.abs(shown.targets - shown.target_mean).max()
    assert 0 < spread < 3
