"""Keys of `config.rerank`: DiffusionRet's generator as a re-ranker."""

from typing import Any

from ml_collections import ConfigDict


def rerank_keys() -> ConfigDict:
  """Returns `config.rerank` with its defaults."""
  rerank = ConfigDict()
  # What scores the candidates: 'generator' (DiffusionRet's) or
  # 'cross_attention', a plain re-ranker of equal size
  rerank.network = 'generator'
  # Train the generator on noisy scores and sample; without, one pass does
  rerank.diffusion = True
  # T, steps of the diffusion process
  rerank.num_steps = 50
  # 'cosine' or 'linear'
  rerank.schedule = 'cosine'
  # Clean score of wrong candidates: 0 or -1 (neg)
  rerank.negative = 0.0
  # Candidates of a list, in training and in use; fewer if there are fewer
  # videos
  rerank.candidates = 100
  # The same, in use only; 0: as in training
  rerank.used_candidates = 0
  # Tokens of a video that the network sees: 'clip', 'frame' or 'all'
  rerank.tokens = 'clip'
  # Divides the logits of the pooling over tokens (temp)
  rerank.pool_temperature = 1.0
  # Padding leaves that softmax 'before' it, or 'after' it (released)
  rerank.mask_mode = 'before'
  # Norm of queries and tokens: 'scaled', 'unit' or 'raw' (released)
  rerank.feature_norm = 'scaled'
  # Norm of 'scaled' features
  rerank.feature_scale = 10.0
  # Multiplies the scores in the loss (d_temp)
  rerank.train_temperature = 100.0
  # Lists of an update
  rerank.batch_size = 128
  # Epochs at most
  rerank.epochs = 5
  # Stop after more than this many epochs without a new best
  rerank.patience = 5
  # Peak learning rate
  rerank.lr = 1e-4
  # Share of all updates over which the rate rises
  rerank.warmup = 0.1
  # Added to the direction as weight_decay * p
  rerank.weight_decay = 0.2
  # Decay of the average of the parameters, which is what is used
  rerank.average = 0.99
  # Share of the training videos that are kept back to choose epoch and fusion
  rerank.held_out = 0.1
  # J, steps of DDIM in use
  rerank.sampling_steps = 10
  # Share of DDPM's noise that DDIM adds, 0 to 1
  rerank.eta = 0.0
  # Sampling is repeated from this many draws of noise, for the spread
  rerank.noise_seeds = 3
  # Choose fuse_temperature, fuse_weight and sampling_steps on the videos that
  # were kept back, rather than take those below
  rerank.tune = True
  # Multiplies the clean scores in their softmax (t2v_temp)
  rerank.fuse_temperature = 1.0
  # Weight of that softmax in the sum with the retriever's scores (t2v_alpha)
  rerank.fuse_weight = 1.0
  # Correct the retriever's scores first, for comparison: '', 'qb_norm' or
  # 'dual_softmax'; these see other queries
  rerank.correction = ''
  return rerank


# The rows of a re-ranking table: what differs from the defaults.
METHODS: dict[str, dict[str, Any]] = {
  'diffusion': {},
  'released': {
    'candidates': 128,
    'used_candidates': 32,
    'mask_mode': 'after',
    'feature_norm': 'raw',
    'sampling_steps': 50,
    'tune': False,
  },
  'no_diffusion': {'diffusion': False},
  'cross_attention': {'network': 'cross_attention'},
}
