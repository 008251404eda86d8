"""Tests of the picture of attention from and to registers."""

import dataclasses
import sys

import numpy as np
import pytest

from dreamprvr_jax.report import attention
from dreamprvr_jax.report.attention import VideoAttention, plot_attention

WIDTHS = (0.0, 0.5, 16.0)
RNG = np.random.default_rng(0)
VIDEO = VideoAttention(
  video_id='v_1',
  duration=40.0,
  captions=['a man opens a door', 'he leaves'],
  moments=np.array([[0.25, 0.5], [0.5, 1.2]]),
  registers=RNG.dirichlet(np.ones(8), 4),
  clips=RNG.uniform(0.2, 0.5, (3, 8)),
  frames=RNG.uniform(0.1, 0.3, (3, 20)),
)


@pytest.fixture
def drawn(monkeypatch):
  """Returns a list that receives the figure in place of the file."""
  figures = []
  monkeypatch.setattr(
    attention, 'save', lambda figure, _: figures.append(figure)
  )
  return figures


def maps(figure):
  """Returns the cells of the heat maps, without the colour scale."""
  meshes = [
    mesh
    for axes in figure.axes
    for mesh in axes.collections
    if mesh.get_array() is not None and axes.get_ylim()[0] > 1
  ]
  return [np.asarray(mesh.get_array()) for mesh in meshes]


def test_writes_a_png_and_nothing_else(tmp_path, monkeypatch):
  # pyplot would keep figures alive and might ask for a display.
  monkeypatch.delitem(sys.modules, 'matplotlib.pyplot', raising=False)
  path = tmp_path / 'attention.png'
  plot_attention([VIDEO] * 2, WIDTHS, path)
  assert path.read_bytes().startswith(b'\x89PNG\r\n\x1a\n')
  assert list(tmp_path.iterdir()) == [path]
  assert 'matplotlib.pyplot' not in sys.modules


def test_colours_compare_with_an_even_share(drawn):
  even = dataclasses.replace(
    VIDEO,
    registers=np.full((4, 8), 1 / 8),
    clips=np.full((3, 8), 4 / 12),  # 4 registers among 8 clips and themselves
    frames=np.full((3, 20), 2 * 4 / 24),
  )
  plot_attention([even], WIDTHS, 'unused.png')
  registers, clips, frames = maps(drawn[0])
  np.testing.assert_allclose(registers, np.zeros((4, 8)), atol=1e-12)
  np.testing.assert_allclose(clips, np.zeros((3, 8)), atol=1e-12)
  np.testing.assert_allclose(frames, np.ones((3, 20)))


def test_all_maps_share_a_scale_around_even(drawn):
  plot_attention([VIDEO], WIDTHS, 'unused.png')
  norms = {
    id(mesh.norm): mesh.norm
    for axes in drawn[0].axes
    for mesh in axes.collections
    if mesh.get_array() is not None
  }
  limits = {(norm.vmin, norm.vmax) for norm in norms.values()}
  assert len(limits) == 1
  ((low, high),) = limits
  assert low == -high


def test_moments_and_maps_are_on_one_time_axis(drawn):
  plot_attention([VIDEO], WIDTHS, 'unused.png')
  timed = [axes for axes in drawn[0].axes if axes.get_xlim() == (0, 40)]
  assert len(timed) == 5  # moments, three maps, the time line
  edges = {
    (round(box.x0, 6), round(box.x1, 6))
    for box in (axes.get_position() for axes in timed)
  }
  assert len(edges) == 1
  spans = [(bar.get_x(), bar.get_width()) for bar in timed[0].patches]
  assert spans == [(10, 10), (20, 20)]  # cut at the end of the video
  borders = [line.get_xdata()[0] for line in timed[1].get_lines()]
  assert borders == [10, 20, 40]


def test_rows_are_named(drawn):
  plot_attention([VIDEO], WIDTHS, 'unused.png')
  names = [
    [label.get_text() for label in axes.get_yticklabels()]
    for axes in drawn[0].axes
  ]
  assert ['register 1', 'register 2', 'register 3', 'register 4'] in names
  assert names.count(['no window', 'window 0.5', 'window 16']) == 2


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize(
  'changes',
  [
    {'duration': None},
    {'captions': [], 'moments': np.zeros((0, 2))},
    {'moments': np.full((2, 2), np.nan)},
    {'moments': np.array([[0.1, 0.2], [np.nan, np.nan]])},
    {'captions': ['a$b$_{ ' * 60, '']},
    {'video_id': 'a$b$_' * 60},
    {'registers': np.ones((1, 1)), 'clips': np.ones((3, 1))},
    {'frames': np.ones((3, 1))},
  ],
)
def test_draws_any_video(tmp_path, changes):
  video = dataclasses.replace(VIDEO, **changes)
  plot_attention([video], WIDTHS, tmp_path / 'a.png')


def test_texts_do_not_meet(drawn):
  long = dataclasses.replace(VIDEO, captions=['W' * 300, 'word ' * 80])
  plot_attention([long], WIDTHS, 'unused.png')
  figure = drawn[0]
  figure.canvas.draw()
  moments = next(axes for axes in figure.axes if axes.patches)
  left = moments.get_window_extent().x0
  for text in moments.texts:
    assert text.get_window_extent().x0 > 0
    assert text.get_window_extent().x1 < left
  for axes in figure.axes:
    labels = [t.get_window_extent() for t in axes.get_yticklabels()]
    for title in axes.texts:
      if title.get_text().endswith(('clips', 'registers')):
        assert all(title.get_window_extent().x1 < box.x0 for box in labels)


def test_nothing_to_draw_is_an_error():
  with pytest.raises(ValueError, match='no videos'):
    plot_attention([], WIDTHS, 'unused.png')
