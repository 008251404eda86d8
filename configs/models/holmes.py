"""Holmes: published hyper-parameters by dataset."""

from ml_collections import ConfigDict

from configs.models import family

DATASETS = {
  'activitynet': {
    'optimizer': {'lr': 2.5e-4},
    'model': {'input_dropout': 0.31, 'dropout': 0.31},
    'loss': {
      'diversity': 0.003,
      'intra_evidence': 1e-4,
      'inter_evidence': 0.06,
    },
  },
  'charades': {
    'optimizer': {'lr': 2e-4},
    'train': {'patience': 20},
    'model': {'input_dropout': 0.25, 'dropout': 0.25},
    'loss': {
      'diversity': 0.003,
      'intra_evidence': 9e-4,
      'inter_evidence': 0.06,
      'inter_temperature': 0.08,
    },
  },
  'tvr': {
    'optimizer': {'lr': 3e-4},
    'train': {'patience': 20},
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
      'intra_evidence': 0.8,
      'inter_evidence': 0.2,
      'inter_temperature': 0.05,
      'intra_temperature': 0.06,
    },
  },
}


# The multi-query variant, published for TVR alone.
MULTI = {
  'train': {'epochs': 150, 'patience': 20},
  'model': {'clip_weight': 0.5, 'frame_weight': 0.5},
  'loss': {
    'intra_evidence': 0.1,
    'inter_evidence': 0.01,
    'inter_temperature': 0.2,
    'intra_temperature': 0.04,
  },
}


def multi_settings(collection: str) -> dict[str, ConfigDict]:
  """Returns {section: values} of Holmes' multi-query variant for a dataset."""
  found = settings(collection)
  found['model'].name = 'holmes_multi'
  for section, values in MULTI.items():
    found[section].update(values)
  return found


def settings(collection: str) -> dict[str, ConfigDict]:
  """Returns {section: values} of Holmes for a dataset."""
  model, loss = family.model_keys('holmes'), family.loss_keys()
  family.block_keys(model)
  family.merger_keys(model)
  model.block_widths = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
  model.clip_weight, model.frame_weight = 0.6, 0.4
  return family.with_numbers(model, loss, DATASETS, collection)
