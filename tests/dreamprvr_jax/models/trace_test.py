"""TRACE's score against its formulas, its masks, and its place in a model."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.models import trace
from dreamprvr_jax.models.trace import ROUTINGS, Evidence, TraceSettings

QUERIES, VIDEOS, REGISTERS, FRAMES, WIDTH = 5, 4, 3, 7, 6
SETTINGS = TraceSettings('query', 0.07, 0.3, 0.2)
trace_scores = jax.jit(trace.trace_scores, static_argnums=2)


def evidence(seed=0):
  rng = np.random.default_rng(seed)
  normal = lambda *shape: rng.standard_normal(shape).astype(np.float32)
  return Evidence(
    registers=normal(VIDEOS, REGISTERS, WIDTH),
    register_mask=np.arange(REGISTERS) < np.array([[3], [3], [2], [1]]),
    keys=normal(VIDEOS, FRAMES, WIDTH),
    values=normal(VIDEOS, FRAMES, WIDTH),
    frame_mask=np.arange(FRAMES) < np.array([[7], [4], [1], [6]]),
  )


def queries():
  rng = np.random.default_rng(9)
  return rng.standard_normal((QUERIES, WIDTH)).astype(np.float32)


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def expected(routing, videos, tau=0.07, gamma=0.3, eta=0.2):
  """Returns the scores by the paper's formulas, one pair at a time, float64."""
  scores = np.zeros((QUERIES, VIDEOS))
  for n, q in enumerate(unit(queries().astype(np.float64))):
    for v in range(VIDEOS):
      real = lambda x, mask, v=v: unit(np.float64(x[v][mask[v]]))
      r = real(videos.registers, videos.register_mask)
      f = real(videos.keys, videos.frame_mask)
      values = real(videos.values, videos.frame_mask)
      d, a, b = f @ q, r @ q, r @ f.T
      if routing == 'shuffled_frames':
        b = np.roll(b, len(f) // 2, axis=1)
      if routing == 'shuffled':
        a = np.roll(a, len(r) // 2)
      if routing == 'uniform':
        # The weights are equal; how near the registers are stays.
        a = np.full(len(r), tau * np.log(np.mean(np.exp(a / tau))))
      pi = np.exp(a / tau) / np.exp(a / tau).sum()
      rho = tau * np.log(np.exp((a[:, None] + b) / tau).sum(axis=0))
      soft = np.exp(b / tau) / np.exp(b / tau).sum(axis=1, keepdims=True)
      pooled = (pi[:, None] * soft).sum(axis=0) @ values
      scores[n, v] = np.max(d + gamma * rho) + eta * unit(pooled) @ q
      if routing == 'best_frame':
        scores[n, v] = d.max()
  return scores


@pytest.mark.parametrize('routing', ROUTINGS)
def test_formulas(routing):
  settings = dataclasses.replace(SETTINGS, routing=routing)
  found = trace_scores(queries(), evidence(), settings)
  assert found.dtype == jnp.float32
  np.testing.assert_allclose(found, expected(routing, evidence()), atol=2e-6)


def test_controls_differ():
  found = [
    trace_scores(
      queries(), evidence(), dataclasses.replace(SETTINGS, routing=routing)
    )
    for routing in ROUTINGS
  ]
  for i, one in enumerate(found):
    for other in found[:i]:
      assert np.abs(one - other)[:, 0].max() > 1e-3


@pytest.mark.parametrize('routing', ROUTINGS)
def test_padding_takes_no_part(routing):
  """Neither scores nor gradients see padded frames and registers."""
  settings = dataclasses.replace(SETTINGS, routing=routing)
  videos = evidence()

  @jax.jit
  @jax.value_and_grad
  def total(given):
    registers, keys, values = given
    videos_ = dataclasses.replace(
      videos, registers=registers, keys=keys, values=values
    )
    return jnp.sum(trace_scores(queries(), videos_, settings))

  given = videos.registers, videos.keys, videos.values
  value, gradients = jax.device_get(total(given))
  masks = videos.register_mask, videos.frame_mask, videos.frame_mask
  noise = evidence(1)
  other = tuple(
    np.where(mask[..., None], x, 9 * y)
    for x, y, mask in zip(
      given, (noise.registers, noise.keys, noise.values), masks, strict=True
    )
  )
  assert total(other)[0] == value
  zeros = tuple(
    np.where(mask[..., None], x, 0)
    for x, mask in zip(given, masks, strict=True)
  )
  assert total(zeros)[0] == value
  for gradient, mask in zip(gradients, masks, strict=True):
    assert np.isfinite(gradient).all()
    assert not gradient[~mask].any()


def test_a_video_without_frames_is_last():
  videos = evidence()
  mask = videos.frame_mask.copy()
  mask[2] = False
  found = trace_scores(
    queries(), dataclasses.replace(videos, frame_mask=mask), SETTINGS
  )
  assert np.isfinite(found).all()
  assert (found.argmin(axis=1) == 2).all()


def test_extreme_cosines():
  """Registers that point away from everything leave no number out of range."""
  one = np.eye(WIDTH, dtype=np.float32)[:1]
  videos = Evidence(
    registers=np.stack([one, -one], axis=1),
    register_mask=np.ones((1, 2), bool),
    keys=np.stack([one, -one], axis=1),
    values=np.stack([one, -one], axis=1),
    frame_mask=np.ones((1, 2), bool),
  )
  settings = dataclasses.replace(SETTINGS, temperature=0.05)
  grad = jax.grad(lambda q: trace_scores(q, videos, settings).sum())(one)
  assert np.isfinite(trace_scores(one, videos, settings)).all()
  assert np.isfinite(grad).all()


@pytest.mark.parametrize(
  ('change', 'sentence'),
  [
    ({'routing': 'other'}, "routing 'other' is unknown; choose from query"),
    ({'temperature': 0.01}, 'temperature is 0.01; give at least 0.05'),
  ],
)
def test_what_is_refused(change, sentence):
  with pytest.raises(UserError, match=sentence):
    dataclasses.replace(SETTINGS, **change)
