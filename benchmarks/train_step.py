"""Time of one training step, at the sizes of a dataset.

python benchmarks/train_step.py --dataset=charades
python benchmarks/train_step.py --dataset=tvr --dtype=bfloat16 --batch=256

Prints one JSON line: sizes, versions, device, seconds of compilation, median
and spread of the step after warm-up, videos/s, FLOP/s of its matrix products
and their share of a product's peak measured in the same run, peak memory.

python benchmarks/train_step.py --dataset=charades --batch=48 --products

times each product of the step alone, too, in the layout that the program asks
for. `with_traffic_share_of_peak` is the share of a step that has these products
one by one and, at the bandwidth of memory, reads their results and writes their
factors once. With --layouts each is also timed with the axes of its factors and
of its result in every other order: `fastest_layouts_share_of_peak` is the share
of a step that has nothing but each product in its fastest layout.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import harness
import jax
import numpy as np
import step_products

from dreamprvr_jax.devices import meshes
from dreamprvr_jax.models.template import variable_shapes
from dreamprvr_jax.train.step import (
  compile_update,
  create_state,
  init_variables,
)


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
  """Returns the options; those of the command line if none are given."""
  parser = harness.parser(__doc__ or '')
  parser.add_argument('--batch', type=int, default=128, help='videos')
  parser.add_argument(
    '--captions', type=int, default=0, help='0: as many as the dataset has'
  )
  parser.add_argument(
    '--products', action='store_true', help='also time each product alone'
  )
  parser.add_argument(
    '--layouts',
    action='store_true',
    help='and also time the other layouts of each',
  )
  return parser.parse_args(arguments)


def prepared(options: argparse.Namespace) -> Callable[[], dict[str, Any]]:
  """Compiles the update; returns the function that times it.

  Nothing is in device memory before that function is called, so that several
  updates can be compiled at the same time and timed one after the other.
  """
  config = harness.config_of(options)
  sizes = harness.DATASETS[options.dataset]
  captions = options.captions or harness.caption_slots(sizes, options.batch)
  batch = harness.made_batch(config, sizes, options.batch, captions)
  parts = harness.training_parts(config)
  mesh = meshes.make_mesh()
  fresh = lambda: create_state(
    init_variables(parts['model'], batch, 0), parts['optimizer']
  )
  rows = jax.eval_shape(lambda: batch)
  # Not `fresh`: the options of its compiler cannot be part of another program.
  variables = variable_shapes(parts['model'], rows)
  state = jax.eval_shape(
    lambda variables: create_state(variables, parts['optimizer']), variables
  )
  shapes = state, rows
  update = compile_update(mesh, **parts)
  products = harness.products_of(update, *shapes)
  flops = sum(times * product.flops for product, times in products.items())
  began = time.perf_counter()
  compiled = update.lower(*shapes).compile()
  compilation = time.perf_counter() - began
  memory = compiled.memory_analysis()
  # On one device; the next state takes the place of the former one.
  taken = (
    memory.argument_size_in_bytes
    + memory.temp_size_in_bytes
    + memory.output_size_in_bytes
    - memory.alias_size_in_bytes
  )

  def measured() -> dict[str, Any]:
    holder = {'state': meshes.replicate(fresh(), mesh)}
    rows = jax.device_put(batch, meshes.by_row(mesh))

    def step():
      holder['state'], scalars = compiled(holder['state'], rows)
      return scalars

    _, seconds = harness.timed(step, options.steps)
    median = float(np.median(seconds))
    # The products that measure the peak take memory, too.
    used = harness.memory_gib()
    peak = harness.peak_of(options)
    if options.products or options.layouts:
      holder.clear()
      alone = step_products.timed(products, every_layout=options.layouts)
      used |= step_products.summary(alone)
    return {
      'captions_used': captions,
      'compilation_seconds': round(compilation, 1),
      **harness.spread('step', seconds),
      'videos_per_second': round(options.batch / median, 2),
      'product_tflop': round(flops / 1e12, 4),
      'tflop_per_second': round(flops / median / 1e12, 4),
      'peak_tflop_per_second': round(peak / 1e12, 4),
      'share_of_peak': round(flops / median / peak, 3),
      'temporary_gib': round(memory.temp_size_in_bytes / 2**30, 3),
      'step_gib': round(taken / 2**30, 3),
      **used,
    }

  return measured


def main() -> None:
  """Builds a random batch, times the update, prints the result."""
  options = parsed()
  harness.report(options, **prepared(options)())


if __name__ == '__main__':
  sys.exit(main())
