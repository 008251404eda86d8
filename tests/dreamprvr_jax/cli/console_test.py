"""Results that a command prints."""

import pytest

from dreamprvr_jax.cli import console


@pytest.mark.parametrize(
  ('queries', 'videos', 'is_few'),
  [(49, 20, True), (50, 19, True), (50, 20, False), (3_000, 900, False)],
)
def test_a_small_split_is_warned_of(queries, videos, is_few, capsys):
  metrics = {'split': 'test', 'num_queries': queries, 'num_videos': videos}
  console.warn_of_few(metrics)
  said = capsys.readouterr().out
  assert said.startswith('warning: the split test has only') == is_few
  assert bool(said) == is_few
