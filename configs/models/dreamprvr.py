"""DreamPRVR: published hyper-parameters by dataset."""

from ml_collections import ConfigDict

from configs.keys import key
from configs.models import family

DATASETS = {
  'activitynet': {
    'optimizer': {'lr': 2.5e-4},
    'model': {'num_registers': 4, 'input_dropout': 0.31, 'dropout': 0.31},
    'loss': {},
  },
  'charades': {
    'optimizer': {'lr': 2e-4},
    'model': {'num_registers': 6, 'input_dropout': 0.25, 'dropout': 0.25},
    'loss': {'structure': 0.002, 'structure_temperature': 0.01},
  },
  'tvr': {
    'optimizer': {'lr': 3e-4},
    'train': {'epochs': 150, 'patience': 20},
    'model': {
      'num_registers': 8,
      'input_dropout': 0.2,
      'dropout': 0.2,
      'merge_temperature': 0.09,
      'clip_weight': 0.5,
      'frame_weight': 0.5,
    },
    'loss': {
      'margin': 0.1,
      'clip_nce': 0.05,
      'diversity': 8e-5,
      'diversity_delta': 0.15,
      'structure_temperature': 0.09,
    },
  },
}


def settings(collection: str) -> dict[str, ConfigDict]:
  """Returns {section: values} of DreamPRVR for a dataset."""
  model, loss = family.model_keys('dreamprvr'), family.loss_keys()
  family.block_keys(model)
  family.merger_keys(model)
  family.lorentz_keys(model)
  model.block_widths = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
  model.clip_weight, model.frame_weight = 0.6, 0.4
  model.num_registers = key(4, 'K, registers of a video; 0: none')
  model.register_source = key(
    'diffusion',
    "'diffusion', 'sampler' (no diffusion estimator), 'adaptive_pooling'",
  )
  model.register_start = key(
    'mean',
    "'mean' (released: deterministic), 'stochastic' (paper), 'random' "
    '(noise, no sampler)',
  )
  model.diffusion_steps = key(10, 'T, steps of the diffusion process')
  model.diffusion_layers = key(2, 'Layers of the estimator')
  model.time_embedding = key(
    'released', "'released' (fixed random table) or 'sinusoidal' (paper)"
  )
  model.sampling_method = key('ddpm', "'ddpm' or 'ddim'")
  model.sampling_steps = key(
    0, "Steps visited when sampling_method is 'ddim'; 0: all T"
  )
  model.perturbation_scale = key(0.1, 'Gamma of the text perturbation sampler')
  family.trace_keys(model)
  family.sentence_keys(model)

  loss.diversity = 0.003
  loss.structure = 0.01
  loss.variational = 1e-4
  loss.diffusion = 1e-3
  return family.with_numbers(model, loss, DATASETS, collection)
