"""Pooled tokens as registers, against plain loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.models import trace
from dreamprvr_jax.models.anchors import AnchoredTrace, Anchors
from dreamprvr_jax.models.trace import ROUTINGS, Evidence, TraceSettings
from dreamprvr_jax.models.training_free import TFPRVR
from dreamprvr_jax.types import VideoEncoding
from tests.helpers import models

LENGTHS = (11, 8, 3, 1)
WIDTH = 5
MASK = np.arange(12) < np.array(LENGTHS)[:, None]
SETTINGS = TraceSettings('query', 0.07, 0.3, 0.2)
trace_scores = jax.jit(trace.trace_scores, static_argnums=2)


@functools.partial(jax.jit, static_argnums=0)
def _pooled(anchors, tokens, mask):
  return anchors.pool(tokens, mask)


def pooled(anchors, tokens, mask=MASK):
  """Returns the pooled tokens and which are real, on the host."""
  return jax.device_get(_pooled(anchors, tokens, mask))


def tokens(seed=0, count=12):
  rng = np.random.default_rng(seed)
  return rng.normal(size=(len(LENGTHS), count, WIDTH)).astype(np.float32)


def test_forms():
  assert Anchors.parse('temporal-4') == Anchors('temporal', 4)
  assert str(Anchors.parse('global-16')) == 'global-16'


@pytest.mark.parametrize(
  'form', ['temporal', 'temporal-0', 'local-4', 'temporal-100', 'Temporal-4']
)
def test_unknown_forms(form):
  with pytest.raises(UserError, match=f'TRACE has no form {form!r}; give temp'):
    Anchors.parse(form)


@pytest.mark.parametrize('kind', ['temporal', 'global'])
@pytest.mark.parametrize('count', [1, 4, 6])
def test_pooling(kind, count):
  given = tokens()
  found, real = pooled(Anchors(kind, count), given)
  for v, length in enumerate(LENGTHS):
    groups = [
      i * min(count, length) // length if kind == 'temporal' else i % count
      for i in range(length)
    ]
    for k in range(count):
      mine = [given[v, i] for i, group in enumerate(groups) if group == k]
      assert real[v, k] == bool(mine) == (k < length)
      if mine:
        np.testing.assert_allclose(found[v, k], np.mean(mine, 0), atol=1e-6)
  other = np.where(MASK[..., None], given, 7.0)
  again, _ = pooled(Anchors(kind, count), other)
  np.testing.assert_array_equal(found, again)


@pytest.mark.parametrize('branch', ['frame', 'clip'])
def test_scores(branch):
  """Padded frames take no part, and neither do words behind the pooled
  query."""
  clips, frames = tokens(1, 4), tokens(2)
  rng = np.random.default_rng(3)
  queries = rng.normal(size=(6, 3 * WIDTH)).astype(np.float32)
  scorer = AnchoredTrace(
    Anchors('temporal', 2), SETTINGS, branch, lambda x: x[..., :WIDTH]
  )
  score = lambda frames: models.apply(
    scorer, {}, queries, VideoEncoding(clips, frames, MASK), method='score'
  )
  found = score(frames)
  used = clips if branch == 'clip' else frames
  mask = np.ones((4, 4), bool) if branch == 'clip' else MASK
  anchors, real = pooled(Anchors('temporal', 2), used, mask)
  expected = trace_scores(
    queries[:, :WIDTH], Evidence(anchors, real, used, used, mask), SETTINGS
  )
  np.testing.assert_allclose(found.frame, expected, rtol=1e-6)
  other = np.where(MASK[..., None], frames, 9.0)
  np.testing.assert_array_equal(found.frame, score(other).frame)


@pytest.mark.parametrize('routing', sorted(ROUTINGS))
@pytest.mark.parametrize('form', ['temporal-8', 'global-8'])
def test_videos_with_fewer_tokens_than_anchors(form, routing):
  """Anchors without a token take no part: the same anchors alone score the
  same."""
  given, queries = tokens(4), tokens(5)[:, 0]
  settings = TraceSettings(routing, 0.07, 0.3, 0.2)
  anchors, real = pooled(Anchors.parse(form), given)
  found = trace_scores(
    queries, Evidence(anchors, real, given, given, MASK), settings
  )
  alone = _each_alone(queries, anchors, given, settings)
  np.testing.assert_allclose(found, alone, rtol=1e-5)


@functools.partial(jax.jit, static_argnums=3)
def _each_alone(queries, anchors, given, settings):
  """Returns the scores of each video without its padding and the others."""
  columns = []
  for v, length in enumerate(LENGTHS):
    count = min(8, length)
    frames = given[v : v + 1, :length]
    evidence = Evidence(
      anchors[v : v + 1, :count],
      np.ones((1, count), bool),
      frames,
      frames,
      np.ones((1, length), bool),
    )
    columns.append(trace.trace_scores(queries, evidence, settings))
  return jnp.concatenate(columns, axis=1)


def test_the_tokens_of_models():
  assert models.make('ms_sl').token_branch == 'frame'
  assert models.make('dreamprvr').token_branch == 'frame'
  assert models.make('gmmformer').token_branch == 'clip'
  assert models.make('ral').token_branch == 'clip'
  assert TFPRVR.token_branch == 'frame'
