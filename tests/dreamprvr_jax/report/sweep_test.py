"""The picture of a sweep."""

import pytest

from dreamprvr_jax.report import sweep

PNG = b'\x89PNG\r\n\x1a\n'


@pytest.fixture
def drawn(monkeypatch):
  """Returns a list that receives the figure in place of the file."""
  figures = []
  monkeypatch.setattr(sweep, 'save', lambda figure, _: figures.append(figure))
  return figures


def lines(axes):
  return {line.get_label(): line for line in axes.get_lines()}


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize(
  'sums',
  [
    {1: [10.0]},
    {1: [10.0, 12.0], 2: [11.0]},
    {0.001: [1.0], 0.1: [2.0], 1.0: [3.0]},
    {'a$b': [1.0, 2.0], 'a rather long value ' * 4: [3.0]},
    {True: [1.0], False: [2.0]},
  ],
)
def test_draws_any_values(tmp_path, sums):
  sweep.plot_sweep('model.key_$', sums, tmp_path / 'sweep.png')
  assert (tmp_path / 'sweep.png').read_bytes().startswith(PNG)


def test_means_spread_and_best(drawn):
  sums = {4: [5.0, 7.0], 1: [1.0, 3.0], 2: [9.0]}
  sweep.plot_sweep('k', sums, 'unused.png')
  (axes,) = drawn[0].axes
  best = lines(axes)['best: 9.0 (2)']
  assert list(best.get_xdata()) == [2]
  (bars,) = axes.containers
  line, _, (spread,) = bars
  assert list(line.get_xdata()) == [1, 2, 4]
  assert list(line.get_ydata()) == [2, 9, 6]
  low, high = spread.get_segments()[0][:, 1]
  assert (low, high) == pytest.approx((2 - 2**0.5, 2 + 2**0.5))
  assert axes.get_xscale() == 'linear'


def test_values_far_apart_have_a_logarithmic_scale(drawn):
  sweep.plot_sweep('k', {0.001: [1.0], 1: [2.0]}, 'unused.png')
  assert drawn[0].axes[0].get_xscale() == 'log'
  sweep.plot_sweep('k', {0: [1.0], 1: [2.0]}, 'unused.png')
  assert drawn[1].axes[0].get_xscale() == 'linear'


def test_names_stand_in_the_given_order(drawn):
  sweep.plot_sweep('k', {'b': [1.0], 'a': [2.0]}, 'unused.png')
  labels = [t.get_text() for t in drawn[0].axes[0].get_xticklabels()]
  assert labels == ['b', 'a']


def test_nothing_to_draw():
  with pytest.raises(ValueError, match='no values'):
    sweep.plot_sweep('k', {}, 'unused.png')
