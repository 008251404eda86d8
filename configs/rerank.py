"""Keys of `config.rerank`: DiffusionRet's generator as a re-ranker."""

from typing import Any

from configs.keys import Keys, key


def rerank_keys() -> Keys:
  """Returns `config.rerank` with its defaults."""
  rerank = Keys('rerank')
  rerank.network = key(
    'generator',
    "What scores the candidates: 'generator' (DiffusionRet's) or "
    "'cross_attention', a plain re-ranker of equal size",
  )
  rerank.diffusion = key(
    True,
    'Train the generator on noisy scores and sample; without, one pass does',
  )
  rerank.num_steps = key(50, 'T, steps of the diffusion process')
  rerank.schedule = key('cosine', "'cosine' or 'linear'")
  rerank.negative = key(0.0, 'Clean score of wrong candidates: 0 or -1 (neg)')
  rerank.candidates = key(
    100,
    'Candidates of a list, in training and in use; fewer if there are '
    'fewer videos',
  )
  rerank.used_candidates = key(0, 'The same, in use only; 0: as in training')
  rerank.tokens = key(
    'clip', "Tokens of a video that the network sees: 'clip', 'frame' or 'all'"
  )
  rerank.pool_temperature = key(
    1.0, 'Divides the logits of the pooling over tokens (temp)'
  )
  rerank.mask_mode = key(
    'before',
    "Padding leaves that softmax 'before' it, or 'after' it (released)",
  )
  rerank.feature_norm = key(
    'scaled', "Norm of queries and tokens: 'scaled', 'unit' or 'raw' (released)"
  )
  rerank.feature_scale = key(10.0, "Norm of 'scaled' features")
  rerank.train_temperature = key(
    100.0, 'Multiplies the scores in the loss (d_temp)'
  )
  rerank.batch_size = key(128, 'Lists of an update')
  rerank.epochs = key(5, 'Epochs at most')
  rerank.patience = key(
    5, 'Stop after more than this many epochs without a new best'
  )
  rerank.lr = key(1e-4, 'Peak learning rate')
  rerank.warmup = key(0.1, 'Share of all updates over which the rate rises')
  rerank.weight_decay = key(0.2, 'Added to the direction as weight_decay * p')
  rerank.average = key(
    0.99, 'Decay of the average of the parameters, which is what is used'
  )
  _use_keys(rerank)
  return rerank


def _use_keys(rerank: Keys) -> None:
  """Adds the keys of a trained re-ranker in use."""
  rerank.held_out = key(
    0.1,
    'Share of the training videos that are kept back to choose epoch and '
    'fusion',
  )
  rerank.sampling_steps = key(10, 'J, steps of DDIM in use')
  rerank.eta = key(0.0, "Share of DDPM's noise that DDIM adds, 0 to 1")
  rerank.noise_seeds = key(
    3, 'Sampling is repeated from this many draws of noise, for the spread'
  )
  rerank.tune = key(
    True,
    'Choose fuse_temperature, fuse_weight and sampling_steps on the '
    'videos that were kept back, rather than take those below',
  )
  rerank.fuse_temperature = key(
    1.0, 'Multiplies the clean scores in their softmax (t2v_temp)'
  )
  rerank.fuse_weight = key(
    1.0,
    "Weight of that softmax in the sum with the retriever's scores (t2v_alpha)",
  )
  rerank.correction = key(
    '',
    "Correct the retriever's scores first, for comparison: '', 'qb_norm' "
    "or 'dual_softmax'; these see other queries",
  )


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
