"""Time of one training step on this machine, at chosen sizes.

python benchmarks/train_step.py --width=96 --batch=64 --captions=256

Prints one JSON line: sizes, versions, device, seconds of compilation, median
and spread of the step after warm-up. `--help` lists the options.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from dreamprvr_jax.host_memory import keep_freed_pages


def options() -> argparse.Namespace:
  """Returns the parsed command line."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  for name, default, text in (
    ('width', 384, 'model width'),
    ('batch', 128, 'videos in a batch'),
    ('captions', 480, 'captions in a batch'),
    ('visual', 1024, 'width of the frame features'),
    ('text', 1024, 'width of the word features'),
    ('registers', 4, 'registers of a video'),
    ('steps', 5, 'timed steps, after one that compiles and one to warm up'),
  ):
    parser.add_argument(f'--{name}', type=int, default=default, help=text)
  parser.add_argument('--dropout', type=float, default=0.25)
  parser.add_argument('--dtype', default='float32', help='or bfloat16')
  parser.add_argument(
    '--default-malloc',
    action='store_true',
    help='leave the C library as it is, to see what keeping pages brings',
  )
  return parser.parse_args()


def main() -> None:
  """Builds a random batch, times the update, prints the result."""
  chosen = options()
  if not chosen.default_malloc:
    keep_freed_pages()
  import jax
  import numpy as np

  from dreamprvr_jax import parallel
  from dreamprvr_jax.models.registry import build_model
  from dreamprvr_jax.objectives.registry import build_objective
  from dreamprvr_jax.train.bert_adam import bert_adam, warmup_linear
  from dreamprvr_jax.train.step import (
    compile_update,
    create_state,
    init_variables,
  )
  from dreamprvr_jax.types import Batch

  rng = np.random.default_rng(0)
  videos, captions = chosen.batch, chosen.captions
  made = lambda *shape: rng.standard_normal(shape, np.float32)
  batch = Batch(
    clip_features=made(videos, 32, chosen.visual),
    frame_features=made(videos, 128, chosen.visual),
    frame_mask=np.ones((videos, 128), bool),
    video_mask=np.ones(videos, bool),
    word_features=made(captions, 30, chosen.text),
    word_mask=np.ones((captions, 30), bool),
    caption_mask=np.ones(captions, bool),
    caption_video=np.sort(np.arange(captions) % videos).astype(np.int32),
  )
  model = build_model(
    'dreamprvr',
    chosen.dtype,
    width=chosen.width,
    num_registers=chosen.registers,
    dropout=chosen.dropout,
    input_dropout=chosen.dropout,
  )
  mesh = parallel.make_mesh()
  optimizer = bert_adam(warmup_linear(2.5e-4, 1000))
  variables = init_variables(model, batch, 0)
  state = parallel.replicate(create_state(variables, optimizer), mesh)
  update = compile_update(
    mesh,
    model=model,
    objective=build_objective('dreamprvr'),
    optimizer=optimizer,
    seed=0,
    hard_from_step=0,
  )
  batch = jax.device_put(batch, parallel.by_row(mesh))
  seconds = []
  for _ in range(chosen.steps + 2):
    began = time.perf_counter()
    state, scalars = update(state, batch)
    jax.block_until_ready(scalars)
    seconds.append(time.perf_counter() - began)
  timed = seconds[2:]
  device = jax.devices()[0]
  print(
    json.dumps(
      {
        **vars(chosen),
        'jax': jax.__version__,
        'device': f'{device.platform} {device.device_kind}',
        'devices': jax.device_count(),
        'first_step_seconds': round(seconds[0], 3),
        'step_seconds_median': round(statistics.median(timed), 4),
        'step_seconds_min': round(min(timed), 4),
        'step_seconds_max': round(max(timed), 4),
        'videos_per_second': round(videos / statistics.median(timed), 2),
      }
    )
  )


if __name__ == '__main__':
  main()
