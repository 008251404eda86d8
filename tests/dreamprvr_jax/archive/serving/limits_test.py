"""The number of connections is limited by file descriptors."""

import resource

import pytest

from dreamprvr_jax.archive.serving import limits
from dreamprvr_jax.archive.serving.limits import Limits, within_descriptors

LIMITS = Limits(connections=100)


@pytest.fixture
def allowed(monkeypatch):
  """Sets the system's limits; returns the requested ones."""
  asked = []
  monkeypatch.setattr(limits, '_open_files', lambda: 100)

  def allow(*pair):
    monkeypatch.setattr(resource, 'getrlimit', lambda kind: pair)
    monkeypatch.setattr(
      resource, 'setrlimit', lambda kind, pair: asked.append(pair)
    )
    return asked

  return allow


def test_enough(allowed):
  assert not allowed(1024, 4096)
  assert within_descriptors(LIMITS, 50) is LIMITS
  unlimited = resource.RLIM_INFINITY
  assert not allowed(unlimited, unlimited)
  assert within_descriptors(LIMITS, 50) is LIMITS


def test_more_are_asked_for(allowed):
  asked = allowed(256, 4096)
  assert within_descriptors(LIMITS, 50) is LIMITS
  assert asked == [(450, 4096)]


def test_fewer_are_taken(allowed, caplog):
  asked = allowed(256, 400)
  assert within_descriptors(LIMITS, 50).connections == 75
  assert asked == [(400, 400)]
  assert 'enough for 75 connections where 100 were' in caplog.text


def test_open_files_count(monkeypatch, allowed):
  allowed(256, 400)
  monkeypatch.setattr(limits, '_open_files', lambda: 200)
  assert within_descriptors(LIMITS, 50).connections == 25


def test_a_limit_that_the_system_refuses(monkeypatch, allowed):
  """macOS does this above its own limit, which it does not report."""
  allowed(256, resource.RLIM_INFINITY)

  def refuse(*_):
    raise ValueError('current limit exceeds maximum limit')

  monkeypatch.setattr(resource, 'setrlimit', refuse)
  assert within_descriptors(LIMITS, 50).connections == 3
