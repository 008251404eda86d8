"""Memory of a ranking, and a corpus of 100,000 videos."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamprvr_jax.devices import memory, meshes
from dreamprvr_jax.evaluation import encoder
from dreamprvr_jax.evaluation.evaluator import Evaluator
from dreamprvr_jax.evaluation.ranking import compile_ranking
from dreamprvr_jax.progress import Watch
from dreamprvr_jax.types import VideoEncoding
from tests.helpers.retrieval import (
  Passing,
  expected_scores,
  features,
  ranks_of,
  task_of,
)

QUERIES, CLIPS, FRAMES, WIDTH, BLOCK = 64, 32, 128, 64, 50


def temporary_bytes(videos, dtype):
  """Returns the memory that a ranking takes besides its arguments."""
  shape = jax.ShapeDtypeStruct
  arguments = (
    {},
    VideoEncoding(
      shape((videos, CLIPS, WIDTH), dtype),
      shape((videos, FRAMES, WIDTH), dtype),
      shape((videos, FRAMES), bool),
    ),
    shape((videos,), np.int32),
    shape((2, QUERIES, WIDTH), np.float32),
    shape((), np.int32),
    shape((2, QUERIES), np.int32),
    shape((2, 3, QUERIES), np.float32),
    shape((2, QUERIES), bool),
  )
  program = compile_ranking(Passing(), meshes.make_mesh(1), block=BLOCK)
  compiled = program.lower(*arguments).compile()
  return compiled.memory_analysis().temp_size_in_bytes


# uint16 holds the bits of bfloat16.
@pytest.mark.parametrize('dtype', [jnp.float32, jnp.uint16])
def test_memory_is_that_of_blocks(dtype):
  small, large = (temporary_bytes(v, dtype) for v in (1000, 100_000))
  scores = 3 * 4 * QUERIES
  # Only the scores of one block of queries grow with the corpus; they are a
  # hundredth of the tokens.
  assert large - small < 1.02 * scores * 99_000
  # Products and tokens belong to one block of videos.
  product = 4 * QUERIES * BLOCK * (CLIPS + FRAMES)
  tokens = 4 * BLOCK * (CLIPS + FRAMES) * WIDTH
  assert small - scores * 1000 < 4 * (product + tokens)


@pytest.mark.slow
@pytest.mark.parametrize('devices', [(1, 1), (8, 2)])
@pytest.mark.parametrize('parts', [1, 4])
def test_a_hundred_thousand_videos(devices, parts, monkeypatch):
  videos = 100_000
  data = features(videos, 700, width=8, clips=2, frames=3, ties=True)
  mesh = meshes.make_mesh(*devices)
  num_bytes = 4 * 5 * 8 + 3
  # The corpus gets half of the free memory.
  free = 2.1 * num_bytes * videos / parts / mesh.shape['corpus']
  monkeypatch.setattr(encoder, 'free_memory', lambda mesh: free)
  evaluator = Evaluator(
    Passing(), mesh, task_of(data, video_batch=1000, query_batch=256)
  )
  assert evaluator.encode({}, Watch(show=False))[1].layout.parts == parts
  ranks = evaluator.run({}, show=False)[1].by_branch
  for name, scores in zip(
    ('clip', 'frame', 'fused'), expected_scores(data), strict=True
  ):
    np.testing.assert_array_equal(ranks[name], ranks_of(scores, data['right']))


def test_free_memory_is_known_here():
  # Eight devices share the host's memory.
  one, eight = (memory.free_memory(meshes.make_mesh(n)) for n in (1, 8))
  assert one == pytest.approx(8 * eight, rel=0.2)
  assert 2**20 < one < 2**50


def test_free_memory_of_devices_that_tell():
  class Device:
    platform = 'gpu'

    def __init__(self, used):
      self.used = used

    def memory_stats(self):
      return {'bytes_limit': 100, 'bytes_in_use': self.used}

  class Mesh:
    local_devices = (Device(10), Device(70))

  assert memory.free_memory(Mesh()) == 30
