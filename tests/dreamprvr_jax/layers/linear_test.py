"""Linear maps over one axis to one or several."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamprvr_jax.layers.linear import Linear, linear
from tests.helpers.models import apply, initial


@pytest.mark.parametrize('features', [(5,), (2, 3)])
def test_equals_dense_general(features):
  x = np.random.default_rng(0).normal(size=(2, 4, 6)).astype(np.float32)
  ours, theirs = Linear(features), nn.DenseGeneral(features)
  variables = initial(theirs, x)
  shapes = jax.tree.map(jnp.shape, initial(ours, x))
  assert shapes == jax.tree.map(jnp.shape, variables)
  np.testing.assert_allclose(
    apply(ours, variables, x), apply(theirs, variables, x), rtol=1e-5, atol=1e-6
  )


def test_values_and_compute_dtype():
  layer = linear(300, jnp.bfloat16, use_bias=False)
  x = np.ones((2, 200), np.float32)
  params = initial(layer, x)['params']
  assert set(params) == {'kernel'}
  assert params['kernel'].dtype == jnp.float32
  assert abs(np.std(params['kernel']) - 0.02) < 1e-3
  assert apply(layer, {'params': params}, x).dtype == jnp.bfloat16


def test_a_kernels_gradient_is_one_product_without_copies():
  # This is the reason for flattening; see the class.
  layer = Linear((16,))
  x = np.ones((3, 4, 8), np.float32)
  variables = initial(layer, x)
  program = jax.make_jaxpr(
    jax.grad(lambda v: jnp.sum(jnp.square(layer.apply(v, x))))
  )(variables)
  shapes = [
    tuple(v.aval.shape for v in equation.invars)
    for equation in program.jaxpr.eqns
    if equation.primitive.name == 'dot_general'
  ]
  assert shapes == [((12, 8), (8, 16)), ((12, 16), (12, 8))]
