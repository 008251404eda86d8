"""train: prepares the data if necessary, trains, keeps the best, reports."""

import dataclasses
import logging
import pathlib
import signal
from typing import Any

import jax
from flax.traverse_util import flatten_dict
from jax.sharding import Mesh
from ml_collections import ConfigDict

from configs import common
from data_pipeline.batching import steps_per_epoch
from data_pipeline.corpus import Corpus, Split
from dreamprvr_jax import checkpoints, folders
from dreamprvr_jax.cli import (
  console,
  data,
  feeding,
  optimizers,
  pictures,
  provenance,
  residency,
  sizing,
  starting,
  workdirs,
)
from dreamprvr_jax.cli.commands import spelled
from dreamprvr_jax.devices import leader, meshes
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.evaluation.evaluator import Evaluator
from dreamprvr_jax.metrics import retrieval
from dreamprvr_jax.models.contract import Model
from dreamprvr_jax.objectives.registry import build_objective
from dreamprvr_jax.train.loop import Loop, LoopOptions, Outcome
from dreamprvr_jax.train.metric_log import MetricLog
from dreamprvr_jax.train.signals import StopRequest
from dreamprvr_jax.train.step import create_state, init_variables
from dreamprvr_jax.trained.inference import blank_of, model_of
from dreamprvr_jax.trained.retriever import FREE
from dreamprvr_jax.types import parameter_count

_log = logging.getLogger(__name__)

# Keys that may differ when a run is resumed: they change the source of the data
# and the form of the results, not the numbers.
FREE_KEYS = (
  'compilation_cache',
  'num_devices',
  'corpus_devices',
  'data.root',
  'data.prepared',
  'data.storage',
  'data.pipeline',
  'data.device_share',
  'data.verify',
  'data.max_inflation',
  'data.workers',
  'data.moments',
  'data.eval_video_batch',
  'data.eval_query_batch',
  'data.eval_split',
  'eval.corpus_share',
  'train.log_every',
  'train.checkpoint_every',
  'train.steps_per_dispatch',
  'model.parallel_execution',
  'model.remat',
  'report.pictures',
  'report.queries',
  'report.untrained',
  'rerank.noise_seeds',
  'rerank.correction',
  'archive.fps',
  'archive.part_seconds',
  'archive.overlap_seconds',
  'archive.retriever',
)


@dataclasses.dataclass(frozen=True)
class Arguments:
  """The flags of train; see `options.py`."""

  workdir: str
  progress: bool
  # Keys of the config that the command line sets.
  given: tuple[str, ...] = ()


def run(config: ConfigDict, arguments: Arguments) -> int:
  """Trains, evaluates the best epoch, prints the table; returns the exit code.

  Raises:
    UserError: If a setting is invalid, or another command uses the workdir.
  """
  if config.model.name in FREE:
    raise UserError(
      f'{config.model.name} needs no training; its metrics are those of '
      f'{spelled("evaluate", f"--config=configs/FILE.py:{config.model.name}")}'
    )
  if config.train.smoothing < 1:
    raise UserError(
      f'config.train.smoothing is {config.train.smoothing}; it is a number of '
      'epochs, 1 for none'
    )
  mesh = meshes.make_mesh(config.num_devices, config.corpus_devices)
  with workdirs.held(arguments.workdir, 'run'):
    return _run(config, arguments, mesh)


def _run(config: ConfigDict, arguments: Arguments, mesh: Mesh) -> int:
  workdir = pathlib.Path(arguments.workdir)
  config = sizing.sized(config, workdir, arguments.given, mesh)
  for key in ('batch_size', 'caption_multiple'):
    meshes.check_divisible(config.data[key], f'config.data.{key}', mesh)
  check_same_run(workdir, config)
  corpus = data.open_data(config, show=arguments.progress)
  data.check_sentences(config.to_dict(), corpus, training=True)
  train = data.training_split(corpus)
  val = data.get_split(corpus, config.data.val_split)
  final = data.get_split(corpus, data.final_split(config, corpus))
  settled = residency.with_pipeline(config, [train, val, final], mesh)
  plain = provenance.plain_config(config)
  model = model_of(plain)
  blank = blank_of(plain, corpus.visual_width, corpus.text_width)
  # These are kept on the host: the training state is donated, and they are
  # used again.
  initial = jax.device_get(init_variables(model, blank, config.seed))
  initial = starting.started(config, initial)
  stored = provenance.stored_config(config, corpus)
  leader.alone(
    lambda: folders.write_json(workdir / checkpoints.CONFIG_FILE, stored)
  )
  evaluator = make_evaluator(settled, mesh, model, val)
  with StopRequest() as stop:
    outcome = _train(
      settled, arguments, train, evaluator, mesh, model, initial, stop
    )
  if outcome.status == 'interrupted':
    return _interrupted(stop, outcome, workdir)
  if final is not val:
    evaluator = make_evaluator(settled, mesh, model, final)
  return _report(
    config, arguments, corpus, final, evaluator, mesh, initial, outcome
  )


