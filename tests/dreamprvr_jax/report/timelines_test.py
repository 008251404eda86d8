"""Tests of the picture of scores along videos."""

import dataclasses
import sys

import numpy as np
import pytest

from dreamprvr_jax.report import timelines
from dreamprvr_jax.report.timelines import (
  QueryExample,
  VideoRow,
  plot_timelines,
)

RIGHT = VideoRow(
  video_id='right',
  score=0.6,
  is_right=True,
  duration=40.0,
  clip_scores=np.array([0.1, 0.2, 0.8, 0.3]),
  frame_scores=np.linspace(0, 0.5, 10),
  moment=(0.5, 0.75),
)
OTHER = dataclasses.replace(
  RIGHT, video_id='other', score=0.7, is_right=False, duration=None, moment=None
)


@pytest.fixture
def drawn(monkeypatch):
  """Returns a list that receives the figure in place of the file."""
  figures = []
  monkeypatch.setattr(
    timelines, 'save', lambda figure, _: figures.append(figure)
  )
  return figures


def texts(figure):
  return [text.get_text() for text in figure.texts]


def test_writes_a_png_and_nothing_else(tmp_path, monkeypatch):
  # pyplot would keep figures alive and might ask for a display.
  monkeypatch.delitem(sys.modules, 'matplotlib.pyplot', raising=False)
  path = tmp_path / 'timelines.png'
  example = QueryExample('a man opens a door', 2, [OTHER, RIGHT])
  plot_timelines([example] * 3, path)
  assert path.read_bytes().startswith(b'\x89PNG\r\n\x1a\n')
  assert list(tmp_path.iterdir()) == [path]
  assert 'matplotlib.pyplot' not in sys.modules


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize(
  'changes',
  [
    {'clip_scores': np.array([])},
    {'frame_scores': np.array([])},
    {'clip_scores': np.array([]), 'frame_scores': np.array([])},
    {'clip_scores': np.full(4, np.nan), 'frame_scores': np.full(4, np.inf)},
    {'clip_scores': np.full(4, 0.5), 'frame_scores': np.full(1, 0.5)},
    {'duration': None},
    {'duration': 0.0},
    {'duration': 36000.0},
    {'moment': None},
    {'moment': (0.0, 1.0)},
    {'moment': (-0.5, 1.5)},
    {'score': float('nan')},
    {'video_id': ''},
    {'video_id': 'a$b$_' * 40},
  ],
)
def test_draws_any_row(tmp_path, changes):
  row = dataclasses.replace(RIGHT, **changes)
  plot_timelines([QueryExample('a query', 1, [row])], tmp_path / 'a.png')


@pytest.mark.filterwarnings('error')
def test_special_characters_stay_as_they_are(tmp_path, drawn):
  query = r'he pays $5 and $10 for \frac{a}{b}_c^d % # & {x}'
  plot_timelines([QueryExample(query, 1, [RIGHT])], tmp_path / 'a.png')
  assert query in texts(drawn[0])
  drawn[0].savefig(tmp_path / 'a.png')


def test_ranks(drawn):
  """The right video below the top keeps its own rank."""
  example = QueryExample('a query', 57, [OTHER, OTHER, RIGHT])
  plot_timelines([example], 'unused.png')
  assert 'right video: rank 57' in texts(drawn[0])
  assert [t for t in texts(drawn[0]) if t.isdigit()] == ['1', '2', '57']
  row = dataclasses.replace(OTHER, rank=8)
  plot_timelines([QueryExample('a query', 57, [row])], 'unused.png')
  assert '8' in texts(drawn[1])


@pytest.mark.parametrize('word', ['i', 'W', 'word'])
def test_long_queries_fit(drawn, word):
  example = QueryExample(f'{word} ' * 200, 1, [RIGHT])
  plot_timelines([example], 'unused.png')
  figure = drawn[0]
  figure.canvas.draw()
  boxes = {text.get_text(): text.get_window_extent() for text in figure.texts}
  lines = [text for text in boxes if text.startswith(word[:1])]
  assert len(lines) == 2
  assert lines[-1].endswith('…')
  rank = boxes['right video: rank 1']
  assert all(boxes[line].x1 < rank.x0 for line in lines)


@pytest.mark.parametrize('name', ['short', 'i' * 200, 'W' * 200])
def test_long_names_end_before_the_timeline(drawn, name):
  row = dataclasses.replace(RIGHT, video_id=name)
  plot_timelines([QueryExample('a query', 1, [row])], 'unused.png')
  figure = drawn[0]
  figure.canvas.draw()
  (label,) = [t for t in figure.texts if t.get_text().startswith(name[:3])]
  left = figure.axes[0].get_window_extent().x0
  assert label.get_window_extent().x1 < left


def test_best_moment_and_span(drawn):
  plot_timelines([QueryExample('a query', 1, [RIGHT])], 'unused.png')
  axes = drawn[0].axes[0]
  (triangle,) = [n for n in axes.get_lines() if n.get_marker() == 'v']
  assert list(triangle.get_xdata()) == [25]  # Middle of the third of 4 clips.
  borders = [n.get_xdata()[0] for n in axes.get_lines() if len(n.get_xdata())]
  assert {20, 30} <= set(borders)
  assert axes.get_xlim() == (0, 40)


def test_rows_of_a_query_share_the_scale(drawn):
  low = dataclasses.replace(OTHER, clip_scores=np.array([-1.0, -0.9]))
  plot_timelines([QueryExample('a query', 1, [RIGHT, low])], 'unused.png')
  first, second = drawn[0].axes
  assert first.get_ylim() == second.get_ylim()
  assert first.get_ylim()[0] < -1
  assert first.get_ylim()[1] > 0.8


def test_nothing_to_draw_is_an_error():
  with pytest.raises(ValueError, match='no examples'):
    plot_timelines([], 'unused.png')
  with pytest.raises(ValueError, match="no videos to draw for the query 'q'"):
    plot_timelines([QueryExample('q', 1, [])], 'unused.png')


def test_scores_of_a_batch_are_an_error():
  row = dataclasses.replace(RIGHT, clip_scores=np.zeros((2, 4)))
  with pytest.raises(ValueError, match=r'clip_scores.*\(2, 4\)'):
    plot_timelines([QueryExample('q', 1, [row])], 'unused.png')
