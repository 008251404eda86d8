"""Distances and angles of a teacher, against numbers of the released code."""

import jax
import numpy as np
import pytest

from dreamprvr_jax.losses import relational
from tests.helpers import golden as files

distance_error = jax.jit(relational.distance_error)
angle_error = jax.jit(relational.angle_error)
I6 = np.arange(6)[:, None]
STUDENT = np.sin(1 + 1.3 * I6 + 0.7 * np.arange(3)).astype(np.float32)
TEACHER = np.cos(0.5 + 0.9 * I6 - 1.1 * np.arange(4)).astype(np.float32)


def test_by_the_equations():
  mask = np.ones(6, bool)
  total = lambda s: (
    15 * distance_error(s, TEACHER, mask) + 30 * angle_error(s, TEACHER, mask)
  )
  np.testing.assert_allclose(
    distance_error(STUDENT, TEACHER, mask), 0.0703615, rtol=1e-5
  )
  np.testing.assert_allclose(
    angle_error(STUDENT, TEACHER, mask), 0.0730514, rtol=1e-5
  )
  gradient = np.asarray(jax.jit(jax.grad(total))(STUDENT))
  np.testing.assert_allclose(
    gradient[0], (-0.952611, -0.693103, -0.107618), rtol=1e-4
  )


@pytest.mark.parametrize(
  ('error', 'name'), [(distance_error, 'rkd_d'), (angle_error, 'rkd_a')]
)
def test_gradients_of_the_released_program(error, name):
  golden = files.load('msc_tiny')
  student, teacher = (
    golden[f'train/{who}_query'] for who in ('student', 'teacher')
  )
  mask = np.ones(len(student), bool)
  gradient = jax.jit(jax.grad(error))(student, teacher, mask)
  assert files.distance(gradient, golden[f'partial/{name}_query']) < 1e-4


@pytest.mark.parametrize('error', [distance_error, angle_error])
def test_padding_and_equal_captions(error):
  # Two captions are equal, and the values of the padding must not matter.
  pad = lambda x, value: np.concatenate(
    [x, x[:1], np.full((2, x.shape[1]), value, np.float32)]
  )
  mask = np.arange(9) < 7
  differentiated = jax.jit(jax.value_and_grad(error))
  run = lambda *given: jax.device_get(differentiated(*given))
  value, gradient = run(pad(STUDENT, 0.0), pad(TEACHER, 3.0), mask)
  other, _ = run(pad(STUDENT, 9.0), pad(TEACHER, 0.0), mask)
  np.testing.assert_allclose(value, other, rtol=1e-6)
  assert np.isfinite(gradient).all()
  np.testing.assert_array_equal(gradient[7:], 0)
  whole, _ = run(pad(STUDENT, 0.0)[:7], pad(TEACHER, 0.0)[:7], np.ones(7, bool))
  np.testing.assert_allclose(value, whole, rtol=1e-4)