def _train(
  config: ConfigDict,
  arguments: Arguments,
  train: Split,
  evaluator: Evaluator,
  mesh: Mesh,
  model: Model,
  initial: Any,
  stop: StopRequest,
) -> Outcome:
  steps = steps_per_epoch(len(train.video_ids), config.data.batch_size)
  rate, optimizer = optimizers.make_optimizer(config, steps)
  feeder = feeding.make_feeder(
    config,
    train,
    mesh,
    show=arguments.progress,
    model=model,
    objective=build_objective(config.model.name, model, **dict(config.loss)),
    optimizer=optimizer,
    seed=config.seed,
    hard_from_step=config.train.hard_negative_epoch * steps,
    **optimizers.schedule_of(config, steps),
  )
  _log.info(
    '%s on %d videos, %d captions: %d steps an epoch, %d %s (%s)',
    config.model.name,
    len(train.video_ids),
    len(train.caption_ids),
    steps,
    mesh.size,
    'device' if mesh.size == 1 else 'devices',
    jax.devices()[0].platform,
  )
  saved = checkpoints.RunCheckpoints(arguments.workdir)
  try:
    loop = Loop(
      feeder=feeder,
      state=meshes.replicate(create_state(initial, optimizer), mesh),
      evaluate=lambda variables, should_stop: evaluator.run(
        variables, show=arguments.progress, should_stop=should_stop
      )[0],
      learning_rate=rate,
      checkpoints=saved,
      log=lambda step: MetricLog(arguments.workdir, step),
      stop=stop,
      options=LoopOptions(
        epochs=config.train.epochs,
        steps_per_epoch=steps,
        patience=config.train.patience,
        smoothing=config.train.smoothing,
        log_every=config.train.log_every,
        checkpoint_every=config.train.checkpoint_every,
        show=arguments.progress,
      ),
    )
    return loop.run()
  finally:
    saved.close()


def make_evaluator(
  config: ConfigDict, mesh: Mesh, model: Model, split: Split
) -> Evaluator:
  """Returns the evaluator of a split; `data.pipeline` must not be 'auto'."""
  placed = residency.place_split(split, config, mesh)
  return Evaluator(
    model,
    mesh,
    data.make_task(split, config, mesh, placed),
    corpus_share=config.eval.corpus_share,
  )


def _interrupted(
  stop: StopRequest, outcome: Outcome, workdir: pathlib.Path
) -> int:
  name = stop.signal.name if stop.signal else 'another process'
  console.say(
    f'stopped by {name} after step {outcome.position.step}; everything is '
    f'saved in {workdir}. The same command continues from there.'
  )
  return 128 + (stop.signal or signal.SIGTERM)


def _report(
  config: ConfigDict,
  arguments: Arguments,
  corpus: Corpus,
  split: Split,
  evaluator: Evaluator,
  mesh: Mesh,
  initial: Any,
  outcome: Outcome,
) -> int:
  """Evaluates the best epoch on the final split, prints and draws."""
  workdir = pathlib.Path(arguments.workdir)
  best = outcome.position.best
  assert best is not None
  template = meshes.replicate(initial, mesh)
  weights = checkpoints.load_weights(workdir, template)
  metrics, _ = evaluator.run(weights, show=arguments.progress)
  rows = {'chance': metrics['chance']}
  before = 'start' if config.train.start else 'untrained'
  if config.report.untrained:
    rows[before] = evaluator.run(template, show=arguments.progress)[0]
  rows[config.model.name] = metrics
  chosen = (
    f'epoch {best["epoch"]} of {outcome.position.evaluated_epochs}, chosen on '
    f'{best["split"]} by SumR'
  )
  ending = {'finished': 'all epochs done', 'early': 'stopped early'}
  console.say(f'\n{ending[outcome.status]}.')
  console.say(console.count_line(metrics, chosen))
  console.say(retrieval.format_table(rows, console.TABLE_COLUMNS))
  console.warn_of_few(metrics)
  if corpus.skipped:
    console.say(f'{len(corpus.skipped)} bad items were left out')
  if jax.process_index() == 0:
    result = {**metrics, 'epoch': best['epoch'], 'chosen_on': best['split']}
    result['parameters'] = parameter_count(initial)
    if before in rows:
      result[before] = rows[before]
    folders.write_json(
      workdir / f'eval_{split.name}.json', provenance.finite(result)
    )
  if config.report.pictures:
    pictures.draw(workdir, evaluator, weights, split, config.report.queries)
  console.say(f'everything is in {workdir}')
  return 0


def check_same_run(
  workdir: pathlib.Path, config: ConfigDict, *, with_rerank: bool = False
) -> None:
  """Refuses to continue a run with settings that change its numbers.

  The keys of re-ranking count only `with_rerank`. A key that the stored run
  lacks had its default, since later versions add keys.

  Raises:
    UserError: If the workdir has a run with other settings; it names them.
  """
  if not (workdir / checkpoints.CONFIG_FILE).exists():
    return
  stored = checkpoints.read_config(workdir)['config']
  plain = provenance.plain_config(config)
  usual = provenance.plain_config(
    common.with_model(common.base_config(), config.model.name)
  )
  former, now, default = (
    flatten_dict(x, sep='.') for x in (stored, plain, usual)
  )
  # What a later version added was at its default.
  former = {**{key: default[key] for key in now if key in default}, **former}
  changed = [
    f'config.{key}: {former.get(key)!r} there, {now.get(key)!r} now'
    for key in sorted(former.keys() | now.keys())
    if former.get(key) != now.get(key)
    and key not in FREE_KEYS
    and (with_rerank or not key.startswith('rerank.'))
  ]
  if changed:
    raise UserError(
      f'{workdir} has a run with other settings ({"; ".join(changed)}); '
      'use the same settings to continue it, or give another --workdir'
    )
