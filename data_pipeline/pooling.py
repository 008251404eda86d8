"""Segment pooling and normalisation (docs/method.md, "Clips and frames").

Everything runs in float64 up to the final cast, as in the published programs.
Preparation, resident reading and streaming all call these functions, so they
give the same numbers bit for bit.
"""

import numpy as np

_EPSILON = 1e-5


def segment_boundaries(num_frames: int, num_segments: int) -> np.ndarray:
  """Returns the boundaries of equal segments of a video.

  Boundary i is `i * num_frames / num_segments` rounded half to even and capped
  at the last frame, in exact integer arithmetic.

  Args:
    num_frames: Length of the video, at least 1.
    num_segments: Number of segments m, at least 1.

  Returns:
    (m + 1,) int64, non-decreasing.

  Raises:
    ValueError: If there is no frame or no segment.
  """
  if num_frames < 1 or num_segments < 1:
    raise ValueError(
      'segments need at least one frame and one segment, got '
      f'{num_frames} frames and {num_segments} segments'
    )
  products = np.arange(num_segments + 1, dtype=np.int64) * num_frames
  quotient, remainder = np.divmod(products, num_segments)
  twice = 2 * remainder
  # A tie goes to the even neighbour: up only from an odd quotient.
  up = (twice > num_segments) | ((twice == num_segments) & (quotient % 2 == 1))
  return np.minimum(quotient + up, num_frames - 1)


def pool_segments(frames: np.ndarray, num_segments: int) -> np.ndarray:
  """Returns the mean of each segment of a video.

  Args:
    frames: (n, e) frame vectors of any float type.
    num_segments: Number of segments m.

  Returns:
    (m, e) float64. A segment without frames repeats the frame at its start, so
    short videos repeat rows. Because the last boundary is capped at n - 1, a
    long video's last frame belongs to no segment.
  """
  frames = np.asarray(frames, np.float64)
  edges = segment_boundaries(len(frames), num_segments)
  # Between equal edges `reduceat` returns the row at the edge, as wanted. Its
  # last output belongs to the closing boundary.
  sums = np.add.reduceat(frames, edges, axis=0)[:-1]
  return sums / np.maximum(np.diff(edges), 1)[:, None]


def normalize_rows(rows: np.ndarray) -> np.ndarray:
  """Returns `v / (|v| + 1e-5)` for each row, in the precision of the rows.

  Half precision is computed in float32: there the squares overflow and the
  1e-5 vanishes.
  """
  rows = np.asarray(rows)
  if rows.dtype not in (np.float32, np.float64):
    rows = rows.astype(np.float32 if rows.dtype == np.float16 else np.float64)
  norms = np.sqrt(np.sum(rows * rows, axis=-1, keepdims=True))
  return rows / (norms + rows.dtype.type(_EPSILON))


def clip_features(frames: np.ndarray, num_clips: int) -> np.ndarray:
  """Returns the (num_clips, e) float32 clips of a video's (n, e) frames."""
  pooled = pool_segments(frames, num_clips)
  return normalize_rows(pooled).astype(np.float32)


def frame_features(frames: np.ndarray, max_frames: int) -> np.ndarray:
  """Returns (min(n, max_frames), e) float32 frames, pooled if there are
  more."""
  frames = np.asarray(frames, np.float64)
  if len(frames) > max_frames:
    frames = pool_segments(frames, max_frames)
  return normalize_rows(frames).astype(np.float32)


def word_features(words: np.ndarray, max_words: int) -> np.ndarray:
  """Returns (min(l, max_words), e) float32 word vectors of unit length.

  Rows are normalised independently, so cutting first changes nothing.
  """
  return normalize_rows(words[:max_words]).astype(np.float32)
