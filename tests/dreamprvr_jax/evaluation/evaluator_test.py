"""Evaluation in blocks against a plain computation of everything."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamprvr_jax import parallel
from dreamprvr_jax.evaluation.encoder import Stopped
from dreamprvr_jax.evaluation.evaluator import Evaluator
from dreamprvr_jax.evaluation.task import RetrievalTask
from dreamprvr_jax.evaluation.timelines import examine
from dreamprvr_jax.models.base import similarities
from dreamprvr_jax.types import VideoEncoding

VIDEOS, QUERIES, WIDTH = 11, 19, 6


class Passing(nn.Module):
  """Features are the tokens; the first word is the query."""

  clip_weight: float = 0.7
  frame_weight: float = 0.3

  def encode_query(self, words, word_mask):
    return words[:, 0]

  def encode_video(self, clips, frames, frame_mask):
    return VideoEncoding(clips, frames, frame_mask)

  def score(self, queries, videos):
    return similarities(queries, videos).cosine


@pytest.fixture
def data():
  rng = np.random.default_rng(0)
  frames = rng.normal(size=(VIDEOS, 5, WIDTH)).astype(np.float32)
  mask = np.arange(5) < rng.integers(1, 6, VIDEOS)[:, None]
  return {
    'clips': rng.normal(size=(VIDEOS, 3, WIDTH)).astype(np.float32),
    'frames': frames * mask[..., None],
    'mask': mask,
    'words': rng.normal(size=(QUERIES, 1, WIDTH)).astype(np.float32),
    'right': rng.integers(0, VIDEOS, QUERIES).astype(np.int32),
  }


def padded(array, start, size):
  part = array[start : start + size]
  short = ((0, size - len(part)), *((0, 0),) * (array.ndim - 1))
  return np.pad(part, short)


def task_of(data, video_batch=4, query_batch=8):
  def videos():
    for start in range(0, VIDEOS, video_batch):
      yield {
        'clip_features': padded(data['clips'], start, video_batch),
        'frame_features': padded(data['frames'], start, video_batch),
        'frame_mask': padded(data['mask'], start, video_batch),
        'video_mask': np.ones(video_batch, bool),
      }

  def queries():
    for start in range(0, QUERIES, query_batch):
      yield {
        'word_features': padded(data['words'], start, query_batch),
        'word_mask': np.ones((query_batch, 1), bool),
        'caption_mask': np.ones(query_batch, bool),
      }

  return RetrievalTask(
    name='made',
    video_ids=[f'v{i}' for i in range(VIDEOS)],
    caption_ids=[f'q{i}' for i in range(QUERIES)],
    caption_video=data['right'],
    moment_ratios=np.linspace(0.05, 0.9, QUERIES),
    video_batches=videos,
    query_batches=queries,
    num_video_batches=-(-VIDEOS // video_batch),
    num_query_batches=-(-QUERIES // query_batch),
  )


def expected_scores(data):
  unit = lambda x: (
    x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
  )
  q = unit(data['words'][:, 0])
  clip = np.einsum('nd,vsd->nvs', q, unit(data['clips'])).max(-1)
  frame = np.einsum('nd,vsd->nvs', q, unit(data['frames'])).max(-1)
  return clip, frame, 0.7 * clip + 0.3 * frame


def ranks_of(scores, right):
  # Stable: padded frames score 0, so that ties are common.
  order = np.argsort(-scores, axis=1, kind='stable')
  return 1 + np.argmax(order == right[:, None], axis=1)


@pytest.mark.parametrize('devices', [1, 8])
@pytest.mark.parametrize('blocks', [(512, 64), (8, 3), (16, 1)])
def test_ranks_and_scores(data, devices, blocks):
  batch = 8 if devices == 8 else 4
  evaluator = Evaluator(
    Passing(),
    parallel.make_mesh(devices),
    task_of(data, video_batch=batch),
    query_block=blocks[0],
    video_block=blocks[1],
  )
  metrics, ranking = evaluator.run({}, keep_scores=True, show=False)
  wanted = dict(
    zip(('clip', 'frame', 'fused'), expected_scores(data), strict=True)
  )
  np.testing.assert_allclose(ranking.scores, wanted['fused'], atol=1e-6)
  for name, scores in wanted.items():
    np.testing.assert_array_equal(
      ranking.by_branch[name], ranks_of(scores, data['right'])
    )
  assert metrics['num_videos'] == VIDEOS
  assert metrics['num_queries'] == QUERIES
  assert metrics['R@1'] == pytest.approx(
    100 * np.mean(ranking.by_branch['fused'] == 1)
  )


def test_text_to_text(data):
  evaluator = Evaluator(Passing(), parallel.make_mesh(1), task_of(data))
  _, ranking = evaluator.run({}, show=False)
  q = data['words'][:, 0]
  q = q / np.linalg.norm(q, axis=-1, keepdims=True)
  cosine = q @ q.T
  for i in range(QUERIES):
    others = [j for j in np.argsort(-cosine[i]) if j != i]
    found = [
      rank
      for rank, j in enumerate(others, 1)
      if data['right'][j] == data['right'][i]
    ]
    assert ranking.text_to_text[i] == (found[0] if found else 0)


def test_asked_to_stop(data):
  evaluator = Evaluator(Passing(), parallel.make_mesh(1), task_of(data))
  with pytest.raises(Stopped):
    evaluator.run({}, show=False, should_stop=lambda: True)


def test_timelines(data):
  evaluator = Evaluator(Passing(), parallel.make_mesh(1), task_of(data))
  fused = expected_scores(data)[2]
  ranks = ranks_of(fused, data['right'])
  for match in examine(evaluator, {}, np.asarray([0, 7]), top=3):
    assert match.rank == ranks[match.query]
    order = np.argsort(-fused[match.query])
    np.testing.assert_array_equal(match.videos[:3], order[:3])
    assert data['right'][match.query] in match.videos
    np.testing.assert_allclose(
      match.scores, fused[match.query, match.videos], atol=1e-6
    )
    for row, video in enumerate(match.videos):
      assert len(match.frame_scores[row]) == data['mask'][video].sum()
      best = match.clip_scores[row].max()
      clip = expected_scores(data)[0][match.query, video]
      assert best == pytest.approx(clip, abs=1e-6)


def test_score_of_a_padded_frame_is_zero():
  query = jnp.asarray([[1.0, 0.0]])
  videos = VideoEncoding(
    clip_tokens=-jnp.ones((1, 1, 2)),
    frame_tokens=jnp.asarray([[[-1.0, 0.0], [0.0, 0.0]]]),
    frame_mask=jnp.asarray([[True, False]]),
  )
  assert float(similarities(query, videos).cosine.frame[0, 0]) == 0
  grads = jax.grad(
    lambda t: similarities(
      query, videos.replace(frame_tokens=t)
    ).cosine.frame.sum()
  )(videos.frame_tokens)
  assert np.isfinite(grads).all()
