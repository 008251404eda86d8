"""Overlap of spans, and recall of moments."""

import numpy as np
import pytest

from dreamprvr_jax.metrics.moments import summary, temporal_iou


@pytest.mark.parametrize(
  ('one', 'other', 'expected'),
  [
    ((0, 10), (0, 10), 1.0),
    ((0, 10), (5, 15), 1 / 3),
    ((0, 10), (2, 4), 0.2),
    ((0, 1), (1, 2), 0.0),
    ((0, 1), (5, 6), 0.0),
    ((3, 3), (3, 3), 0.0),
    ((np.nan, np.nan), (0, 1), 0.0),
  ],
)
def test_overlap(one, other, expected):
  one, other = np.asarray(one, float), np.asarray(other, float)
  assert temporal_iou(one, other) == pytest.approx(expected)
  assert temporal_iou(other, one) == pytest.approx(expected)


def test_recall():
  nothing = (np.nan, np.nan)
  spans = np.asarray(
    [
      # The right span in the wrong video, then half of it in the right one.
      [(0, 10), (0, 5), nothing],
      [(0, 8), (20, 30), (0, 10)],
      [(50, 60), nothing, nothing],
    ]
  )
  right = np.asarray(
    [[False, True, False], [True, True, True], [True, False, False]]
  )
  truths = np.asarray([[0.0, 10.0]] * 3)
  found = summary(
    spans, right, truths, np.asarray([2, 1, 1]), cutoffs=(1, 2, 3)
  )
  third = 100 / 3
  assert found['IoU 0.3'] == pytest.approx(
    {'R@1': third, 'R@2': 2 * third, 'R@3': 2 * third}
  )
  # An overlap of exactly the threshold counts.
  assert found['IoU 0.5'] == found['IoU 0.3']
  assert found['IoU 0.7'] == pytest.approx(
    {'R@1': third, 'R@2': third, 'R@3': third}
  )
  assert found['video'] == pytest.approx(
    {'R@1': 2 * third, 'R@2': 100, 'R@3': 100}
  )
