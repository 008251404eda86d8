"""Cuts, graph and moments against the numbers of TF-PRVR's program."""

import numpy as np
import pytest

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.training_free import cuts, moments, wavelets
from dreamprvr_jax.training_free.taps import DEC_LO
from tests.helpers.golden import load

VIDEOS = {'A': 6, 'B': 6, 'C': 12}
SETTINGS = (
  *('db4-0.7', 'db4-0.0', 'db4-0.5', 'db4-0.95'),
  *('haar-0.7', 'db2-0.7', 'sym4-0.7'),
)
# Frames a, then as many frames -a: the whole video's mean is rounding noise.
CANCELLING = ('C', 10)


@pytest.fixture(scope='module')
def golden():
  return load('tf_prvr')


def unit(queries):
  queries = queries.astype(np.float64)
  return (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype('f4')


@pytest.mark.parametrize('setting', SETTINGS)
@pytest.mark.parametrize('part', VIDEOS)
def test_moments_and_scores(golden, part, setting):
  wavelet, beta = setting.split('-')
  queries = unit(golden['queries'])
  scores = []
  for i in range(VIDEOS[part]):
    found, edges = moments.moments(
      golden[f'{part}/videos/{i}'], wavelet, float(beta)
    )
    spans = np.stack([edges[:-1], edges[1:]], axis=1)
    name = f'{part}/{setting}/{i}'
    np.testing.assert_array_equal(spans, golden[f'{name}/moment_spans'])
    assert found.dtype == np.float32
    if (part, i) != CANCELLING:
      np.testing.assert_allclose(found, golden[f'{name}/moments'], atol=1e-7)
    scores.append((queries @ found.T).max(axis=1))
  np.testing.assert_allclose(
    np.stack(scores, axis=1), golden[f'{part}/{setting}/scores'], atol=1e-6
  )


@pytest.mark.parametrize('part', VIDEOS)
def test_steps(golden, part):
  for setting in (name for name in SETTINGS if name.endswith('-0.7')):
    wavelet = setting.split('-')[0]
    for i in range(VIDEOS[part]):
      name = f'{part}/{setting}/{i}'
      frames = cuts.unit_rows(golden[f'{part}/videos/{i}'])
      if f'{name}/signal' in golden:
        signal = cuts.turns(frames)
        np.testing.assert_allclose(signal, golden[f'{name}/signal'], atol=1e-12)
      if f'{name}/responses' in golden:
        found = wavelets.responses(signal, wavelet)
        expected = golden[f'{name}/responses']
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=1e-12)
      levels = cuts.levels_of(frames, wavelet)
      spans = np.concatenate(
        [np.stack([level[:-1], level[1:]], axis=1) for level in levels]
      )
      np.testing.assert_array_equal(spans, golden[f'{name}/node_spans'])
      nodes = np.concatenate([moments.pieces(frames, e) for e in levels])
      if (part, i) == CANCELLING:
        continue
      np.testing.assert_allclose(
        nodes, golden[f'{name}/node_features'], atol=1e-12
      )
      if f'{name}/graph' in golden:
        np.testing.assert_allclose(
          moments.graph(nodes, levels), golden[f'{name}/graph'], atol=1e-12
        )


def test_filters(golden):
  for name in ('db4', 'haar', 'db2', 'sym4'):
    for key, taps in wavelets.filters(name).items():
      np.testing.assert_array_equal(taps, golden[f'filters/{name}/{key}'])


@pytest.mark.parametrize('name', DEC_LO)
def test_filters_are_orthogonal(name):
  taps = np.array(DEC_LO[name])
  np.testing.assert_allclose(taps.sum(), np.sqrt(2), atol=1e-7)
  for shift in range(0, len(taps), 2):
    product = taps[shift:] @ taps[: len(taps) - shift]
    np.testing.assert_allclose(product, shift == 0, atol=1e-7)


@pytest.mark.parametrize(
  ('frames', 'levels'),
  [(15, 0), (16, 1), (29, 1), (30, 2), (57, 2), (58, 3), (450, 6)],
)
def test_depth(frames, levels):
  assert wavelets.depth(frames - 2, 8) == levels


def test_peaks():
  values = np.array([5, 1, 2, 2, 2, 2, 1, 3, 3, 4, 0, 7, 7], float)
  np.testing.assert_array_equal(cuts.peaks(values), [3, 9])


@pytest.mark.parametrize(
  ('features', 'message'),
  [
    (np.ones(4), 'shape'),
    (np.ones((0, 4)), 'shape'),
    (np.array([[1, np.nan]]), 'NaN'),
    (np.array([[1, 1], [0, 1e-13]]), 'row 1 of 2'),
  ],
)
def test_refused_features(features, message):
  with pytest.raises(cuts.FeaturesError, match=message):
    moments.moments(features)


@pytest.mark.parametrize('beta', [1, -0.1, np.nan])
def test_refused_beta(beta):
  with pytest.raises(UserError, match='beta'):
    moments.moments(np.eye(4), beta=beta)


def test_unknown_wavelet():
  with pytest.raises(UserError, match=r"'bior2\.2'.*db4"):
    moments.moments(np.eye(4), 'bior2.2')


def test_edges_alone(golden):
  features = golden['B/videos/3']
  _, edges = moments.moments(features, 'haar')
  np.testing.assert_array_equal(moments.moment_edges(features, 'haar'), edges)
