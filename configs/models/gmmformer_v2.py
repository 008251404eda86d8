"""GMMFormer v2: published hyper-parameters by dataset."""

from ml_collections import ConfigDict

from configs.models import family

WIDTHS = (0.0, 0.5, 1.0, 5.0, 10.0, 3.0, 0.1, 8.0)
DATASETS = {
  'activitynet': {
    'optimizer': {'lr': 2.5e-4},
    'model': {'input_dropout': 0.31, 'dropout': 0.31},
    'loss': {'diversity': 0.003, 'matching': 0.11},
  },
  'charades': {
    'optimizer': {'lr': 2e-4},
    'model': {'input_dropout': 0.25, 'dropout': 0.25},
    'loss': {'diversity': 0.003, 'matching': 0.1},
  },
  'tvr': {
    'optimizer': {'lr': 3e-4},
    'model': {
      'input_dropout': 0.2,
      'dropout': 0.2,
      'merge_temperature': 0.09,
    },
    'loss': {
      'margin': 0.1,
      'clip_nce': 0.05,
      'diversity': 8e-5,
      'diversity_delta': 0.15,
      'matching': 0.09,
    },
  },
}


def settings(collection: str) -> dict[str, ConfigDict]:
  """Returns {section: values} of GMMFormer v2 for a dataset."""
  model, loss = family.model_keys('gmmformer_v2'), family.loss_keys()
  family.block_keys(model)
  family.merger_keys(model)
  model.block_widths = WIDTHS
  return family.with_numbers(model, loss, DATASETS, collection)
