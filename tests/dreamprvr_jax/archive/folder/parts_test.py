"""Rows of a video: every second belongs to one part."""

import numpy as np
import pytest

from dreamprvr_jax.archive.extraction.stretches import Encoded
from dreamprvr_jax.archive.folder.parts import cores, rows_of_video
from dreamprvr_jax.trained.retriever import Retriever


def encoded(seconds, fps=2.0):
  found = Encoded('a.mp4', fps)
  rng = np.random.default_rng(0)
  found.add(rng.standard_normal((round(seconds * fps), 8)).astype(np.float32))
  found.duration = seconds
  return found


@pytest.mark.parametrize('seconds', [7.0, 20.0, 61.5])
@pytest.mark.parametrize('name', ['best_frame', 'tf_prvr'])
def test_cores_share_the_video(seconds, name):
  retriever = Retriever.free(name, width=8)
  found = encoded(seconds)
  rows = list(rows_of_video(retriever, found, 10.0, 4.0))
  joined = {key: np.concatenate([r[key] for r in rows]) for key in rows[0]}
  starts, durations = joined['starts'], joined['durations']
  low, high = (starts + joined['cores'][:, i] * durations for i in range(2))
  assert low[0] == 0
  assert high[-1] == pytest.approx(seconds, abs=1e-5)
  np.testing.assert_allclose(low[1:], high[:-1], atol=1e-5)
  assert (durations <= 10.0 + 1e-6).all()
  found.close()


def test_shares_of_rows():
  found = cores(
    np.array([0.0, 10.0, 0.0]), np.array([10.0, 10.0, np.nan]), 5.0, 12.0
  )
  np.testing.assert_allclose(found, [[0.5, 1], [0, 0.2], [0, 1]], atol=1e-6)
