"""QVHighlights, regrouped for retrieval: 2816-wide frames, 512-wide words.

python main.py --config=configs/qvhighlights.py:msc --config.data.root=DIR

Published for MSC (R@1 R@5 R@10 R@100 SumR): 23.9 51.5 63.7 95.5 234.6.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(model: str = '') -> ConfigDict:
  """Returns the config; `model` is the string after the colon."""
  config = common.base_config()
  config.data.collection = 'qvhighlight'
  config.data.feature = 'qvhighlight_slowfast_clip.h5'
  config.data.text_feature = 'qvhighlight_slowfast_clip_text.h5'
  return common.with_model(config, model)
