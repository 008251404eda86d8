"""The cone loss against values of the released functions."""

import jax
import numpy as np
import pytest

from dreamprvr_jax.layers import lorentz
from dreamprvr_jax.losses import cone
from tests.helpers import golden as files

APEX, POINT = np.float32([0.3, 0.4]), np.float32([0.1, 0.9])
curved_exponential = jax.jit(lorentz.curved_exponential)
half_aperture = jax.jit(cone.half_aperture)
exterior_angle = jax.jit(cone.exterior_angle)
cone_violation = jax.jit(cone.cone_violation)


@pytest.mark.parametrize(
  ('curvature', 'reached', 'aperture', 'angle', 'loss'),
  [
    (1.0, (0.31265720, 0.41687625), 0.41151683, 1.16519448, 0.75367765),
    (2.0, (0.32563251, 0.43417666), 0.28675654, 1.26960146, 0.98284492),
  ],
)
def test_by_the_equations(curvature, reached, aperture, angle, loss):
  c = np.float32(curvature)
  np.testing.assert_allclose(curved_exponential(APEX, c), reached, rtol=1e-5)
  np.testing.assert_allclose(half_aperture(APEX, c), aperture, rtol=1e-5)
  np.testing.assert_allclose(exterior_angle(APEX, POINT, c), angle, rtol=1e-5)
  np.testing.assert_allclose(cone_violation(APEX, POINT, c), loss, rtol=1e-5)


def test_released_numbers_saturated_ones_too():
  unit = files.part(files.load('hlformer_tiny'), 'unit')
  cones = {k: v for k, v in unit.items() if k.startswith('cone')}
  videos, texts = cones['cone_video'], cones['cone_text']
  c = np.float32(1.7)
  aperture = half_aperture(videos, c)
  np.testing.assert_allclose(aperture, cones['cone_half_aperture'], rtol=1e-5)
  assert (np.asarray(aperture) > 1.57).sum() == 2
  np.testing.assert_allclose(
    exterior_angle(videos, texts, c),
    cones['cone_exterior_angle'],
    rtol=1e-4,
  )
  mean = lambda v, t: cone.cone_violation(v, t, c).mean()
  gradients = jax.device_get(
    jax.jit(jax.grad(mean, argnums=(0, 1)))(videos, texts)
  )
  for ours, theirs in zip(
    gradients, (cones['cone_grad_video'], cones['cone_grad_text']), strict=True
  ):
    assert np.isfinite(ours).all()
    for row, expected in zip(ours, theirs, strict=True):
      if np.linalg.norm(expected):
        assert files.distance(row, expected) < 1e-3
