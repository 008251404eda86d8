"""Time of one training step, at the sizes of a dataset.

python benchmarks/train_step.py --dataset=charades
python benchmarks/train_step.py --dataset=tvr --dtype=bfloat16 --batch=256

Prints one JSON line: sizes, versions, device, seconds of compilation, median
and spread of the step after warm-up, videos/s, FLOP/s of its matrix products
and their share of a product's peak measured in the same run, peak memory.
"""

import sys
import time

import harness
import jax
import numpy as np

from dreamprvr_jax.devices import meshes
from dreamprvr_jax.train.step import (
  compile_update,
  create_state,
  init_variables,
)


def main() -> None:
  """Builds a random batch, times the update, prints the result."""
  parser = harness.parser(__doc__)
  parser.add_argument('--batch', type=int, default=128, help='videos')
  parser.add_argument(
    '--captions', type=int, default=0, help='0: as many as the dataset has'
  )
  options = parser.parse_args()
  config = harness.config_of(options)
  sizes = harness.DATASETS[options.dataset]
  captions = options.captions or harness.caption_slots(sizes, options.batch)
  batch = harness.made_batch(config, sizes, options.batch, captions)
  parts = harness.training_parts(config)
  mesh = meshes.make_mesh()
  state = create_state(
    init_variables(parts['model'], batch, 0), parts['optimizer']
  )
  state = meshes.replicate(state, mesh)
  update = compile_update(mesh, **parts)
  batch = jax.device_put(batch, meshes.by_row(mesh))
  flops = harness.product_flops(update, state, batch)
  began = time.perf_counter()
  compiled = update.lower(state, batch).compile()
  compilation = time.perf_counter() - began
  holder = {'state': state}

  def step():
    holder['state'], scalars = compiled(holder['state'], batch)
    return scalars

  _, seconds = harness.timed(step, options.steps)
  median = float(np.median(seconds))
  peak = harness.matmul_peak(options.dtype)
  harness.report(
    options,
    captions_used=captions,
    compilation_seconds=round(compilation, 1),
    **harness.spread('step', seconds),
    videos_per_second=round(options.batch / median, 2),
    product_tflop=round(flops / 1e12, 4),
    tflop_per_second=round(flops / median / 1e12, 4),
    peak_tflop_per_second=round(peak / 1e12, 4),
    share_of_peak=round(flops / median / peak, 3),
    temporary_gib=round(
      compiled.memory_analysis().temp_size_in_bytes / 2**30, 3
    ),
    **harness.memory_gib(),
  )


if __name__ == '__main__':
  sys.exit(main())
