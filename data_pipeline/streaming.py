"""Batches made by tf.data: read when needed, nothing kept in memory."""

import contextlib
from collections.abc import Callable

import numpy as np

from data_pipeline.errors import DataError

_PARALLEL = 4


def import_tensorflow():
  """Returns the tensorflow module, which may not use accelerators.

  Raises:
    DataError: If TensorFlow is not installed.
  """
  try:
    import tensorflow as tf
  except ImportError as error:
    raise DataError(
      'the streaming pipeline needs TensorFlow: pip install '
      f'"dreamprvr_jax[tf]", or use the resident pipeline ({error})'
    ) from None
  for kind in ('GPU', 'TPU'):
    # It is too late if the device has been used before.
    with contextlib.suppress(RuntimeError):
      tf.config.set_visible_devices([], kind)
  return tf


class Stream:
  """Iterates over `make(first)`, `make(first + 1)`, ... through tf.data.

  The data set contains the numbers of batches; a deterministic parallel map
  turns each number into arrays with ranged reads. So the shuffle is perfect
  without a buffer, every process reads only its own rows, and starting at any
  position costs nothing.
  """

  def __init__(
    self,
    make: Callable[[int], dict[str, np.ndarray]],
    first: int,
    last: int | None,
    prefetch: int,
  ):
    """Starts reading.

    Args:
      make: Returns the arrays of a batch; called from several threads.
      first: Number of the first batch.
      last: Number after the last batch; None for no end.
      prefetch: Batches made ahead of time.

    Raises:
      DataError: If TensorFlow is not installed.
    """
    tf = import_tensorflow()
    self._failed = tf.errors.OpError
    self._errors: dict[int, BaseException] = {}
    self._names: list[str] = []
    self._first: dict[str, np.ndarray] | None = None
    last = np.iinfo(np.int64).max if last is None else last
    if first >= last:
      self._batches = iter(())
      return
    # The first batch shows the names and types.
    sample = make(first)
    self._first = sample
    self._names = list(sample)
    types = [sample[name].dtype for name in self._names]
    names, errors = self._names, self._errors

    def arrays(number):
      try:
        batch = make(int(number))
      except BaseException as error:
        # TensorFlow would keep only the text.
        errors[int(number)] = error
        raise
      return [batch[name] for name in names]

    def load(number):
      return tf.numpy_function(arrays, [number], types, stateful=True)

    dataset = tf.data.Dataset.range(first + 1, last)
    dataset = dataset.map(
      load,
      num_parallel_calls=max(1, min(_PARALLEL, prefetch)),
      deterministic=True,
    )
    dataset = dataset.prefetch(max(prefetch, 1))
    self._batches = dataset.as_numpy_iterator()

  def __iter__(self):
    return self

  def __next__(self) -> dict[str, np.ndarray]:
    if self._first is not None:
      first, self._first = self._first, None
      return first
    try:
      return dict(zip(self._names, next(self._batches), strict=True))
    except self._failed:
      if self._errors:
        raise self._errors[min(self._errors)] from None
      raise

  def close(self):
    """Stops reading."""
    self._batches = iter(())
    self._first = None
