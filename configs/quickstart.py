"""The main job on an embedded, generated corpus; 90 seconds on two CPU cores.

python main.py --config=configs/quickstart.py

No download. The corpus is written as an official feature release and takes
the same path as real data.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(model: str = '') -> ConfigDict:
  """Returns the config; `model` is the string after the colon."""
  config = common.base_config()
  config.data.root = 'runs/quickstart_corpus'
  config.data.collection = 'simulated'
  config.data.feature = 'made'
  config.data.batch_size = 48
  config.simulated.enabled = True
  # With more, three seeds differ as much as the models do.
  config.simulated.noise = 1.0
  config.train.epochs = 6
  config.train.hard_negative_epoch = 3
  config.report.untrained = True
  config = common.with_model(config, model).unlock()
  config.optimizer.lr = 1e-3
  if 'width' in config.model:
    config.model.width = 64
    # A run of six epochs learns less with more.
    config.model.input_dropout = 0.02
    config.model.dropout = 0.02
    if config.data.clips == 'pooled':
      # Half of the usual frames: most of a narrow model's step is attention.
      config.data.max_frames = 64
  if model in ('msc', 'diffusionret'):
    # They need a vector of the sentence, which generated words do not end in.
    # The last word takes its place, and says little.
    config.data.sentence = 'last'
  if 'parallel_execution' in config.model:
    # Compiles faster, which matters in so short a run.
    config.model.parallel_execution = 'batched'
  return config.lock()
