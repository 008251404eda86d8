"""ActivityNet Captions.

python main.py --config=configs/activitynet.py --config.data.root=DIR

Published for DreamPRVR (R@1 R@5 R@10 R@100 SumR): 8.7 27.5 40.3 79.5 156.1.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(model: str = '') -> ConfigDict:
  """Returns the config; `model` is the string after the colon."""
  config = common.base_config()
  config.data.collection = 'activitynet'
  config.data.feature = 'i3d'
  return common.with_model(config, model)
