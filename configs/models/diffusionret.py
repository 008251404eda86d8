"""DiffusionRet's retriever: numbers of the released commands; lengths of other
collections than ActivityNet are those of MSR-VTT."""

from ml_collections import ConfigDict

from configs.keys import key
from configs.models import family


def settings(collection: str) -> dict[str, ConfigDict]:
  """Returns {section: values} of DiffusionRet's retriever for a dataset.

  A dataset of the family reads the features of CLIP of MSC's release.
  """
  model, loss = family.model_keys('diffusionret'), family.loss_keys()
  model.num_layers = key(4, 'Layers of the temporal transformer')
  model.num_positions = key(77, 'Rows of its position table; frames at most')
  model.feature_norm = key(
    'scaled',
    "Norm of tokens and frames: 'scaled', 'unit' or 'raw' (released, for raw "
    'features; records have norm 1)',
  )
  model.feature_scale = key(10.0, "Norm of 'scaled' features: about CLIP's")
  model.width, model.num_heads = 512, 8
  model.input_dropout = model.dropout = 0.0
  model.query_encodings = 1
  model.clip_weight = model.frame_weight = 0.5
  loss.clip_nce = loss.frame_nce = 0.0
  loss.clip_triplet = loss.frame_triplet = 0.0
  loss.interaction = 1.0
  numbers = {'optimizer': {'lr': 1e-4, 'warmup': 0.1, 'weight_decay': 0.2}}
  found = family.with_numbers(model, loss, {'activitynet': numbers}, collection)
  length = 64 if collection in ('activitynet', 'simulated') else 32
  found['data'].update({'max_frames': length, 'max_words': length})
  if collection in ('activitynet', 'charades', 'tvr'):
    file = f'{collection}_clip_L14.h5'
    found['data'].update({'feature': file, 'text_feature': file})
  return found
