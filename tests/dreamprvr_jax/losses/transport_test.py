"""Transport labels against values of the released functions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from dreamprvr_jax.losses import transport
from dreamprvr_jax.losses.evidential import evidence, expected_error
from tests.helpers import golden as files

labels_of = jax.jit(
  functools.partial(
    transport.transport_labels, quantile=0.3, scale=0.1, iterations=50
  )
)
stretched = jax.jit(transport.stretched)


def cosines(clips, captions):
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  clips, captions = (unit(np.asarray(x, np.float32)) for x in (clips, captions))
  return captions @ clips.T


def test_by_the_equations():
  x = stretched(
    cosines([(1, 0), (1, 1), (0, 1), (-1, 2)], [(2, 1), (0, 1)])[None],
    np.ones((1, 2), bool),
  )
  x = np.asarray(x)
  np.testing.assert_allclose(
    x[0],
    [
      [0.894427182, 0.948683289, 0.447213591, 0],
      [0, 0.707106774, 0.999999990, 0.894427182],
    ],
    atol=1e-6,
  )
  y = np.asarray(labels_of(x, np.ones((1, 2), bool)))
  np.testing.assert_allclose(
    y[0],
    [
      [0.415108485, 0.581126953, 0.003705402, 0.000059146],
      [0.000037679, 0.036099395, 0.648542558, 0.315320353],
    ],
    atol=2e-6,
  )


def test_a_missing_caption_counts_as_cosine_0():
  small = cosines([(2, 1), (1, 1), (1, 2), (1, 3)], [(2, 1), (0, 1)])
  # Another video has three captions.
  cosine = np.zeros((2, 3, 4), np.float32)
  cosine[0, :2], cosine[1] = small, 0.5
  real = np.asarray([[True, True, False], [True] * 3])
  x = np.asarray(stretched(cosine, real))
  np.testing.assert_allclose(
    x[0, :2],
    [
      [0.999999990, 0.948683289, 0.799999992, 0.707106774],
      [0.447213591, 0.707106774, 0.894427182, 0.948683289],
    ],
    atol=1e-6,
  )
  y = np.asarray(labels_of(x, real))
  np.testing.assert_allclose(
    y[0, 0], [0.534529455, 0.359668196, 0.078723983, 0.027078350], atol=2e-6
  )
  np.testing.assert_array_equal(y[0, 2], 0)
  losses = jax.jit(
    lambda x, y: expected_error(evidence(x, 0.08), y, np.ones((), bool))
  )(x, y)
  mean = np.mean(np.asarray(losses)[0, :2])
  np.testing.assert_allclose(mean, 0.007661141384, rtol=1e-4)


def test_released_numbers():
  unit = files.part(files.load('holmes_tiny'), 'unit/pot')
  real = unit['mask'] > 0

  def loss(clip, text):
    norm = lambda x: (
      x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
    )
    # Missing captions are zero vectors, whose norm has no gradient.
    text = jnp.where(real[..., None], text, 1.0)
    cosine = jnp.einsum('bqd,bcd->bqc', norm(text), norm(clip))
    x = stretched(cosine, real)
    y = labels_of(x, real)
    errors = expected_error(evidence(x, 0.08), y, np.ones((), bool))
    per_video = jnp.sum(jnp.where(real, errors, 0), 1) / jnp.sum(real, 1)
    return jnp.mean(per_video), (x, y)

  (value, (x, y)), gradients = jax.jit(
    jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
  )(unit['clip'], unit['text'])
  similarity = np.where(real[..., None], unit['similarity'], 0)
  np.testing.assert_allclose(x, similarity, atol=2e-6)
  transport = np.where(real[..., None], unit['transport'], 0)
  np.testing.assert_allclose(y, transport, atol=2e-5)
  np.testing.assert_allclose(value, unit['loss'], rtol=1e-4)
  for ours, name in zip(gradients, ('clip', 'text'), strict=True):
    assert files.distance(ours, unit[f'grad_{name}']) < 1e-3
