"""How a corpus is cut into parts and laid out on the devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamprvr_jax.devices import meshes
from dreamprvr_jax.evaluation.corpus import Layout, from_bits, to_bits
from dreamprvr_jax.types import VideoEncoding

PLANS = [
  (num_videos, batch, largest, rows)
  for num_videos in (1, 45, 1000)
  for batch in (8, 64)
  for largest in (1, 7, 10**6)
  for rows in (0, 20, 333, float('inf'))
]


@pytest.mark.parametrize('devices', [(1, 1), (8, 2), (8, 8)])
def test_every_video_has_one_row(devices):
  mesh = meshes.make_mesh(*devices)
  share = mesh.shape['corpus']
  for num_videos, batch, largest, rows in PLANS:
    layout = Layout.plan(
      num_videos, batch, mesh, largest_block=largest, rows_in_memory=rows
    )
    assert layout.block <= largest
    assert layout.rows % layout.block == 0
    assert layout.rows >= layout.batches * batch // share
    # At least a batch is held, and a block of its rows, even without memory.
    assert layout.rows <= max(rows, layout.block + batch // share)
    items = [layout.items(part, mesh) for part in range(layout.parts)]
    for part, held in enumerate(items):
      assert held.shape == (share * layout.rows,)
      first, end = layout.bounds(part)
      np.testing.assert_array_equal(
        np.sort(held[held >= 0]), np.arange(first, end)
      )
    assert layout.bounds(0)[0] == 0
    assert layout.bounds(layout.parts - 1)[1] == num_videos
    ends = [layout.bounds(part)[1] for part in range(layout.parts - 1)]
    starts = [layout.bounds(part)[0] for part in range(1, layout.parts)]
    assert ends == starts


def test_enough_memory_means_one_part_and_little_padding():
  layout = Layout.plan(
    4917, 128, meshes.make_mesh(1), largest_block=400, rows_in_memory=5100
  )
  assert layout.parts == 1
  assert 4917 <= layout.rows < 5100


def test_as_few_parts_as_memory_allows():
  mesh = meshes.make_mesh(1)
  for rows in (2000, 4000, 9000):
    layout = Layout.plan(
      10_000, 100, mesh, largest_block=50, rows_in_memory=rows
    )
    assert layout.parts == -(-10_000 // rows)


def test_the_block_does_not_depend_on_the_parts():
  blocks = {
    Layout.plan(
      1000, 8, meshes.make_mesh(1), largest_block=90, rows_in_memory=rows
    ).block
    for rows in (50, 300, 5000)
  }
  assert len(blocks) == 1


def test_bits_are_the_numbers():
  videos = VideoEncoding(
    clip_tokens=jnp.linspace(-3, 3, 8, dtype=jnp.bfloat16).reshape(2, 2, 2),
    frame_tokens=jnp.ones((2, 1, 2)),
    frame_mask=jnp.ones((2, 1), bool),
  )
  stored = to_bits(videos)
  assert stored.clip_tokens.dtype == jnp.uint16
  assert stored.frame_tokens is videos.frame_tokens
  jax.tree.map(np.testing.assert_array_equal, from_bits(stored), videos)
