"""Frozen numbers of the released programs, and their distance from ours."""

import functools
import pathlib

import jax
import numpy as np

from dreamprvr_jax.models.template import blank_batch, variable_shapes
from dreamprvr_jax.types import Batch

FOLDER = pathlib.Path(__file__).parents[1] / 'golden'


@functools.cache
def load(name):
  """Returns the arrays of tests/golden/<name>.npz."""
  with np.load(FOLDER / f'{name}.npz') as file:
    return {key: file[key] for key in file.files}


def part(golden, prefix):
  """Returns the arrays under `prefix/`, with that part of the name removed."""
  start = f'{prefix}/'
  return {k[len(start) :]: v for k, v in golden.items() if k.startswith(start)}


def distance(ours, theirs):
  """Returns the relative Frobenius distance."""
  ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
  assert ours.shape == theirs.shape
  return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


def batch_of(golden):
  """Returns the batch of a golden file."""
  captions, videos = (
    len(golden['batch/text_labels']),
    len(golden['batch/videos_mask']),
  )
  merged = {}
  if 'plan/merge_matrix' in golden:
    # Rows are merged clips; columns are the original clips.
    merged = {
      'clip_sizes': golden['batch/merge_size'].astype(np.int32),
      'clip_groups': golden['plan/merge_matrix'].argmax(1).astype(np.int32),
    }
  return Batch(
    **merged,
    clip_features=golden['batch/clip_video_features'],
    frame_features=golden['batch/frame_video_features'],
    frame_mask=golden['batch/videos_mask'] > 0,
    video_mask=np.ones(videos, bool),
    word_features=golden['batch/text_feat'],
    word_mask=golden['batch/text_mask'] > 0,
    caption_mask=np.ones(captions, bool),
    caption_video=golden['batch/text_labels'].astype(np.int32),
  )


def shapes(model, visual, text, max_words=30, max_frames=128):
  """Returns the shapes of a model's variables on given feature widths."""
  blank = blank_batch(
    visual,
    text,
    num_clips=32,
    max_frames=max_frames,
    max_words=max_words,
  )
  blank = blank.replace(
    clip_sizes=np.full((2, 32), 4, np.int32),
    clip_groups=np.tile(np.arange(32, dtype=np.int32), (2, 1)),
  )
  return variable_shapes(model, blank)


def inference(model, variables, batch):
  """Returns (queries, videos, scores, intermediate values) of a batch, on the
  host."""
  return jax.device_get(_inference(model, variables, batch))


@functools.partial(jax.jit, static_argnums=0)
def _inference(model, variables, batch):
  queries = model.apply(
    variables, batch.word_features, batch.word_mask, method='encode_query'
  )
  videos, seen = model.apply(
    variables,
    batch.clip_features,
    batch.frame_features,
    batch.frame_mask,
    batch.clip_sizes,
    method='encode_video',
    mutable=['intermediates'],
  )
  scores = model.apply(variables, queries, videos, method='score')
  return queries, videos, scores, seen.get('intermediates', {})


def shortened(batch, videos, length):
  """Returns some videos of the batch, cut to a length."""
  return batch.replace(
    clip_features=batch.clip_features[videos],
    frame_features=batch.frame_features[videos, :length],
    frame_mask=batch.frame_mask[videos, :length],
  )
