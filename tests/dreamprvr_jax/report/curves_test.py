"""Tests of the picture of a training run."""

import math
import sys

import pytest

from dreamprvr_jax.report import curves

PNG = b'\x89PNG\r\n\x1a\n'


def train_row(step, **losses):
  row = {'kind': 'train', 'step': step, 'epoch': step // 10, 'lr': 1e-4}
  return row | {f'loss/{name}': value for name, value in losses.items()}


def eval_row(epoch, split='val', **values):
  return {'kind': 'eval', 'epoch': epoch, 'split': split} | values


@pytest.fixture
def drawn(monkeypatch):
  """Returns a list that receives the figure in place of the file."""
  figures = []
  monkeypatch.setattr(curves, 'save', lambda figure, _: figures.append(figure))
  return figures


def lines(axes):
  return {line.get_label(): line for line in axes.get_lines()}


def test_writes_a_png_and_nothing_else(tmp_path, monkeypatch):
  # pyplot would keep figures alive and might ask for a display.
  monkeypatch.delitem(sys.modules, 'matplotlib.pyplot', raising=False)
  path = tmp_path / 'curves.png'
  path.write_text('an older file')
  rows = [train_row(step, total=2.0, nce=1.0) for step in range(3)]
  rows += [eval_row(epoch, SumR=float(epoch)) for epoch in range(3)]
  curves.plot_training(iter(rows), path, chance=0.5)
  assert path.read_bytes().startswith(PNG)
  assert list(tmp_path.iterdir()) == [path]
  assert 'matplotlib.pyplot' not in sys.modules


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize(
  'rows',
  [
    [],
    [{}],
    [{'kind': 'train'}, {'kind': 'eval'}],
    [train_row(0, total=1.0)],
    [train_row(0, total=math.nan)],
    [train_row(0, total=math.inf), train_row(1, total=-1.0)],
    [train_row(0, **{'a$b': 1.0, 'c$_': 0.0})],
    [eval_row(0, SumR=1.0)],
    [eval_row(0, SumR=math.nan, **{'R@1': None})],
    [train_row(s, **{f'n{i}': 1.0 for i in range(40)}) for s in (0, 1)],
  ],
)
@pytest.mark.parametrize('chance', [None, 1.25])
def test_draws_any_log(tmp_path, rows, chance):
  path = tmp_path / 'curves.png'
  curves.plot_training(rows, path, chance=chance)
  assert path.read_bytes().startswith(PNG)


def test_losses(drawn):
  rows = [train_row(0, total=3.0, nce=1.0), train_row(10, total=2.0)]
  curves.plot_training(rows, 'unused.png')
  axes = drawn[0].axes[0]
  assert set(lines(axes)) == {'total', 'nce'}
  assert list(lines(axes)['total'].get_xdata()) == [0, 10]
  assert list(lines(axes)['total'].get_ydata()) == [3, 2]
  assert axes.get_yscale() == 'log'


@pytest.mark.parametrize('value', [0.0, -1.0])
def test_linear_scale_unless_all_are_positive(drawn, value):
  curves.plot_training([train_row(0, total=1.0, kl=value)], 'unused.png')
  assert drawn[0].axes[0].get_yscale() == 'linear'


def test_a_step_logged_twice_counts_once(drawn):
  """A run that resumes repeats the steps since its last checkpoint."""
  rows = [train_row(s, total=t) for s, t in [(0, 4.0), (1, 3.0), (1, 2.0)]]
  curves.plot_training(rows, 'unused.png')
  assert list(lines(drawn[0].axes[0])['total'].get_ydata()) == [4, 2]


def test_recalls_and_best_epoch(drawn):
  values = [10.0, 30.0, math.nan, 30.0, 20.0]
  rows = [
    eval_row(epoch, SumR=value, **{'R@1': 1.0, 'R@100': 2.0})
    for epoch, value in enumerate(values)
  ]
  curves.plot_training(rows, 'unused.png', chance=1.5)
  _, middle, right = drawn[0].axes
  assert set(lines(middle)) == {'R@1', 'R@100'}
  best = lines(right)['best: 30.0 (epoch 1)']
  assert list(best.get_xdata()) == [1]
  assert lines(right)['chance: 1.5'].get_linestyle() == '--'


def test_one_split_is_drawn(drawn):
  rows = [eval_row(0, 'test', SumR=9.0), eval_row(0, SumR=1.0)]
  curves.plot_training(rows, 'unused.png')
  assert list(lines(drawn[0].axes[2])['SumR'].get_ydata()) == [1]
  curves.plot_training(rows[:1], 'unused.png')
  assert list(lines(drawn[1].axes[2])['SumR'].get_ydata()) == [9]


def test_missing_folder_is_made(tmp_path):
  path = tmp_path / 'none' / 'curves.png'
  curves.plot_training([], path)
  assert path.stat().st_size > 0
