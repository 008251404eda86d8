"""TVR.

python main.py --config=configs/tvr.py --config.data.root=DIR

Published for DreamPRVR (R@1 R@5 R@10 R@100 SumR): 17.4 39.0 50.4 86.2 193.1.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(model: str = '') -> ConfigDict:
  """Returns the config; `model` is the string after the colon."""
  config = common.base_config()
  config.data.collection = 'tvr'
  config.data.feature = 'i3d_resnet'
  return common.with_model(config, model)
