"""Work in several threads."""

import pytest

from dreamprvr_jax.archive.search import threads


@pytest.mark.parametrize('count', [1, 2])
def test_results_are_in_the_order_of_the_items(count, monkeypatch):
  monkeypatch.setattr(threads, 'THREADS', count)
  assert threads.spread(lambda x: x * x, range(9)) == [x * x for x in range(9)]
  assert threads.spread(str, []) == []


def test_errors_come_back():
  with pytest.raises(ZeroDivisionError):
    threads.spread(lambda x: 1 // x, [1, 0])
