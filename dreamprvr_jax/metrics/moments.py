"""Video-corpus moment retrieval: the right video, and when in it; in numpy.

A query's list has moments of any videos, best first. It is right at k and an
overlap if one of its first k moments is in the right video and has at least
that temporal IoU with the true span.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

CUTOFFS = (1, 10, 100)
OVERLAPS = (0.3, 0.5, 0.7)


def temporal_iou(
  spans: Float[np.ndarray, '... 2'], truths: Float[np.ndarray, '... 2']
) -> Float[np.ndarray, '...']:
  """Returns intersection over union of spans (start, end); 0 where a span is
  NaN or the union is empty."""
  start = np.maximum(spans[..., 0], truths[..., 0])
  end = np.minimum(spans[..., 1], truths[..., 1])
  both = np.maximum(end - start, 0)
  union = np.diff(spans)[..., 0] + np.diff(truths)[..., 0] - both
  return np.where(union > 0, both / np.where(union > 0, union, 1), 0.0)


def summary(
  spans: Float[np.ndarray, 'n m 2'],
  in_right_video: Bool[np.ndarray, 'n m'],
  truths: Float[np.ndarray, 'n 2'],
  video_ranks: Int[np.ndarray, ' n'],
  *,
  cutoffs: Sequence[int] = CUTOFFS,
) -> dict[str, dict[str, float]]:
  """Returns recall in percent over the queries, at least one.

  Args:
    spans: Moments of each query, best first, in seconds; NaN after the last.
    in_right_video: Which of them are in the query's video.
    truths: The true spans, seconds.
    video_ranks: 1-based rank of the query's video among videos.
    cutoffs: The k of R@k.

  Returns:
    {'IoU 0.3': {'R@1': ..., ...}, ..., 'video': {'R@1': ..., ...}}.
  """
  iou = np.where(in_right_video, temporal_iou(spans, truths[:, None]), 0.0)
  found = {}
  for overlap in OVERLAPS:
    right = iou >= overlap
    found[f'IoU {overlap:g}'] = {
      f'R@{k}': float(100 * right[:, :k].any(axis=1).mean()) for k in cutoffs
    }
  found['video'] = {
    f'R@{k}': float(100 * np.mean(video_ranks <= k)) for k in cutoffs
  }
  return found
