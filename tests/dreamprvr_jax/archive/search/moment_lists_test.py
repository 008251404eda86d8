"""Lists of moments over a corpus, against one query and video at a time."""

import types

import numpy as np

from dreamprvr_jax.archive.search.moment_lists import moment_lists
from dreamprvr_jax.archive.search.moments import find_moments, timelines

MODEL = types.SimpleNamespace(
  clip_weight=0.6, frame_weight=0.4, token_score='cosine'
)


def corpus(rng, videos):
  return [
    (
      rng.normal(size=(4, 8)).astype(np.float32),
      rng.normal(size=(12, 8)).astype(np.float32),
      np.arange(12) < 5 + i,
    )
    for i in range(videos)
  ]


def test_lists_hold_the_best_moments_of_the_best_videos():
  rng = np.random.default_rng(0)
  tokens = corpus(rng, 6)
  queries = rng.normal(size=(3, 8)).astype(np.float32)
  scores = rng.uniform(size=(3, 6)).astype(np.float32)
  edges = np.tile(np.linspace(0, 1, 5), (6, 1))
  durations = np.arange(10.0, 16.0)
  found = moment_lists(
    MODEL, queries, iter(tokens), scores, edges, durations, length=4
  )
  assert found.spans.shape == (3, 4, 2)
  for row, query in enumerate(queries):
    listed = []
    for video in np.argsort(-scores[row])[:4]:
      (line,) = timelines(query[None], *tokens[video], edges[video], 0.6, 0.4)
      moments = find_moments(line, durations[video], scores[row, video], 3)
      listed += [(m.score, m.start, m.end, video) for m in moments]
    listed.sort(key=lambda moment: -moment[0])
    expected = np.asarray(listed[:4])
    np.testing.assert_array_equal(found.spans[row], expected[:, 1:3])
    np.testing.assert_array_equal(found.videos[row], expected[:, 3])


def test_short_lists_end_in_nan():
  rng = np.random.default_rng(1)
  tokens = corpus(rng, 1)
  found = moment_lists(
    MODEL,
    rng.normal(size=(2, 8)).astype(np.float32),
    tokens,
    np.ones((2, 1), np.float32),
    np.linspace(0, 1, 5)[None],
    np.array([9.0]),
    length=100,
  )
  assert found.spans.shape == (2, 3, 2)
  assert np.isfinite(found.spans[:, 0]).all()
  assert (found.videos == 0).all()
