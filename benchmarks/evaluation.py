"""Time and memory of an evaluation, at the sizes of a dataset.

python benchmarks/evaluation.py --dataset=activitynet --dtype=bfloat16
python benchmarks/evaluation.py --queries=2000 --videos=2000 --width=96
python benchmarks/evaluation.py --videos=100000 --width=16 --visual=16

Encodes random features in device memory with an untrained model and ranks
them, as training does after each epoch. Prints one JSON line: sizes,
versions, device; median and spread of each stage; rates; FLOP/s of the matrix
products and their share of a product's peak measured in the same run; memory
of the ranking and, compiled but not run, of that of --corpus videos.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from typing import Any

import harness
import jax
import jax.numpy as jnp
import numpy as np

from dreamprvr_jax.devices import meshes
from dreamprvr_jax.devices.pace import Pace
from dreamprvr_jax.devices.resident import ResidentSplit
from dreamprvr_jax.evaluation.corpus import Layout, to_bits
from dreamprvr_jax.evaluation.encoder import Encoder
from dreamprvr_jax.evaluation.evaluator import Evaluator
from dreamprvr_jax.evaluation.ranker import Ranker
from dreamprvr_jax.evaluation.ranking import compile_ranking
from dreamprvr_jax.evaluation.task import RetrievalTask
from dreamprvr_jax.models.template import blank_batch
from dreamprvr_jax.progress import Watch
from dreamprvr_jax.train.step import init_variables
from dreamprvr_jax.types import VideoEncoding, dtype_of

# Numbers of a kind of features that are random.
_DIFFERENT = 2**26
STAGES = ('encode_videos', 'encode_queries', 'rank', 'rank_text', 'evaluation')


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
  """Returns the options; those of the command line if none are given."""
  parser = harness.parser(__doc__ or '')
  for name, default, text in (
    ('queries', 0, "0: the dataset's"),
    ('videos', 0, "0: the dataset's"),
    ('width', 0, "of the model; 0: the dataset's"),
    ('visual', 0, "width of the frame features; 0: the dataset's"),
    ('corpus', 100_000, 'videos that the ranking is compiled for; 0: none'),
    ('corpus-devices', 1, 'devices that share the corpus'),
  ):
    parser.add_argument(f'--{name}', type=int, default=default, help=text)
  return parser.parse_args(arguments)


def figures(options: argparse.Namespace) -> dict[str, Any]:
  """Builds a random task, times its stages, returns the results."""
  config = harness.config_of(options)
  sizes = harness.DATASETS[options.dataset]
  if options.width:
    config.model.width = options.width
  model, data = harness.build(config), config.data
  mesh = meshes.make_mesh(corpus_devices=options.corpus_devices)
  task = made_task(
    config,
    mesh,
    videos=options.videos or sizes.eval_videos,
    queries=options.queries or sizes.eval_queries,
    visual=options.visual or sizes.visual,
    text=sizes.text,
  )
  blank = blank_batch(
    options.visual or sizes.visual,
    sizes.text,
    num_clips=data.num_clips,
    max_frames=data.max_frames,
    max_words=data.max_words,
  )
  variables = meshes.replicate(init_variables(model, blank, 0), mesh)
  results = time_stages(model, mesh, task, variables, options.steps)
  medians = {name: results[f'{name}_seconds_median'] for name in STAGES}
  n, v = len(task.caption_ids), len(task.video_ids)
  tokens = data.num_clips + data.max_frames
  videos = harness.product_flops(
    lambda: model.apply(
      variables,
      blank.clip_features,
      blank.frame_features,
      blank.frame_mask,
      method='encode_video',
    )
  )
  queries = harness.product_flops(
    lambda: model.apply(
      variables, blank.word_features, blank.word_mask, method='encode_query'
    )
  )
  flops = {
    'encode_videos': videos * v / len(blank.video_mask),
    'encode_queries': queries * n / len(blank.caption_mask),
    'rank': 2 * n * v * tokens * config.model.width,
    'rank_text': 2 * n * n * config.model.width,
  }
  # The products that measure the peak take memory, too.
  used = harness.memory_gib()
  peak = harness.peak_of(options)
  for name, count in flops.items():
    results |= {
      f'{name}_tflop': round(count / 1e12, 4),
      f'{name}_tflop_per_second': round(count / medians[name] / 1e12, 4),
      f'{name}_share_of_peak': round(count / medians[name] / peak, 3),
    }
  return {
    **results,
    'videos_per_second': round(v / medians['encode_videos'], 1),
    'queries_per_second': round(n / medians['encode_queries'], 1),
    'query_videos_per_second': round(n * v / medians['rank']),
    'peak_tflop_per_second': round(peak / 1e12, 4),
    'ranking_gib': {
      f'{videos} videos, {dtype}': ranking_memory(
        config, model, mesh, task.query_batch, videos, dtype
      )
      for videos in sorted({v, options.corpus} if options.corpus else ())
      for dtype in ('float32', 'bfloat16')
    },
    **used,
  }


def main() -> None:
  """Prints the results."""
  options = parsed()
  harness.report(options, **figures(options))


def time_stages(
  model: Any, mesh: Any, task: RetrievalTask, variables: Any, steps: int
) -> dict[str, float]:
  """Returns median and spread of the seconds of each stage."""
  pace, watch = Pace.of(mesh), Watch(show=False)
  encoder = Encoder(model, mesh, task, corpus_share=0.5, pace=pace)
  ranker = Ranker(model, mesh, task.name, pace)
  evaluator = Evaluator(model, mesh, task)
  queries = encoder.queries(variables, watch)
  corpus = encoder.corpus(variables, watch)
  target = np.full(queries.shape[:2], -1, np.int32)
  target.ravel()[: len(task.caption_ids)] = task.caption_video
  calls = (
    lambda: [part.videos for part in encoder.corpus(variables, watch)],
    lambda: encoder.queries(variables, watch),
    # The corpus keeps its encodings from the first call.
    lambda: ranker.videos(variables, queries, target, corpus, watch).ahead,
    lambda: ranker.text(queries, target, watch),
    lambda: evaluator.run(variables, show=False)[0]['SumR'],
  )
  found = {}
  for name, call in zip(STAGES, calls, strict=True):
    found |= harness.spread(name, harness.timed(call, steps)[1])
  return found


def made_task(
  config: Any, mesh: Any, *, videos: int, queries: int, visual: int, text: int
) -> RetrievalTask:
  """Returns a task of normal numbers in device memory, without padding; from
  some number on they repeat."""
  data, dtype = config.data, dtype_of(config.dtype)
  frames, words = data.max_frames, data.max_words

  @jax.jit
  def features(key):
    keys = jax.random.split(key, 3)
    shapes = (
      (videos, data.num_clips, visual),
      (videos * frames, visual),
      (queries * words, text),
    )
    # Random bits of all rows would take more memory than what is measured.
    few = lambda shape: max(_DIFFERENT // math.prod(shape[1:]), 1)
    return [
      harness.repeated(
        jax.random.normal(key, (min(few(shape), shape[0]), *shape[1:]), dtype),
        shape[0],
      )
      for key, shape in zip(keys, shapes, strict=True)
    ]

  clips, frame_rows, word_rows = features(jax.random.key(0))
  right = np.sort(np.arange(queries) % videos).astype(np.int32)
  counts = np.bincount(right, minlength=videos).astype(np.int32)
  arange = lambda count: np.arange(count, dtype=np.int32)
  split = {
    'clips': clips,
    'frames': frame_rows,
    'frame_starts': frames * arange(videos),
    'frame_counts': np.full(videos, frames, np.int32),
    'words': word_rows,
    'word_starts': words * arange(queries),
    'word_counts': np.full(queries, words, np.int32),
    'captions': arange(queries),
    'caption_starts': (np.cumsum(counts) - counts).astype(np.int32),
    'caption_counts': counts,
  }
  shared = lambda size: -(-size // mesh.size) * mesh.size
  return RetrievalTask(
    name='made',
    video_ids=arange(videos),
    caption_ids=arange(queries),
    caption_video=right,
    moment_ratios=np.full(queries, np.nan),
    video_batch=shared(min(data.eval_video_batch, videos)),
    query_batch=shared(min(data.eval_query_batch, queries)),
    video_batches=lambda: (),
    query_batches=lambda: (),
    resident=ResidentSplit(
      **meshes.replicate(split, mesh), max_frames=frames, max_words=words
    ),
  )


def ranking_memory(
  config: Any, model: Any, mesh: Any, size: int, videos: int, dtype: str
) -> dict[str, float]:
  """Returns the GiB of a device's arguments and temporaries in the ranking of
  a block of queries, and of the products with tokens that it avoids;
  nothing is allocated."""
  width, data = config.model.width, config.data
  struct = jax.ShapeDtypeStruct
  encoded = lambda rows: VideoEncoding(
    struct((rows, data.num_clips, width), dtype_of(dtype)),
    struct((rows, data.max_frames, width), dtype_of(dtype)),
    struct((rows, data.max_frames), bool),
  )
  tokens = data.num_clips + data.max_frames
  share = size // mesh.shape[meshes.DATA_AXIS]
  layout = Layout.plan(
    videos,
    mesh.size,
    mesh,
    largest_block=Pace.of(mesh).products // (share * tokens),
    rows_in_memory=float('inf'),
  )
  rows = layout.rows * mesh.shape[meshes.CORPUS_AXIS]
  compiled = (
    compile_ranking(model, mesh, block=layout.block)
    .lower(
      {},
      jax.eval_shape(to_bits, encoded(rows)),
      struct((rows,), jnp.int32),
      struct((1, size, width), jnp.float32),
      struct((), jnp.int32),
      struct((1, size), jnp.int32),
      struct((1, 3, size), jnp.float32),
      struct((1, size), bool),
    )
    .compile()
    .memory_analysis()
  )
  gib = {
    'arguments': compiled.argument_size_in_bytes,
    'temporaries': compiled.temp_size_in_bytes,
    'all_products': 4 * share * layout.rows * tokens,
  }
  return {name: round(value / 2**30, 3) for name, value in gib.items()}


if __name__ == '__main__':
  sys.exit(main())
