"""MSC: published hyper-parameters by dataset."""

from ml_collections import ConfigDict

from configs.models import family


def _clip_features(collection: str, threshold: float) -> dict[str, object]:
  file = f'{collection}_clip_L14.h5'
  return {
    'feature': file,
    'text_feature': file,
    'merge_threshold': threshold,
  }


DATASETS = {
  'activitynet': {
    'data': _clip_features('activitynet', 0.8),
    'optimizer': {'lr': 2.5e-4},
    'model': {'input_dropout': 0.31, 'dropout': 0.31},
  },
  'charades': {
    'data': _clip_features('charades', 0.85),
    'optimizer': {'lr': 2e-4},
    'model': {'input_dropout': 0.25, 'dropout': 0.25},
  },
  'tvr': {
    'data': _clip_features('tvr', 0.8),
    'optimizer': {'lr': 3e-4},
    'model': {
      'input_dropout': 0.2,
      'dropout': 0.2,
      'merge_temperature': 0.09,
    },
    'loss': {'margin': 0.1, 'clip_nce': 0.05},
  },
  'qvhighlight': {
    'data': {'merge_threshold': 0.7},
    'optimizer': {'lr': 2.5e-4},
    'model': {'input_dropout': 0.31, 'dropout': 0.31},
  },
}


def settings(collection: str) -> dict[str, ConfigDict]:
  """Returns {section: values} of MSC for a dataset.

  A collection without published numbers keeps its own features.
  """
  model, loss = family.model_keys('msc'), family.loss_keys()
  family.block_keys(model)
  family.merger_keys(model)
  model.block_widths = (0.0, 0.5, 1.0, 5.0, 10.0, 3.0, 0.1, 8.0)
  model.query_encodings = 1
  model.clip_weight, model.frame_weight = 0.4, 0.6
  model.alignment = model.proportional_attention = True
  loss.distances, loss.angles, loss.alignment = 15.0, 30.0, 0.1
  found = family.with_numbers(model, loss, DATASETS, collection)
  if collection not in DATASETS:
    found['data'] = ConfigDict()
  found['data'].update({'clips': 'merged', 'max_words': 77})
  return found
