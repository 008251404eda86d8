"""Evaluation in blocks against a plain computation of everything."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamprvr_jax.devices import meshes
from dreamprvr_jax.devices.pace import Pace
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.evaluation import encoder
from dreamprvr_jax.evaluation.evaluator import Evaluator
from dreamprvr_jax.evaluation.timelines import examine
from dreamprvr_jax.models.base import similarities
from dreamprvr_jax.progress import Stopped, Watch
from dreamprvr_jax.types import VideoEncoding
from tests.helpers.retrieval import (
  Passing,
  expected_scores,
  features,
  padded,
  ranks_of,
  task_of,
)

VIDEOS, QUERIES = 45, 37
# Numbers of devices, and of those that share the corpus.
MESHES = [(1, 1), (8, 1), (8, 2), (8, 8)]
# Three videos at a time, in one call or in as many calls as possible.
AT_ONCE = Pace(products=200, work=float('inf'), encode_at_once=True)
STEP_BY_STEP = Pace(products=200, work=0, encode_at_once=False)


@pytest.fixture
def data():
  return features(VIDEOS, QUERIES)


@pytest.fixture
def little_memory(monkeypatch):
  """Limits the memory to a third of each device's videos."""
  num_bytes = 4 * (3 + 5) * 6 + 5

  def free(mesh):
    rows = VIDEOS / mesh.shape['corpus'] / 3
    return 2 * rows * num_bytes

  monkeypatch.setattr(encoder, 'free_memory', free)


def check(ranking, data):
  clip, frame, fused = expected_scores(data)
  if ranking.scores is not None:
    np.testing.assert_allclose(ranking.scores, fused, atol=1e-6)
  for name, scores in (('clip', clip), ('frame', frame), ('fused', fused)):
    np.testing.assert_array_equal(
      ranking.by_branch[name], ranks_of(scores, data['right'])
    )


@pytest.mark.parametrize('devices', MESHES)
@pytest.mark.parametrize('resident', [False, True])
def test_ranks_and_scores(data, devices, resident):
  mesh = meshes.make_mesh(*devices)
  evaluator = Evaluator(
    Passing(),
    mesh,
    task_of(data, mesh=mesh if resident else None),
    pace=AT_ONCE if resident else STEP_BY_STEP,
  )
  metrics, ranking = evaluator.run({}, show=False)
  check(ranking, data)
  assert ranking.scores is None
  assert metrics['num_videos'] == VIDEOS
  assert metrics['num_queries'] == QUERIES
  assert metrics['R@1'] == pytest.approx(
    100 * np.mean(ranking.by_branch['fused'] == 1)
  )
  assert evaluator.encode({}, Watch(show=False))[1].layout.parts == 1


def test_videos_are_encoded_by_one_program(data):
  traced = []

  class Counted(Passing):
    def encode_video(self, clips, frames, frame_mask):
      traced.append(clips.shape)
      return super().encode_video(clips, frames, frame_mask)

  evaluator = Evaluator(
    Counted(), meshes.make_mesh(), task_of(data), pace=STEP_BY_STEP
  )
  for _ in range(2):
    evaluator.run({}, show=False)
  # Once for the shapes, once for the program.
  assert len(traced) == 2


@pytest.mark.usefixtures('little_memory')
@pytest.mark.parametrize('devices', MESHES)
@pytest.mark.parametrize('resident', [False, True])
def test_a_corpus_in_parts(devices, resident):
  # A third of the scores are ties.
  data = features(VIDEOS, QUERIES, ties=True)
  mesh = meshes.make_mesh(*devices)
  evaluator = Evaluator(
    Passing(),
    mesh,
    task_of(data, mesh=mesh if resident else None),
    pace=AT_ONCE if resident else STEP_BY_STEP,
  )
  assert evaluator.encode({}, Watch(show=False))[1].layout.parts > 2
  check(evaluator.run({}, show=False)[1], data)


@pytest.mark.parametrize('parts', [False, True])
def test_kept_scores(data, parts, request):
  if parts:
    request.getfixturevalue('little_memory')
  evaluator = Evaluator(Passing(), meshes.make_mesh(8, 2), task_of(data))
  ranking = evaluator.run({}, keep_scores=True, show=False)[1]
  assert ranking.scores.shape == (QUERIES, VIDEOS)
  check(ranking, data)


