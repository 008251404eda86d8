"""Tests of the Gaussian tables against values of the released function."""

import numpy as np
import pytest

from dreamprvr_jax.layers.gaussian import block_tables, gaussian_table


def test_four_tokens():
  expected = [
    [1, 0.011109, 0, 0],
    [0.105399, 1, 0.001171, 0],
    [0.000123, 1, 1, 0.000123],
    [0, 0.001171, 1, 0.105399],
  ]
  np.testing.assert_allclose(gaussian_table(4, 1.0), expected, atol=1e-6)


def test_rows_of_a_long_narrow_table():
  table = gaussian_table(128, 0.1)
  np.testing.assert_allclose(
    table[0, :5], [1, 0.777944, 0.366264, 0.104360, 0.017996], atol=2e-6
  )
  assert table[127].argmax() == 126
  np.testing.assert_allclose(
    table[127, [125, 127]], [0.774898, 0.781002], atol=2e-6
  )


@pytest.mark.parametrize('width', [0.25, 1.0, 16.0])
def test_each_row_peaks_at_1_left_of_the_middle_later(width):
  table = gaussian_table(32, width)
  np.testing.assert_array_equal(table.max(axis=1), 1.0)
  peak = table.argmax(axis=1)
  np.testing.assert_array_equal(peak[:16], np.arange(16))
  np.testing.assert_array_equal(peak[17:], np.arange(16, 31))


def test_wider_blocks_see_farther():
  assert gaussian_table(32, 4.0)[0, 31] > gaussian_table(32, 2.0)[0, 31]


def test_width_has_a_floor():
  narrow = gaussian_table(32, 0.0001)
  assert np.isfinite(narrow).all()
  np.testing.assert_array_equal(narrow, gaussian_table(32, 0.01))
  assert not np.array_equal(narrow, gaussian_table(32, 0.02))


def test_registers_and_blocks_without_width_keep_factor_1():
  tables = block_tables(4, 2, (0.0, 1.0))
  assert tables.shape == (2, 4, 6)
  assert tables.dtype == np.float32
  np.testing.assert_array_equal(tables[0], 1)
  np.testing.assert_array_equal(tables[1, :, 4:], 1)
  np.testing.assert_allclose(
    tables[1, 1, :4], [0.105399, 1, 0.001171, 0], atol=1e-6
  )
