"""How long a whole training takes here, estimated from a few real epochs.

python benchmarks/whole_run.py --dataset=activitynet --dtype=bfloat16
python benchmarks/whole_run.py --videos=256 --eval_videos=256 --eval_queries=700

Runs the training loop, with evaluations and checkpoints, on random features of
the dataset's sizes in device memory. The estimate is the first epoch, which
compiles, and as many later ones as the config has, without early stopping.
Reading and preparing the data and the final report are left out. With fewer
--videos, the time of the steps is multiplied to those of the dataset; fewer
videos or queries of an evaluation are counted as they are. Prints one JSON
line.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import evaluation
import harness
import jax

from data_pipeline.batching import TrainPlan
from dreamprvr_jax.checkpoints import RunCheckpoints
from dreamprvr_jax.cli import feeding
from dreamprvr_jax.devices import meshes
from dreamprvr_jax.evaluation.evaluator import Evaluator
from dreamprvr_jax.models.template import blank_batch
from dreamprvr_jax.train.loop import Loop, LoopOptions
from dreamprvr_jax.train.metric_log import MetricLog
from dreamprvr_jax.train.signals import StopRequest
from dreamprvr_jax.train.step import create_state, init_variables


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
  """Returns the options; those of the command line if none are given."""
  parser = harness.parser(__doc__ or '')
  for name, default, text in (
    ('epochs', 3, 'that are run, at least 2'),
    ('batch', 0, "videos of a batch; 0: the config's"),
    ('videos', 0, "that are trained on; 0: the dataset's"),
    ('eval_videos', 0, "of an evaluation; 0: the dataset's"),
    ('eval_queries', 0, "of an evaluation; 0: the dataset's"),
  ):
    parser.add_argument(f'--{name}', type=int, default=default, help=text)
  options = parser.parse_args(arguments)
  if options.epochs < 2:
    parser.error(f'--epochs is {options.epochs}; the first one compiles')
  return options


class Clock:
  """When evaluations begin and end."""

  def __init__(self, evaluator: Evaluator):
    self._evaluator = evaluator
    self._last = time.perf_counter()
    self.training: list[float] = []
    self.evaluations: list[float] = []

  def evaluate(self, variables: Any, should_stop: Any) -> dict[str, Any]:
    """Evaluates; notes how long that took, and the training before it, which
    includes the checkpoint of the epoch before."""
    self.training.append(self._passed())
    metrics, _ = self._evaluator.run(
      variables, show=False, should_stop=should_stop
    )
    self.evaluations.append(self._passed())
    return metrics

  def _passed(self) -> float:
    before, self._last = self._last, time.perf_counter()
    return self._last - before


def trained(options: argparse.Namespace, config: Any, folder: str) -> Clock:
  """Runs the epochs and returns their times.

  Args:
    options: The options.
    config: The config of the run.
    folder: Its workdir.
  """
  sizes, data = harness.DATASETS[options.dataset], config.data
  mesh = meshes.make_mesh()
  widths = {'visual': sizes.visual, 'text': sizes.text}
  videos = options.videos or sizes.videos
  train = evaluation.made_task(
    config,
    mesh,
    videos=videos,
    queries=videos * sizes.captions // sizes.videos,
    **widths,
  )
  val = evaluation.made_task(
    config,
    mesh,
    videos=options.eval_videos or sizes.eval_videos,
    queries=options.eval_queries or sizes.eval_queries,
    **widths,
  )
  parts = harness.training_parts(config)
  plan = TrainPlan(
    train.caption_video,
    videos,
    batch_size=data.batch_size,
    seed=config.seed,
    multiple=data.caption_multiple,
  )
  blank = blank_batch(
    sizes.visual,
    sizes.text,
    num_clips=data.num_clips,
    max_frames=data.max_frames,
    max_words=data.max_words,
  )
  variables = init_variables(parts['model'], blank, config.seed)
  state = create_state(variables, parts['optimizer'])
  assert train.resident is not None
  saved = RunCheckpoints(folder)
  clock = Clock(Evaluator(parts['model'], mesh, val))
  try:
    with StopRequest() as stop:
      Loop(
        feeder=feeding.resident_feeder(
          config, train.resident, plan, mesh, **parts
        ),
        state=meshes.replicate(state, mesh),
        evaluate=clock.evaluate,
        learning_rate=lambda step: config.optimizer.lr,
        checkpoints=saved,
        log=lambda step: MetricLog(folder, step),
        stop=stop,
        options=LoopOptions(
          epochs=options.epochs,
          steps_per_epoch=plan.steps_per_epoch,
          patience=options.epochs,
          log_every=config.train.log_every,
          checkpoint_every=config.train.checkpoint_every,
          show=False,
        ),
      ).run()
  finally:
    saved.close()
  return clock


def figures(options: argparse.Namespace) -> dict[str, Any]:
  """Trains, and returns the estimate with its parts."""
  config = harness.config_of(options)
  config.data.batch_size = options.batch or config.data.batch_size
  sizes, size = harness.DATASETS[options.dataset], config.data.batch_size
  with tempfile.TemporaryDirectory() as folder:
    clock = trained(options, config, folder)
  done = -(-(options.videos or sizes.videos) // size)
  steps = -(-sizes.videos // size)
  training = statistics.median(clock.training[1:])
  evaluate = statistics.median(clock.evaluations[1:])
  compilation = sum(
    max(times[0] - later, 0)
    for times, later in (
      (clock.training, training),
      (clock.evaluations, evaluate),
    )
  )
  epoch = training / done * steps + evaluate
  rounded = lambda seconds: [round(x, 3) for x in seconds]
  return {
    'steps_run': done,
    'training_seconds': rounded(clock.training),
    'evaluation_seconds': rounded(clock.evaluations),
    'compilation_seconds': round(compilation, 1),
    'steps_per_epoch': steps,
    'epoch_seconds': round(epoch, 2),
    'epochs_of_a_run': config.train.epochs,
    'run_minutes': round((compilation + config.train.epochs * epoch) / 60, 2),
    'devices': jax.device_count(),
    **harness.memory_gib(),
  }


def main() -> None:
  """Prints the estimate."""
  options = parsed()
  harness.report(options, **figures(options))


if __name__ == '__main__':
  sys.exit(main())
