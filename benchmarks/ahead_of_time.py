"""Does a training step fit a TPU? Compiled for one, without having one.

python benchmarks/ahead_of_time.py --topology=v5e:2x4 --dataset=tvr

Needs the TPU compiler: pip install -e '.[tpu-aot]'. Compiles the training
step and the encoder of videos for the described slice, runs nothing, and
prints one JSON line: GiB used and available on each device, and the
collectives of the step. Exits with 1 if a program does not fit.
"""

import os
import sys

# JAX reads these when it starts.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
# This takes a third of the time and shows nearly the same memory; change it
# for exact figures.
os.environ.setdefault('JAX_OPTIMIZATION_LEVEL', 'O0')
os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')
os.environ.setdefault('TPU_LOG_DIR', 'disabled')
os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
os.environ.setdefault('TPU_WORKER_HOSTNAMES', 'localhost')
os.environ.setdefault('TPU_ACCELERATOR_TYPE', 'v5litepod-8')

import collections
import re
import time

import harness
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh

from dreamprvr_jax.devices import meshes
from dreamprvr_jax.train.step import compile_update, create_state

_COLLECTIVE = re.compile(
  r'= (\(?\w+\[[^ ]*).* (all-gather|all-reduce|reduce-scatter|all-to-all)'
  r'(?:-start)?\('
)


def described_mesh(topology: str) -> Mesh:
  """Returns the mesh (data, corpus) of a described slice.

  Raises:
    SystemExit: If the TPU compiler is not installed.
  """
  # A single chip is fewer than a host usually has.
  extra = {'chips_per_host_bounds': (1, 1, 1)} if ':1x1' in topology else {}
  try:
    found = topologies.get_topology_desc(
      platform='tpu', topology_name=topology, **extra
    )
  except Exception as error:
    line = str(error).strip().splitlines()[-1]
    print(
      f'error: {topology} cannot be described ({line}); it takes the TPU '
      "compiler (pip install -e '.[tpu-aot]') and a name such as v5e:2x4",
      file=sys.stderr,
    )
    raise SystemExit(2) from error
  grid = np.asarray(found.devices).reshape(-1, 1)
  return Mesh(grid, (meshes.DATA_AXIS, meshes.CORPUS_AXIS))


def compiled_facts(jitted, *arguments) -> tuple[dict[str, float], str]:
  """Returns GiB per device and seconds of a compilation, and its program."""
  began = time.perf_counter()
  compiled = jitted.lower(*arguments).compile()
  seconds = time.perf_counter() - began
  text = compiled.as_text()
  if 'T(8,128)' not in text:
    raise AssertionError('compiled for something other than a TPU')
  memory = compiled.memory_analysis()
  return {
    'gib': round(memory.peak_memory_in_bytes / 2**30, 3),
    'compile_seconds': round(seconds, 1),
  }, text


def main() -> int:
  """Compiles both programs, prints the facts, returns the exit code."""
  parser = harness.parser(__doc__)
  parser.add_argument('--topology', default='v5e:2x4', help='chips of a slice')
  parser.add_argument('--batch', type=int, default=128, help='videos per chip')
  parser.add_argument(
    '--limit', type=float, default=15.75, help='GiB that a device has'
  )
  options = parser.parse_args()
  config = harness.config_of(options)
  if config.model.get('parallel_execution') == 'auto':
    # This process runs on a CPU, and 'auto' would choose the CPU's pipeline.
    config.model.parallel_execution = 'batched'
  sizes = harness.DATASETS[options.dataset]
  mesh = described_mesh(options.topology)
  videos = options.batch * mesh.size
  captions = harness.caption_slots(sizes, videos)
  captions = -(-captions // (16 * mesh.size)) * 16 * mesh.size
  batch = jax.eval_shape(
    lambda: jax.tree.map(
      jnp.asarray, harness.made_batch(config, sizes, videos, captions)
    )
  )
  parts = harness.training_parts(config)
  rngs = jax.eval_shape(lambda: jax.random.key(0))
  variables = jax.eval_shape(parts['model'].init, rngs, batch)
  variables = {k: v for k, v in variables.items() if k != 'intermediates'}
  state = jax.eval_shape(
    lambda variables: create_state(variables, parts['optimizer']), variables
  )
  step, text = compiled_facts(compile_update(mesh, **parts), state, batch)
  collectives = collections.Counter(
    match[2] for match in _COLLECTIVE.finditer(text)
  )
  encode = jax.jit(
    lambda variables, batch: parts['model'].apply(
      variables,
      batch.clip_features,
      batch.frame_features,
      batch.frame_mask,
      batch.clip_sizes,
      method='encode_video',
    ),
    in_shardings=(meshes.replicated(mesh), meshes.by_row(mesh)),
  )
  encoder, _ = compiled_facts(encode, variables, batch)
  fits = max(step['gib'], encoder['gib']) <= options.limit
  harness.report(
    options,
    devices=mesh.size,
    global_batch=videos,
    captions_used=captions,
    step=step,
    encoder=encoder,
    collectives=dict(collectives),
    fits=fits,
  )
  return 0 if fits else 1


if __name__ == '__main__':
  sys.exit(main())
