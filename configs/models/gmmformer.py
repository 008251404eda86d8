"""GMMFormer: published hyper-parameters by dataset."""

from ml_collections import ConfigDict

from configs.keys import key
from configs.models import family

# Beyond every epoch: hard negatives never come.
NEVER = 100_000
DATASETS = {
  'activitynet': {
    'optimizer': {'lr': 2.5e-4},
    'loss': {'diversity': 0.015},
  },
  'charades': {
    'optimizer': {'lr': 2.5e-4},
    'train': {'hard_negative_epoch': NEVER},
    'model': {'input_dropout': 0.15, 'dropout': 0.15},
    'loss': {'frame_nce': 0.02, 'diversity': 0.005, 'diversity_delta': 0.15},
  },
  'tvr': {
    'optimizer': {'lr': 3e-4},
    'train': {'hard_negative_epoch': 30},
    'loss': {
      'margin': 0.1,
      'clip_nce': 0.05,
      'diversity': 0.001,
      'diversity_delta': 0.15,
    },
  },
}


def settings(collection: str) -> dict[str, ConfigDict]:
  """Returns {section: values} of GMMFormer for a dataset."""
  model, loss = family.model_keys('gmmformer'), family.loss_keys()
  family.block_keys(model)
  model.frame_length = key(
    'fixed',
    "Length that the frames' Gaussian tables are made for: 'fixed', or "
    "'batch', the longest video of the batch (released; for published "
    'numbers also set data.eval_video_batch=100)',
  )
  loss.diversity_version = 1
  return family.with_numbers(model, loss, DATASETS, collection)
