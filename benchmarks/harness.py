"""Shared code of the benchmarks: sizes, synthetic batches, clocks, peaks, JSON.

Import this module before JAX: it sets up the memory of the process.
"""

import argparse
import collections
import dataclasses
import importlib
import json
import pathlib
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from dreamprvr_jax.host_memory import keep_freed_pages

keep_freed_pages()

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np

from dreamprvr_jax.cli import provenance
from dreamprvr_jax.devices import meshes
from dreamprvr_jax.devices.memory import free_memory
from dreamprvr_jax.objectives.registry import build_objective
from dreamprvr_jax.train.bert_adam import bert_adam, warmup_linear
from dreamprvr_jax.trained.inference import model_of
from dreamprvr_jax.types import Batch, dtype_of


@dataclasses.dataclass(frozen=True)
class Sizes:
  """Sizes of a dataset: counts of both splits, widths, captions of a video."""

  videos: int
  captions: int
  eval_videos: int
  eval_queries: int
  visual: int
  text: int


DATASETS = {
  'activitynet': Sizes(9043, 33721, 4430, 15753, 1024, 1024),
  'charades': Sizes(5338, 12408, 1334, 3720, 1024, 1024),
  'tvr': Sizes(17435, 87175, 2179, 10895, 3072, 768),
  'quickstart': Sizes(480, 1920, 128, 489, 64, 48),
}


