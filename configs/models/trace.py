"""TRACE on DreamPRVR: the numbers of its second phase by dataset."""

from ml_collections import ConfigDict

from configs.models import dreamprvr

# Peak learning rates.
RATES = {'activitynet': 8e-5, 'charades': 5e-5, 'tvr': 2e-6}
# Not stated: ten epochs after the score counts in full.
EPOCHS = 60


def settings(collection: str) -> dict[str, ConfigDict]:
  """Returns {section: values} of the second phase for a dataset.

  It needs `config.train.start`, the checkpoint of the first phase.
  """
  found = dreamprvr.settings(collection)
  found['model'].trace = 'query'
  found['loss'].trace_nce, found['loss'].trace_triplet = 0.02, 0.05
  found['optimizer'].update(
    {
      'kind': 'adamw',
      'lr': RATES.get(collection, RATES['activitynet']),
      'warmup': 5 / EPOCHS,
      'weight_decay': 1e-4,
      'max_norm': 1.0,
    }
  )
  found['train'].update(
    {
      'epochs': EPOCHS,
      # To the end: the score may help only when it counts.
      'patience': EPOCHS,
      'hard_negative_epoch': 0,
      'held_epochs': 5,
      'fusion_start': 30,
      'fusion_rise': 20,
    }
  )
  return found
