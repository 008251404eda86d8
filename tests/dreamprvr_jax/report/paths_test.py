"""Tests of the picture of moving registers."""

import dataclasses
import sys

import numpy as np
import pytest

from dreamprvr_jax.report import paths
from dreamprvr_jax.report.paths import (
  RegisterPath,
  path_cosines,
  plot_paths,
  principal_plane,
)

RNG = np.random.default_rng(0)


def some_path(name='v_1', registers=3, states=5):
  return RegisterPath(
    video_id=name,
    states=RNG.normal(size=(states, registers, 8)),
    targets=RNG.normal(size=(4, 8)),
    target_mean=RNG.normal(size=8),
  )


@pytest.fixture
def drawn(monkeypatch):
  """Returns a list that receives the figure in place of the file."""
  figures = []
  monkeypatch.setattr(paths, 'save', lambda figure, _: figures.append(figure))
  return figures


def labels(axes):
  return [text.get_text() for text in axes.get_legend().get_texts()]


def test_writes_a_png_and_nothing_else(tmp_path, monkeypatch):
  # pyplot would keep figures alive and might ask for a display.
  monkeypatch.delitem(sys.modules, 'matplotlib.pyplot', raising=False)
  path = tmp_path / 'paths.png'
  plot_paths([some_path(), some_path('v_2')], path)
  assert path.read_bytes().startswith(b'\x89PNG\r\n\x1a\n')
  assert list(tmp_path.iterdir()) == [path]
  assert 'matplotlib.pyplot' not in sys.modules


def test_the_plane_is_that_of_most_variance():
  points = RNG.normal(size=(200, 5)) * [0.1, 9, 0.1, 3, 0.1] + 7
  mean, axes, shares = principal_plane(points)
  np.testing.assert_allclose(mean, points.mean(axis=0))
  np.testing.assert_allclose(np.abs(axes[:, [1, 3]]), np.eye(2), atol=0.05)
  np.testing.assert_allclose(axes @ axes.T, np.eye(2), atol=1e-12)
  variance = points.var(axis=0)
  np.testing.assert_allclose(
    shares, variance[[1, 3]] / variance.sum(), rtol=0.02
  )


def test_cosines():
  own, other = np.eye(8)[0], np.eye(8)[1]
  near = RegisterPath('a', np.stack([[other, other], [own, own]]), [own], own)
  far = RegisterPath('b', np.stack([[own, other], [own, -own]]), [other], other)
  found = path_cosines([near, far])
  np.testing.assert_allclose(found['own'], [[0, 1], [0.5, 0]], atol=1e-12)
  np.testing.assert_allclose(found['others'], [[1, 0], [0.5, 0]], atol=1e-12)
  np.testing.assert_allclose(found['each other'], [[1, 1], [0, -1]], atol=1e-12)
  single = dataclasses.replace(near, states=near.states[:, :1])
  assert set(path_cosines([single])) == {'own'}


def test_every_register_has_a_way(drawn):
  plot_paths([some_path(), some_path('v_2')], 'unused.png')
  plane, cosines = drawn[0].axes
  ways = [line for line in plane.get_lines() if len(line.get_xdata()) == 5]
  assert len(ways) == 6
  # A thin line for each video, three means.
  assert len(cosines.get_lines()) == 5
  assert labels(plane)[-2:] == ['v_1', 'v_2']
  assert len(labels(cosines)) == 3


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize(
  'some',
  [
    [some_path(registers=1)],
    [some_path(states=2)],
    [some_path(f'a$b$_{i}') for i in range(12)],
    [RegisterPath('still', np.zeros((3, 2, 8)), np.zeros((1, 8)), np.zeros(8))],
  ],
)
def test_draws_any_path(tmp_path, some):
  plot_paths(some, tmp_path / 'a.png')


def test_nothing_to_draw_is_an_error():
  with pytest.raises(ValueError, match='no paths'):
    plot_paths([], 'unused.png')
