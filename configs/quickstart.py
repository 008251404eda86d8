"""The main job on an embedded, generated corpus; minutes on two CPU cores.

python main.py --config=configs/quickstart.py

No download. The corpus is written as an official feature release and takes
the same path as real data.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(model: str = '') -> ConfigDict:
  """Returns the config; `model` is the string after the colon."""
  config = common.base_config()
  config.data.root = 'runs/quickstart_data'
  config.data.collection = 'simulated'
  config.data.feature = 'made'
  config.data.batch_size = 48
  config.simulated.enabled = True
  config.train.epochs = 8
  config.train.hard_negative_epoch = 4
  config.report.untrained = True
  config = common.with_model(config, model).unlock()
  config.optimizer.lr = 1e-3
  if 'width' in config.model:
    config.model.width = 64
    config.model.input_dropout = 0.1
    config.model.dropout = 0.1
  if 'parallel_execution' in config.model:
    # Compiles faster, which matters in a run of minutes
    config.model.parallel_execution = 'batched'
  return config.lock()
