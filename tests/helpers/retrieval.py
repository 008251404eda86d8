"""A model that computes nothing, and retrieval tasks on generated features."""

import flax.linen as nn
import numpy as np

from dreamprvr_jax.devices import resident
from dreamprvr_jax.evaluation.task import RetrievalTask
from dreamprvr_jax.models.base import similarities
from dreamprvr_jax.types import VideoEncoding


class Passing(nn.Module):
  """Uses features as tokens and the first word as the query."""

  clip_weight: float = 0.7
  frame_weight: float = 0.3

  def encode_query(self, words, word_mask):
    return words[:, 0]

  def encode_video(self, clips, frames, frame_mask):
    return VideoEncoding(clips, frames, frame_mask)

  def pooled(self, queries):
    return queries

  def score(self, queries, videos):
    return similarities(queries, videos).cosine


def features(
  videos, queries, *, width=6, clips=3, frames=5, ties=False, seed=0
):
  """Returns features; with `ties`, tokens are unit vectors along the axes, so
  that many videos have exactly equal scores."""
  rng = np.random.default_rng(seed)

  def tokens(*shape):
    if ties:
      return np.eye(width, dtype=np.float32)[rng.integers(0, width, shape)]
    return rng.normal(size=(*shape, width)).astype(np.float32)

  mask = np.arange(frames) < rng.integers(1, frames + 1, videos)[:, None]
  return {
    'clips': tokens(videos, clips),
    'frames': tokens(videos, frames) * mask[..., None],
    'mask': mask,
    'words': rng.normal(size=(queries, 1, width)).astype(np.float32),
    'word_mask': np.ones((queries, 1), bool),
    'right': rng.integers(0, videos, queries).astype(np.int32),
  }


def expected_scores(data):
  """Returns the scores of the clip branch and the frame branch, and fused
  scores."""
  unit = lambda x: (
    x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
  )
  q = unit(data['words'][:, 0])
  clip = np.einsum('nd,vsd->nvs', q, unit(data['clips'])).max(-1)
  frame = np.einsum('nd,vsd->nvs', q, unit(data['frames'])).max(-1)
  return clip, frame, 0.7 * clip + 0.3 * frame


def ranks_of(scores, right):
  """Returns the ranks of the right videos; ties go to the lower index."""
  order = np.argsort(-scores, axis=1, kind='stable')
  return 1 + np.argmax(order == right[:, None], axis=1)


def task_of(data, *, video_batch=8, query_batch=8, mesh=None):
  """Returns the task; its features are in device memory if a mesh is given."""
  videos, queries = len(data['clips']), len(data['words'])

  def batches(total, size, names, mask):
    for start in range(0, total, size):
      rows = slice(start, start + size)
      batch = {name: padded(data[key][rows], size) for name, key in names}
      yield {**batch, mask: np.arange(start, start + size) < total}

  return RetrievalTask(
    name='made',
    video_ids=[f'v{i}' for i in range(videos)],
    caption_ids=[f'q{i}' for i in range(queries)],
    caption_video=data['right'],
    moment_ratios=np.linspace(0.05, 0.9, queries),
    video_batch=video_batch,
    query_batch=query_batch,
    video_batches=lambda: batches(
      videos,
      video_batch,
      [
        ('clip_features', 'clips'),
        ('frame_features', 'frames'),
        ('frame_mask', 'mask'),
      ],
      'video_mask',
    ),
    query_batches=lambda: batches(
      queries,
      query_batch,
      [('word_features', 'words'), ('word_mask', 'word_mask')],
      'caption_mask',
    ),
    resident=None if mesh is None else resident_of(data, mesh),
  )


def padded(array, size):
  """Returns the rows followed by zeros."""
  short = ((0, size - len(array)), *((0, 0),) * (array.ndim - 1))
  return np.pad(array, short)


def resident_of(data, mesh):
  """Returns the features in device memory."""
  counts, queries = data['mask'].sum(axis=1), len(data['words'])
  starts = lambda counts: np.cumsum(counts) - counts
  per_video = np.bincount(data['right'], minlength=len(counts))
  arrays = {
    'clips': data['clips'],
    'frames': data['frames'][data['mask']],
    'frame_starts': starts(counts),
    'frame_counts': counts,
    'words': data['words'][:, 0],
    'word_starts': np.arange(queries),
    'word_counts': np.ones(queries),
    'captions': np.argsort(data['right'], kind='stable'),
    'caption_starts': starts(per_video),
    'caption_counts': per_video,
  }
  whole = lambda x: x if x.dtype == np.float32 else x.astype(np.int32)
  return resident.place(
    {name: whole(value) for name, value in arrays.items()},
    mesh,
    max_frames=data['mask'].shape[1],
    max_words=1,
    dtype=np.float32,
  )
