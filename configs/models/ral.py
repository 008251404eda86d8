"""RAL on GMMFormer v2: published hyper-parameters by dataset.

No configuration was released for Charades: it gets GMMFormer v2's numbers, and
RAL's branch weights and loss factors of ActivityNet.
"""

from ml_collections import ConfigDict

from configs.keys import key
from configs.models import family, gmmformer_v2

# What differs from GMMFormer v2.
OWN = {
  'tvr': {
    'train': {'epochs': 150, 'patience': 15},
    'model': {'clip_weight': 0.5, 'frame_weight': 0.5},
  },
}


def settings(collection: str) -> dict[str, ConfigDict]:
  """Returns {section: values} of RAL for a dataset."""
  model, loss = family.model_keys('ral'), family.loss_keys()
  family.block_keys(model)
  family.merger_keys(model)
  model.num_proxies = key(
    6, 'Draws from the Gaussian of a video, and from that of its captions (RAL)'
  )
  model.support_captions = key(
    26,
    "Captions that a video's Gaussian has room for (RAL); zero vectors fill "
    'the rest',
  )
  model.padded_support = key(
    'both',
    "Sides on which padding takes part in the attention behind RAL's "
    "Gaussians: 'both' (released), 'text', 'video' or 'none'",
  )
  model.block_widths = gmmformer_v2.WIDTHS
  model.clip_weight, model.frame_weight = 0.6, 0.4
  loss.proxy_matching, loss.proxy_divergence = 0.004, 2.5e-4
  found = family.with_numbers(model, loss, gmmformer_v2.DATASETS, collection)
  for section, values in OWN.get(collection, {}).items():
    found[section].update(values)
  return found
