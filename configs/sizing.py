"""How training on your own videos is sized, by their number and the device.

`chosen` has values for `KEYS`, which are used where `config.train.sizing` is
'auto' and the command line does not set the key.
"""

from typing import Any

KEYS = (
  'data.batch_size',
  'data.max_frames',
  'data.max_words',
  'model.parallel_execution',
  'optimizer.lr',
  'train.epochs',
)
# With so many videos, batches and rate are those of the papers. With fewer,
# batches are smaller, so that an epoch has several steps, and the rate higher.
_MANY = 2000
_BATCH = 16
# With fewer videos a CPU takes half of the epochs: runs with 17 and 60 videos
# had their best one before the 20th, and fell from there.
_FEW = 100


def chosen(
  *, videos: int, frames: int, words: int, devices: int, is_cpu: bool
) -> dict[str, Any]:
  """Returns values by key, not all of `KEYS`.

  Args:
    videos: Videos of the training split, at least 1.
    frames: Frames that are kept of the longest one.
    words: Word vectors that are kept of their longest caption.
    devices: Devices that share a batch.
    is_cpu: Whether training runs on a CPU.
  """
  # Batches of one size: 17 videos are 9 and 8, not 16 and 1.
  batches = -(-videos // (128 if videos >= _MANY else _BATCH))
  each = -(-videos // (batches * devices))
  values: dict[str, Any] = {'data.batch_size': each * devices}
  if videos >= _MANY:
    values['optimizer.lr'] = 2.5e-4
  if is_cpu:
    # An accelerator's time does not depend on padding so much.
    values['data.max_words'] = 8 * -(-words // 8)
    values['data.max_frames'] = max(32, 8 * -(-frames // 8))
  if is_cpu and videos < _FEW:
    values['train.epochs'] = 20
    # Compiles faster, which is worth more than faster steps in so short a run.
    values['model.parallel_execution'] = 'batched'
  return values
