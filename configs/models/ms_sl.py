"""MS-SL: published hyper-parameters by dataset."""

from ml_collections import ConfigDict

from configs.models import family

DATASETS = {
  'activitynet': {'optimizer': {'lr': 2.5e-4}},
  'charades': {
    'optimizer': {'lr': 2.5e-4},
    'model': {'clip_weight': 0.5, 'frame_weight': 0.5},
  },
  'tvr': {'optimizer': {'lr': 2.5e-4}, 'loss': {'margin': 0.1}},
}


def settings(collection: str) -> dict[str, ConfigDict]:
  """Returns {section: values} of MS-SL for a dataset."""
  model, loss = family.model_keys('ms_sl'), family.loss_keys()
  model.input_dropout = model.dropout = 0.1
  model.query_encodings = 1
  loss.frame_nce = loss.frame_triplet = 0.0
  loss.guided_nce, loss.guided_triplet = 0.04, 1.0
  return family.with_numbers(model, loss, DATASETS, collection)
