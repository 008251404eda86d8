"""Tests of the picture that follows a run."""

import threading
import time

import pytest

from dreamprvr_jax.report.live import redrawn

PAUSE = 0.01


def wait_for(condition):
  deadline = time.monotonic() + 20
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(PAUSE)


def test_draws_changes_while_the_body_runs():
  rows, drawn = [1], []
  with redrawn(lambda: list(rows), drawn.append, seconds=PAUSE):
    wait_for(lambda: drawn == [[1]])
    time.sleep(5 * PAUSE)
    rows.append(2)
    wait_for(lambda: len(drawn) == 2)
  assert drawn == [[1], [1, 2]]


def test_what_the_body_leaves_is_drawn():
  rows, drawn = [], []
  with redrawn(lambda: list(rows), drawn.append, seconds=60):
    rows.append(1)
  assert drawn == [[1]]


def test_no_thread_stays_behind():
  before = threading.active_count()
  with redrawn(lambda: 7, lambda _: None, seconds=60):
    assert threading.active_count() == before + 1
  assert threading.active_count() == before


def test_an_interrupted_body_is_drawn_and_stays_interrupted():
  drawn = []
  with (
    pytest.raises(KeyboardInterrupt),
    redrawn(lambda: 7, drawn.append, seconds=60),
  ):
    raise KeyboardInterrupt
  assert drawn == [7]


def test_a_failing_picture_leaves_the_body_alone(caplog):
  def fail(_):
    raise OSError('disk full')

  done = []
  with redrawn(lambda: 7, fail, seconds=PAUSE):
    wait_for(lambda: 'disk full' in caplog.text)
    done.append(1)
  assert done
  assert caplog.text.count('the picture is not drawn') == 1


def test_an_error_of_the_program_comes_out_after_the_body(caplog):
  def fail(_):
    raise KeyError('no such row')

  def watched(done):
    with redrawn(lambda: 7, fail, seconds=PAUSE):
      wait_for(lambda: 'no such row' in caplog.text)
      done.append(1)

  done = []
  with pytest.raises(KeyError):
    watched(done)
  assert done
