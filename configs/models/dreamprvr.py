"""DreamPRVR: published hyper-parameters by dataset (specification, 10)."""

from ml_collections import ConfigDict

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
  """Returns {section: values} of DreamPRVR for a dataset.

  A collection without published numbers gets those of ActivityNet.
  """
  model = ConfigDict()
  # Which model
  model.name = 'dreamprvr'
  # D, width of all tokens
  model.width = 384
  # Attention heads
  model.num_heads = 4
  # Gaussian width of each parallel block; 0: none
  model.block_widths = (
    0.0,
    0.25,
    0.5,
    1.0,
    2.0,
    4.0,
    8.0,
    16.0,
  )
  # Softmax temperature of the learned aggregation (sft_factor)
  model.merge_temperature = 0.6
  # Dropout on inputs and positions
  model.input_dropout = 0.31
  # Dropout inside the blocks
  model.dropout = 0.31
  # K; 0: the system without registers
  model.num_registers = 4
  # 'diffusion', 'sampler' (no diffusion estimator), 'adaptive_pooling'
  model.register_source = 'diffusion'
  # 'mean' (released: deterministic), 'stochastic' (paper), 'random' (noise,
  # no sampler)
  model.register_start = 'mean'
  # T
  model.diffusion_steps = 10
  # Layers of the estimator
  model.diffusion_layers = 2
  # 'released' (fixed random table) or 'sinusoidal' (paper)
  model.time_embedding = 'released'
  # 'ddpm' or 'ddim'
  model.sampling_method = 'ddpm'
  # Steps of ddim; 0: all
  model.sampling_steps = 0
  # Gamma of the text perturbation sampler
  model.perturbation_scale = 0.1
  # Encodings of the queries in a training step: 2 (released) or 1
  model.query_encodings = 2
  # How the parallel blocks are computed: 'batched', 'unrolled' or 'scan';
  # the numbers differ by float rounding
  model.parallel_execution = 'batched'
  # Compute the blocks' insides again for the gradient instead of keeping
  # them: a third of the memory for a quarter more work
  model.remat = False
  # Weight of the clip branch's score
  model.clip_weight = 0.6
  # Weight of the frame branch's score
  model.frame_weight = 0.4

  loss = ConfigDict()
  # Of the triplet losses
  loss.margin = 0.2
  # Factor f0
  loss.clip_nce = 0.02
  # Factor f1
  loss.frame_nce = 0.04
  # Factor f2 of L_div; with f3, the paper's L_tssl
  loss.diversity = 0.003
  # Factor f3 of L_qsp
  loss.structure = 0.01
  # Factor f4 of L_pvs
  loss.variational = 1e-4
  # Factor f5 of L_dre
  loss.diffusion = 1e-3
  # Delta of L_div
  loss.diversity_delta = 0.2
  # Alpha of L_div
  loss.diversity_alpha = 32.0
  # Lambda of L_div
  loss.diversity_power = 1.0
  # Tau of L_qsp
  loss.structure_temperature = 0.08
  # Hard negatives are drawn from this many
  loss.hard_pool = 20

  numbers = DATASETS.get(collection, DATASETS['activitynet'])
  model.update(numbers['model'])
  loss.update(numbers['loss'])
  return {
    'model': model,
    'loss': loss,
    'optimizer': ConfigDict(numbers.get('optimizer', {})),
    'train': ConfigDict(numbers.get('train', {})),
  }
