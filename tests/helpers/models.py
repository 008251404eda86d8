"""Models and losses with the fields of the configs, without dropout."""

import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np

import benchmarks.direct_generator
from configs import common
from configs.models import family
from configs.rerank import rerank_keys
from dreamprvr_jax.models.registry import MODELS
from dreamprvr_jax.models.template import variable_shapes
from dreamprvr_jax.models.traced import HEAD, SHARE
from dreamprvr_jax.objectives.retrieval import RetrievalObjective

LENGTHS = ('num_clips', 'max_frames', 'max_words')
NO_DROPOUT = {'input_dropout': 0.0, 'dropout': 0.0}


def fields(name, **given):
  """Returns the fields of a model without its dtype; `given` overrides them."""
  config = common.with_model(common.base_config(), name)
  found = {
    **dict(config.model),
    **{key: config.data[key] for key in LENGTHS},
    **{key: rate for key, rate in NO_DROPOUT.items() if key in config.model},
  }
  del found['name']
  if 'parallel_execution' in found:
    found['parallel_execution'] = 'batched'
  return {**found, **given}


def make(name, dtype=jnp.float32, **given):
  """Returns a model with some given fields."""
  return MODELS[name](dtype=dtype, **fields(name, **given))


def shared_fields(dtype=jnp.float32, **given):
  """Returns the fields of `RetrievalModel`, for a test's own model."""
  keys = {**dict(family.model_keys('').config), **NO_DROPOUT}
  del keys['name']
  lengths = {key: common.base_config().data[key] for key in LENGTHS}
  return {'dtype': dtype, **keys, **lengths, **given}


def loss_fields(**given):
  """Returns the fields of the objective: triplet losses and given ones."""
  return {
    **dict(family.loss_keys().config),
    'clip_nce': 0,
    'frame_nce': 0,
    **given,
  }


def objective(**given):
  """Returns the objective with the triplet losses and the given ones."""
  return RetrievalObjective(**loss_fields(**given))


def generator(kind, width, num_steps=50, **given):
  """Returns a generator with the settings of `config.rerank`."""
  keys = rerank_keys().config
  names = ('pool_temperature', 'mask_mode', 'feature_norm', 'feature_scale')
  options = {name: keys[name] for name in names}
  return kind(width, num_steps, **{**options, **given})


def direct_generator(direction, params, *inputs, **options):
  """Returns {name: array} of one pass of a generator as published."""
  run = lambda params, *inputs: vars(
    benchmarks.direct_generator.run(direction, params, *inputs, **options)
  )
  return jax.device_get(jax.jit(run)(params, *inputs))


def drawn(model, batch):
  """Returns variables like initial ones, without compiling how these are made:
  for tests that compare two uses of the same weights."""

  def value(path, leaf):
    names = jax.tree_util.keystr(path, simple=True, separator='/')
    if names.endswith(('scale', SHARE)):
      return np.ones(leaf.shape, leaf.dtype)
    if names.endswith('bias'):
      return np.zeros(leaf.shape, leaf.dtype)
    if HEAD in names:
      return np.eye(*leaf.shape, dtype=leaf.dtype)
    rng = np.random.default_rng(zlib.crc32(names.encode()))
    return rng.normal(0, 0.02, leaf.shape).astype(leaf.dtype)

  return jax.tree_util.tree_map_with_path(value, variable_shapes(model, batch))


def initial(module, *inputs, **options):
  """Returns what `module.init` does with the seed 0, from one program."""
  init = jax.jit(functools.partial(module.init, **options))
  return jax.device_get(init(jax.random.key(0), *inputs))


def apply(module, variables, *inputs, **options):
  """Returns what `module.apply` does, from one program, on the host.

  Without it, each operation would be a program to trace and compile, and so
  would each on what it returns.
  """
  is_fixed = lambda value: isinstance(value, bool | str) or callable(value)
  fixed = {k: v for k, v in options.items() if is_fixed(v)}
  arrays = {k: v for k, v in options.items() if k not in fixed}
  found = _applied(module, tuple(fixed.items()), variables, inputs, arrays)
  return jax.tree.map(
    lambda x: x if isinstance(x, jax.core.Tracer) else np.asarray(x), found
  )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _applied(module, fixed, variables, inputs, arrays):
  return module.apply(variables, *inputs, **arrays, **dict(fixed))
