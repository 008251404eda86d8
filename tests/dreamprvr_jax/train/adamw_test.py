"""AdamW and its schedule, against plain computations."""

import jax
import numpy as np
import optax

from dreamprvr_jax.train.adamw import adamw, warmup_to_floor


def test_schedule():
  rate = warmup_to_floor(2.0, 100, 0.1)
  found = [float(rate(step)) for step in (0, 5, 10, 55, 100, 200)]
  np.testing.assert_allclose(found, [0, 1, 2, 1.1, 0.2, 0.2], rtol=1e-6)
  assert float(warmup_to_floor(2.0, 100, 0.0)(0)) == 2


def test_update():
  """All gradients are clipped together; norms and biases do not decay."""
  params = {
    'map': {'kernel': np.array([[1.0, -2.0]]), 'bias': np.array([3.0])},
    'norm': {'scale': np.array([0.5])},
  }
  gradients = jax.tree.map(lambda x: 4 * np.ones_like(x), params)
  optimizer = adamw(lambda count: 0.1, weight_decay=0.5, max_norm=1.0)
  state, update = optimizer.init(params), jax.jit(optimizer.update)
  for count in (1, 2):
    changes, state = update(gradients, state, params)
    clipped = 0.5  # each of four equal gradients, together of norm 1
    first = clipped * (1 - 0.9**count) / (1 - 0.9**count)
    second = clipped**2
    step = first / (np.sqrt(second) + 1e-8)
    expected = {
      'map': {
        'kernel': -0.1 * (step + 0.5 * params['map']['kernel']),
        'bias': -0.1 * step * np.ones(1),
      },
      'norm': {'scale': -0.1 * step * np.ones(1)},
    }
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6),
      changes,
      expected,
    )
    params = optax.apply_updates(params, changes)
