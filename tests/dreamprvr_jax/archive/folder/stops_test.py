"""Requests to stop, while something is written and else."""

import os
import signal

import pytest

from dreamprvr_jax.archive.folder.stops import Stops


def ask():
  os.kill(os.getpid(), signal.SIGINT)


def write(done):
  with Stops() as stops:
    with stops.held():
      ask()
      done.append('written')
    done.append('never')


def test_a_request_waits_until_the_block_ends():
  done = []
  with pytest.raises(KeyboardInterrupt):
    write(done)
  assert done == ['written']
  assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_request_is_let_through_in_between():
  done = []
  with Stops() as stops, stops.held():
    with pytest.raises(KeyboardInterrupt), stops.released():
      ask()
    done.append('written')
  assert done == ['written']


def test_a_request_from_before_counts_in_between():
  with Stops() as stops, stops.held():
    ask()
    with pytest.raises(KeyboardInterrupt), stops.released():
      pytest.fail('goes on')


def test_a_request_else_is_passed_on_at_once():
  with pytest.raises(KeyboardInterrupt), Stops():
    ask()
