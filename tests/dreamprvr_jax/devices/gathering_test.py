"""Values of one process; processes_test.py gathers those of two."""

import numpy as np

from dreamprvr_jax.devices.gathering import gather


def test_one_process():
  np.testing.assert_array_equal(gather(np.arange(3)), [[0, 1, 2]])
  assert gather(np.float32(2.5)).tolist() == [2.5]