def parser(about: str, steps: int = 5) -> argparse.ArgumentParser:
  """Returns a parser with the options that all benchmarks share."""
  made = argparse.ArgumentParser(
    description=about, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  made.add_argument(
    '--dataset', default='charades', choices=DATASETS, help='whose sizes'
  )
  made.add_argument(
    '--name', default='dreamprvr', help='which model, for example hlformer'
  )
  made.add_argument('--dtype', default='float32', help='or bfloat16')
  made.add_argument(
    '--steps',
    type=int,
    default=steps,
    help='timed runs, after one that compiles and one to warm up',
  )
  made.add_argument(
    '--model',
    action='append',
    default=[],
    metavar='KEY=VALUE',
    help='sets a key of config.model, for example width=96; may be repeated',
  )
  made.add_argument(
    '--peak',
    type=float,
    help='TFLOP/s of a product on one device, for the share of the peak; '
    'measured if it is not given',
  )
  return made


def config_of(options: argparse.Namespace) -> Any:
  """Returns the dataset's config with the options' changes."""
  module = importlib.import_module(f'configs.{options.dataset}')
  config = module.get_config(options.name)
  config.dtype = options.dtype
  for item in options.model:
    key, _, text = item.partition('=')
    former = config.model[key]
    if isinstance(former, bool):
      config.model[key] = text in ('True', 'true', '1')
    elif isinstance(former, tuple):
      config.model[key] = tuple(float(part) for part in text.split(','))
    else:
      config.model[key] = type(former)(text)
  return config


def build(config: Any) -> Any:
  """Returns the model of a config."""
  return model_of(provenance.plain_config(config))


def training_parts(config: Any) -> dict[str, Any]:
  """Returns the keyword arguments of `train.step.update`."""
  model = build(config)
  return {
    'model': model,
    'objective': build_objective(config.model.name, model, **dict(config.loss)),
    'optimizer': bert_adam(warmup_linear(config.optimizer.lr, 10_000)),
    'seed': 0,
    'hard_from_step': 0,
  }


def caption_slots(sizes: Sizes, batch: int) -> int:
  """Returns a typical caption axis: the mean of a batch plus a tenth."""
  return -(-int(1.1 * batch * sizes.captions / sizes.videos) // 16) * 16


def made_batch(config: Any, sizes: Sizes, batch: int, captions: int) -> Batch:
  """Returns a batch of normal numbers without padding."""
  merged = {}
  if config.data.clips == 'merged':
    clips = np.arange(config.data.num_clips, dtype=np.int32)
    merged = {
      'clip_sizes': np.full((batch, len(clips)), 4, np.int32),
      'clip_groups': np.tile(clips, (batch, 1)),
    }
  rng = np.random.default_rng(0)
  data = config.data
  normal = lambda *shape: rng.standard_normal(shape, np.float32)
  return Batch(
    **merged,
    clip_features=normal(batch, data.num_clips, sizes.visual),
    frame_features=normal(batch, data.max_frames, sizes.visual),
    frame_mask=np.ones((batch, data.max_frames), bool),
    video_mask=np.ones(batch, bool),
    word_features=normal(captions, data.max_words, sizes.text),
    word_mask=np.ones((captions, data.max_words), bool),
    caption_mask=np.ones(captions, bool),
    caption_video=np.sort(np.arange(captions) % batch).astype(np.int32),
  )


def timed(call: Callable[[], Any], repeats: int) -> tuple[float, list[float]]:
  """Returns the seconds of the first call, and of `repeats` later ones."""
  seconds = []
  for _ in range(repeats + 2):
    began = time.perf_counter()
    jax.block_until_ready(call())
    seconds.append(time.perf_counter() - began)
  return seconds[0], seconds[2:]


def spread(name: str, seconds: list[float]) -> dict[str, float]:
  """Returns median, minimum and maximum, with the timed name in front."""
  return {
    f'{name}_seconds_median': round(statistics.median(seconds), 6),
    f'{name}_seconds_min': round(min(seconds), 6),
    f'{name}_seconds_max': round(max(seconds), 6),
  }


def repeated(block: jax.Array, rows: int) -> jax.Array:
  """Returns the rows of a block, repeated until there are so many; a program
  that does this needs no memory beside block and result."""
  return block[jnp.arange(rows) % len(block)]


def matmul_peak(dtype: str, sizes: Sequence[int] | None = None) -> float:
  """Returns the FLOP/s of the best of some matrix products, measured now.

  The numbers are random: a device that is limited by its power multiplies ones
  faster.

  Args:
    dtype: Type of the numbers.
    sizes: Sizes of the square matrices; None for three that suit the device.
  """
  small = jax.default_backend() == 'cpu'
  best = 0.0
  for size in sizes or ((1024, 2048, 3072) if small else (4096, 8192, 16384)):
    x = jax.random.normal(jax.random.key(0), (size, size), dtype_of(dtype))
    product = jax.jit(lambda a, b: a @ b)
    _, seconds = timed(lambda p=product, x=x: p(x, x), 5)
    best = max(best, 2 * size**3 / min(seconds))
  return best


def peak_of(options: argparse.Namespace) -> float:
  """Returns the FLOP/s of products on all devices: what --peak says of one, or
  measured now."""
  devices = 1 if jax.default_backend() == 'cpu' else jax.device_count()
  one = options.peak * 1e12 if options.peak else matmul_peak(options.dtype)
  return devices * one


def bandwidth(numbers: int = 0) -> float:
  """Returns the bytes per second of the fastest of five sums over an array that
  is spread over all devices.

  Args:
    numbers: float32 numbers on a device; 0 for more than its caches hold.
  """
  mesh = meshes.make_mesh()
  # An accelerator reads the smaller array in the time of a launch.
  most = 2**27 if jax.default_backend() == 'cpu' else 2**30
  count = numbers or int(min(most, free_memory(mesh) / 16))
  count *= mesh.size
  by_row = meshes.by_row(mesh)
  array = jax.jit(lambda: jnp.ones(count, jnp.float32), out_shardings=by_row)()
  total = jax.jit(jnp.sum)
  _, seconds = timed(lambda: total(array), 5)
  return 4 * count / min(seconds)


def product_flops(function: Any, *args: Any) -> int:
  """Returns the FLOPs of the matrix products of a function, jitted or not.

  A loop counts as often as it runs (unlike in XLA's own cost analysis), or once
  if its length is unknown; elementwise work is not counted.
  """
  found = products_of(function, *args)
  return sum(times * product.flops for product, times in found.items())


@dataclasses.dataclass(frozen=True)
class Product:
  """A matrix product: `dot_general` of two arrays, and what it is asked for."""

  lhs: jax.ShapeDtypeStruct
  rhs: jax.ShapeDtypeStruct
  settings: tuple[tuple[str, Any], ...]

  @property
  def contracted(self) -> tuple[int, ...]:
    """The axes of `lhs` that are summed over."""
    return dict(self.settings)['dimension_numbers'][0][0]

  def __call__(self, lhs: jax.Array, rhs: jax.Array) -> jax.Array:
    """Returns the product of two such arrays."""
    return jax.lax.dot_general(lhs, rhs, **dict(self.settings))

  @property
  def flops(self) -> int:
    """Its multiplications and additions."""
    depth = int(np.prod([self.lhs.shape[axis] for axis in self.contracted]))
    result = jax.eval_shape(self, self.lhs, self.rhs)
    return 2 * depth * result.size


def products_of(function: Any, *args: Any) -> dict[Product, int]:
  """Returns the matrix products of a function, jitted or not, and how often it
  has each; see `product_flops` for loops."""
  jitted = function if hasattr(function, 'trace') else jax.jit(function)
  found = collections.Counter()
  _count_products(jitted.trace(*args).jaxpr.jaxpr, 1, found)
  return dict(found)


def _count_products(
  jaxpr: Any, times: int, found: collections.Counter[Product]
) -> None:
  for equation in jaxpr.eqns:
    if equation.primitive is jax.lax.dot_general_p:
      sides = (
        jax.ShapeDtypeStruct(x.aval.shape, x.aval.dtype)
        for x in equation.invars
      )
      names = ('dimension_numbers', 'precision', 'preferred_element_type')
      kept = tuple((name, equation.params[name]) for name in names)
      found[Product(*sides, kept)] += times
    inside = times
    if equation.primitive.name == 'scan':
      inside *= equation.params['length']
    for value in equation.params.values():
      for inner in value if isinstance(value, tuple | list) else (value,):
        inner = getattr(inner, 'jaxpr', inner)
        if isinstance(inner, jax.extend.core.Jaxpr):
          _count_products(inner, inside, found)


def memory_gib() -> dict[str, float]:
  """Returns the peak memory in GiB."""
  host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
  found = {'host_peak_gib': round(host, 2)}
  stats = jax.devices()[0].memory_stats() or {}
  if 'peak_bytes_in_use' in stats:
    found['device_peak_gib'] = round(stats['peak_bytes_in_use'] / 2**30, 2)
  return found


def report(options: argparse.Namespace, **results: Any) -> None:
  """Prints one JSON line: options, versions, device, results."""
  environment = provenance.environment()
  print(json.dumps({**vars(options), **environment, **results}))