def test_bfloat16_tokens_are_kept_and_scored_as_such(data):
  class Half(Passing):
    def encode_query(self, words, word_mask):
      rounded = words[:, 0].astype(jnp.bfloat16)
      return rounded.astype(jnp.float32)

    def encode_video(self, clips, frames, frame_mask):
      return jax.tree.map(
        lambda x: x.astype(jnp.bfloat16) if x.ndim == 3 else x,
        VideoEncoding(clips, frames, frame_mask),
      )

    def score(self, queries, videos):
      assert queries.dtype == videos.clip_tokens.dtype == jnp.bfloat16
      return super().score(queries, videos)

  evaluator = Evaluator(Half(), meshes.make_mesh(1), task_of(data))
  (part,) = evaluator.encode({}, Watch(show=False))[1]
  assert part.videos.frame_tokens.dtype == jnp.uint16
  ranking = evaluator.run({}, keep_scores=True, show=False)[1]
  assert ranking.scores.dtype == np.float32
  for name in ('clips', 'frames', 'words'):
    data[name] = np.asarray(jnp.bfloat16(data[name]), np.float32)
  check(ranking, data)


@pytest.mark.parametrize('devices', [(1, 1), (8, 2)])
@pytest.mark.parametrize('resident', [False, True])
def test_sizes_of_merged_clips_reach_the_model(data, devices, resident):
  class Sized(Passing):
    def encode_video(self, clips, frames, frame_mask, clip_sizes):
      return VideoEncoding(clips + clip_sizes[..., None], frames, frame_mask)

  sizes = np.random.default_rng(1).integers(1, 4, data['clips'].shape[:2])
  mesh = meshes.make_mesh(*devices)
  task = task_of(data, mesh=mesh if resident else None)
  if resident:
    plan = np.stack([sizes, np.zeros_like(sizes)], axis=1).astype(np.int8)
    held = task.resident.replace(clip_plan=meshes.replicate(plan, mesh))
    task = dataclasses.replace(task, resident=held)
  else:
    start = task.video_batches

    def batches():
      for i, batch in enumerate(start()):
        rows = sizes[i * task.video_batch : (i + 1) * task.video_batch]
        yield {**batch, 'clip_sizes': padded(rows, task.video_batch)}

    task = dataclasses.replace(task, video_batches=batches)
  evaluator = Evaluator(Sized(), mesh, task)
  ranking = evaluator.run({}, keep_scores=True, show=False)[1]
  data['clips'] = data['clips'] + sizes[..., None]
  check(ranking, data)


@pytest.mark.parametrize('devices', MESHES)
def test_text_to_text(data, devices):
  evaluator = Evaluator(
    Passing(),
    meshes.make_mesh(*devices),
    task_of(data),
    pace=AT_ONCE if devices == (8, 2) else None,
  )
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


@pytest.mark.parametrize('calls', range(5))
def test_asked_to_stop(data, calls):
  """The evaluator asks before each call: five for queries, then for videos."""
  evaluator = Evaluator(
    Passing(), meshes.make_mesh(1), task_of(data), pace=STEP_BY_STEP
  )
  asked = iter([False] * 4 * calls)
  with pytest.raises(Stopped):
    evaluator.run({}, show=False, should_stop=lambda: next(asked, True))


@pytest.mark.parametrize('share', [0, -0.5, 1.5])
def test_share_of_memory_that_is_none(data, share):
  with pytest.raises(UserError, match=f'corpus_share is {share}'):
    Evaluator(Passing(), meshes.make_mesh(1), task_of(data), corpus_share=share)


@pytest.mark.parametrize('parts', [False, True])
@pytest.mark.parametrize('devices', [(1, 1), (8, 2)])
def test_timelines(data, devices, parts, request):
  if parts:
    request.getfixturevalue('little_memory')
  evaluator = Evaluator(Passing(), meshes.make_mesh(*devices), task_of(data))
  clip, _, fused = expected_scores(data)
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
      assert best == pytest.approx(clip[match.query, video], abs=1e-6)


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
