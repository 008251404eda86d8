"""Your own videos, as written by --mode=extract.

python main.py --config=configs/videos.py --config.data.root=ROOT

For archives from some ten videos up: `sizing.py` beside this file chooses
batches, lengths and epochs, unless --config.KEY=VALUE sets them; see
docs/extraction.md.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(model: str = '') -> ConfigDict:
  """Returns the config; `model` is the string after the colon."""
  config = common.base_config()
  config.data.collection = 'videos'
  config.data.feature = 'extracted'
  # The tokens of CLIP and SigLIP are parts of words.
  config.data.max_words = 64
  config = common.with_model(config, model).unlock()
  config.train.sizing = 'auto'
  # With sizing 'given': few videos still make several steps per epoch.
  config.data.batch_size = 16
  config.train.epochs = 40
  # A val split of a few videos says little about one epoch.
  config.train.smoothing = 3
  config.train.hard_negative_epoch = 10
  config.optimizer.lr = 5e-4
  config.optimizer.warmup = 0.05
  return config.lock()
