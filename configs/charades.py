"""Charades-STA.

python main.py --config=configs/charades.py --config.data.root=DIR

Published for DreamPRVR (R@1 R@5 R@10 R@100 SumR): 2.6 8.7 14.5 54.2 80.0.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(model: str = '') -> ConfigDict:
  """Returns the config; `model` is the string after the colon."""
  config = common.base_config()
  config.data.collection = 'charades'
  config.data.feature = 'i3d_rgb_lgi'
  return common.with_model(config, model)
