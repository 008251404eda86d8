"""Sources of a split's arrays; one reads the official files."""

import threading
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Protocol

import numpy as np
import tqdm

from data_pipeline import merging, pooling
from data_pipeline.errors import ArrayError, BadItemError
from data_pipeline.joining import ReleaseSplit
from data_pipeline.options import DataOptions
from data_pipeline.release import Release
from dreamprvr_jax.training_free import rows as free_rows
from dreamprvr_jax.training_free.cuts import FeaturesError, unit_rows
from dreamprvr_jax.training_free.moments import moment_edges


class Source(Protocol):
  """Random access to the arrays of one split, ready to be batched."""

  def videos(
    self, indices: Sequence[int]
  ) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns (c, e) clips and (f, e) frames, float32, of each video."""
    ...

  def plans(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
    """Returns the (r, 2, c) int8 sizes and groups of merged clips; see
    `corpus.Split.clip_plan`."""
    ...

  def captions(self, indices: Sequence[int]) -> list[np.ndarray]:
    """Returns (l, e) float32 word features of each caption."""
    ...

  def use_threads(self, count: int) -> None:
    """Sets how many threads read at a time."""
    ...


class Threads:
  """An ordered map over a few threads that start when they are needed."""

  def __init__(self, count: int):
    self._count = count
    self._pool: futures.ThreadPoolExecutor | None = None
    self._lock = threading.Lock()

  def map(self, function: Callable, items: Sequence) -> list:
    """Returns the function's value for each item, in order."""
    if self._count <= 1 or len(items) <= 1:
      return [function(item) for item in items]
    with self._lock:
      if self._pool is None:
        self._pool = futures.ThreadPoolExecutor(
          self._count, thread_name_prefix='data'
        )
    return list(self._pool.map(function, items))

  def __getstate__(self):
    return {'count': self._count}

  def __setstate__(self, state):
    self.__init__(state['count'])


def require_finite(matrix: np.ndarray, item: str, where: str) -> np.ndarray:
  """Returns the matrix unchanged.

  Args:
    matrix: (rows, width) of any float type.
    item: What errors call it.
    where: The file that it is in.

  Raises:
    BadItemError: If it has NaN or infinite values.
  """
  # One sum shows that all values are finite, without temporary masks.
  with np.errstate(invalid='ignore', over='ignore'):
    total = np.add.reduce(matrix, axis=None, dtype=np.float64)
  if not np.isfinite(total):
    rows = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
    if rows.size:
      raise BadItemError(
        item,
        f'has NaN or infinite values in {where} (row {rows[0]} of '
        f'{len(matrix)}, {rows.size} rows in all); extract its features again',
      )
  return matrix


class ReleaseSource:
  """Makes items from the official files when they are read."""

  def __init__(
    self, release: Release, split: ReleaseSplit, options: DataOptions
  ):
    self._visual = release.visual
    self._text = release.text
    self._video_ids = split.video_ids
    self._captions = split.captions
    self._path = split.path
    self._options = options
    # Made along with the clips. Every clip has at least one frame, so a size
    # of 0 means that the plan is not known yet.
    shape = (len(split.video_ids), 2, merging.NUM_CLIPS)
    self._plans = np.zeros(shape, np.int8)
    self._moments = release.moments
    self._threads = Threads(options.workers)

  def use_threads(self, count: int) -> None:
    """Sets how many threads read at a time."""
    self._threads = Threads(count)

  def video(self, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the clips and frames of one video."""
    name = self._video_ids[index]
    item = f'video {name!r}'
    try:
      frames = self._visual.read(name)
    except ArrayError as error:
      raise BadItemError(item, str(error)) from None
    require_finite(frames, item, str(self._visual.path))
    if self._options.retriever:
      return self._tokens(frames, item)
    frames = frames.astype(np.float64)
    if self._options.merged:
      clips, frames, self._plans[index] = merging.merge_video(
        frames, self._options.merge_threshold
      )
      return clips, frames
    return (
      pooling.clip_features(frames, self._options.num_clips),
      pooling.frame_features(frames, self._options.max_frames),
    )

  def _tokens(
    self, frames: np.ndarray, item: str
  ) -> tuple[np.ndarray, np.ndarray]:
    """Returns the clip and the tokens of a video without training."""
    options = self._options
    try:
      if self._moments is not None:
        tokens = np.asarray(frames, np.float32)
      else:
        tokens, _ = free_rows.tokens_of(
          options.retriever, frames, options.wavelet, options.beta
        )
      return free_rows.mean_token(frames)[None], tokens
    except FeaturesError as error:
      raise BadItemError(item, f'{error} ({self._visual.path})') from None

  def edges(self, index: int) -> np.ndarray:
    """Returns the borders of the tokens that `tf_prvr` makes of a video, see
    `corpus.Split.frame_edges`; reads the video."""
    name = self._video_ids[index]
    if self._moments is not None:
      return self._moments.of(name, self._visual.shape(name)[0])
    try:
      frames = self._visual.read(name)
      return moment_edges(frames, self._options.wavelet)
    except (ArrayError, FeaturesError) as error:
      raise BadItemError(
        f'video {name!r}', f'{error} ({self._visual.path})'
      ) from None

  def all_edges(self) -> list[np.ndarray] | None:
    """Returns the borders of the tokens of all videos; None where a video's
    tokens share it evenly."""
    if self._options.retriever != 'tf_prvr':
      return None
    videos = range(len(self._video_ids))
    bar = tqdm.tqdm(
      total=len(videos), desc='cutting videos', disable=None, delay=2
    )
    with bar:

      def edges(index: int) -> np.ndarray:
        found = self.edges(index)
        bar.update()
        return found

      return self._threads.map(edges, videos)

  def caption(self, index: int) -> np.ndarray:
    """Returns the word features of one caption."""
    assert self._text is not None
    caption = self._captions[index]
    where = f'caption {caption.id!r} ({self._path}:{caption.line})'
    try:
      words = self._text.read(caption.id)
    except ArrayError as error:
      raise BadItemError(where, str(error)) from None
    require_finite(words, where, str(self._text.path))
    if self._options.retriever:
      try:
        # The vector of the sentence; see `sentences`.
        return unit_rows(words[-1:]).astype(np.float32)
      except FeaturesError as error:
        raise BadItemError(where, f'{error} ({self._text.path})') from None
    return pooling.word_features(words, self._options.max_words)

  def videos(self, indices: Sequence[int]):
    """See Source."""
    return self._threads.map(self.video, indices)

  def plans(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
    """See Source."""
    rows = np.asarray(indices, np.int64)
    self.videos(rows[self._plans[rows, 0, 0] == 0].tolist())
    return self._plans[rows]

  def captions(self, indices: Sequence[int]):
    """See Source."""
    # Captions are too small to be read by threads.
    return [self.caption(index) for index in indices]

  def bad_values(self) -> tuple[dict[int, str], dict[int, str]]:
    """Returns {index: reason} for videos and for captions with bad values."""

    def reason(function, index):
      try:
        function(index)
      except BadItemError as error:
        return error.reason
      return None

    def scan(function, count):
      found = self._threads.map(lambda i: reason(function, i), range(count))
      return {i: why for i, why in enumerate(found) if why}

    return (
      scan(self.video, len(self._video_ids)),
      scan(self.caption, len(self._captions)),
    )
