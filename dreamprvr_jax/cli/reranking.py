"""rerank-train: trains a re-ranker on the lists of a trained retriever."""

import dataclasses
import logging
import pathlib
import signal
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from data_pipeline.corpus import Corpus, Split
from dreamprvr_jax import checkpoints, folders, rng
from dreamprvr_jax.cli import console, data, provenance, workdirs
from dreamprvr_jax.cli.commands import spelled
from dreamprvr_jax.cli.retriever import load_placed, split_features
from dreamprvr_jax.cli.training import check_same_run
from dreamprvr_jax.devices import leader, meshes
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.metrics import retrieval
from dreamprvr_jax.progress import Watch
from dreamprvr_jax.rerank import training
from dreamprvr_jax.rerank.candidates import Candidates
from dreamprvr_jax.rerank.features import RerankFeatures, place
from dreamprvr_jax.rerank.fusion import Fusion, ranks_after, tune
from dreamprvr_jax.rerank.holdout import HeldOut, divide
from dreamprvr_jax.rerank.networks import RerankModel, build_reranker
from dreamprvr_jax.rerank.reranker import Reranker
from dreamprvr_jax.rerank.trained import FUSION
from dreamprvr_jax.train.bert_adam import bert_adam, warmup_cosine
from dreamprvr_jax.train.loop import Loop, LoopOptions, Outcome
from dreamprvr_jax.train.metric_log import MetricLog
from dreamprvr_jax.train.signals import StopRequest
from dreamprvr_jax.trained.retriever import Retriever
from dreamprvr_jax.types import parameter_count

_log = logging.getLogger(__name__)

# The numbers of DDIM steps to try.
_STEPS = (2, 5, 10, 50)


@dataclasses.dataclass(frozen=True)
class Arguments:
  """The flags of rerank-train; see `options.py`."""

  checkpoint: str
  workdir: str
  progress: bool


def run(
  config: ConfigDict,
  arguments: Arguments,
  encodings: pathlib.Path | None = None,
) -> int:
  """Trains a re-ranker, chooses its fusion, and prints the table.

  Returns the exit code.

  Args:
    config: The config.
    arguments: The command's flags.
    encodings: Folder that keeps the encodings of the training split; the
      workdir if None.

  Raises:
    UserError: If a setting is invalid, or another command uses the workdir.
  """
  mesh = meshes.make_mesh(config.num_devices, config.corpus_devices)
  settings = check_settings(config)
  with workdirs.held(arguments.workdir, 'run'):
    return _run(config, arguments, mesh, settings, encodings)


def _run(
  config: ConfigDict,
  arguments: Arguments,
  mesh: Mesh,
  settings: dict[str, Any],
  encodings: pathlib.Path | None,
) -> int:
  workdir = pathlib.Path(arguments.workdir)
  check_same_run(workdir, config, with_rerank=True)
  retriever = load_placed(arguments.checkpoint, mesh)
  corpus = data.open_data(config, show=arguments.progress)
  data.check_widths(retriever.stored, corpus, arguments.checkpoint)
  split = data.get_split(corpus, 'train')
  features = split_features(
    config,
    mesh,
    retriever,
    split,
    encodings or workdir,
    tokens=config.rerank.tokens,
    show=arguments.progress,
  )
  width = features.queries.shape[1]
  model = build_reranker(settings, width)
  stored = _stored(config, corpus, features, retriever)
  leader.alone(
    lambda: folders.write_json(workdir / checkpoints.CONFIG_FILE, stored)
  )
  variables = jax.device_get(
    model.init(
      rng.stream_key(config.seed, 'init'), features.tokens.shape[1], width
    )
  )
  with StopRequest() as stop:
    outcome, held = _train(
      config, arguments, split, features, model, variables, mesh, stop
    )
  if outcome.status == 'interrupted':
    console.say(
      f'stopped after step {outcome.position.step}; everything is saved in '
      f'{workdir}. The same command continues from there.'
    )
    return 128 + (stop.signal or signal.SIGTERM)
  return _finish(
    config, arguments, model, variables, held, mesh, retriever.is_free
  )


def check_settings(config: ConfigDict) -> dict[str, Any]:
  """Returns `config.rerank` as plain values.

  Raises:
    UserError: If a number is out of its range.
  """
  settings = provenance.plain_config(config.rerank)
  for name in ('candidates', 'batch_size', 'epochs', 'noise_seeds'):
    if settings[name] < 1:
      raise UserError(
        f'config.rerank.{name} is {settings[name]}; give 1 or more'
      )
  if settings['candidates'] < 2:
    raise UserError('config.rerank.candidates is 1; a list needs 2 or more')
  if not 0 < settings['held_out'] < 1:
    raise UserError(
      f'config.rerank.held_out is {settings["held_out"]}; give a share of the '
      'training videos, above 0 and below 1'
    )
  return settings


def _stored(
  config: ConfigDict,
  corpus: Corpus,
  features: RerankFeatures,
  retriever: Retriever,
) -> dict[str, Any]:
  return {
    **provenance.stored_config(config, corpus),
    'reranker': {
      'width': features.queries.shape[1],
      'tokens_per_video': features.tokens.shape[1],
      'retriever': retriever.checkpoint,
      'retriever_model': retriever.stored['config']['model']['name'],
      'retriever_digest': retriever.digest,
    },
  }


def _train(
  config: ConfigDict,
  arguments: Arguments,
  split: Split,
  features: RerankFeatures,
  model: RerankModel,
  variables: Any,
  mesh: Mesh,
  stop: StopRequest,
) -> tuple[Outcome, HeldOut]:
  settings = config.rerank
  train, lists, held = divide(
    features,
    split.caption_video,
    settings.held_out,
    config.seed,
    settings.candidates,
  )
  steps = training.steps_of(len(lists), settings.batch_size)
  rate = warmup_cosine(settings.lr, steps * settings.epochs, settings.warmup)
  optimizer = bert_adam(
    rate,
    weight_decay=settings.weight_decay,
    global_norm=1.0,
    b2=0.98,
  )
  feeder = training.ListFeeder(
    place(train, meshes.replicated(mesh)),
    lists,
    mesh,
    batch_size=settings.batch_size,
    seed=config.seed,
    model=model,
    optimizer=optimizer,
    temperature=settings.train_temperature,
    decay=settings.average,
  )
  _log.info(
    '%s of %d parameters on %d lists of %d candidates: %d updates an epoch; '
    '%d videos and %d queries held out',
    settings.network,
    parameter_count(variables),
    *lists.shape,
    steps,
    len(held.features.tokens),
    len(held.features.queries),
  )
  saved = checkpoints.RunCheckpoints(arguments.workdir)
  try:
    loop = Loop(
      feeder=feeder,
      state=meshes.replicate(training.create_state(variables, optimizer), mesh),
      evaluate=_evaluation(config, model, mesh, held),
      learning_rate=rate,
      checkpoints=saved,
      log=lambda step: MetricLog(arguments.workdir, step),
      stop=stop,
      options=LoopOptions(
        epochs=settings.epochs,
        steps_per_epoch=steps,
        patience=settings.patience,
        log_every=config.train.log_every,
        checkpoint_every=config.train.checkpoint_every,
        show=arguments.progress,
      ),
    )
    return loop.run(), held
  finally:
    saved.close()


def _evaluation(
  config: ConfigDict, model: RerankModel, mesh: Mesh, held: HeldOut
) -> Callable[[Any, Callable[[], bool]], dict[str, Any]]:
  """Returns the loop's evaluation, on the held-out videos."""
  ask = Reranker(model, mesh, held.features, seed=config.seed)

  def evaluate(weights, should_stop):
    found = ask(
      weights,
      held.candidates.videos,
      num_steps=config.rerank.sampling_steps,
      watch=Watch(show=False, should_stop=should_stop),
    )
    _, metrics = choose(config, held.candidates, found)
    return {'split': 'held out of train', **metrics}

  return evaluate


def choose(
  config: ConfigDict, candidates: Candidates, found: np.ndarray
) -> tuple[Fusion, dict[str, float]]:
  """Returns the fusion, tuned if `config.rerank.tune` is set, and metrics."""
  if config.rerank.tune:
    return tune(candidates, found)
  fusion = Fusion(config.rerank.fuse_temperature, config.rerank.fuse_weight)
  fused = fusion(candidates.scores, found)
  return fusion, retrieval.summary(ranks_after(candidates, fused))


def _finish(
  config: ConfigDict,
  arguments: Arguments,
  model: RerankModel,
  variables: Any,
  held: HeldOut,
  mesh: Mesh,
  is_free: bool,
) -> int:
  """Chooses fusion and steps on the held-out videos, prints the table."""
  workdir = pathlib.Path(arguments.workdir)
  weights = checkpoints.load_weights(workdir, meshes.replicate(variables, mesh))
  ask = Reranker(model, mesh, held.features, seed=config.seed)
  tried = [config.rerank.sampling_steps]
  if config.rerank.tune and model.diffusion:
    tried = [j for j in _STEPS if j <= model.schedule.num_steps]
  best: tuple[int, Fusion, dict[str, float]] | None = None
  for steps in tried:
    found = ask(weights, held.candidates.videos, num_steps=steps)
    fusion, metrics = choose(config, held.candidates, found)
    if best is None or metrics['SumR'] > best[2]['SumR']:
      best = steps, fusion, metrics
  assert best is not None
  steps, fusion, metrics = best
  before = retrieval.summary(held.candidates.ranks)
  info = checkpoints.best_info(workdir)
  if jax.process_index() == 0:
    folders.write_json(
      workdir / FUSION,
      {
        **dataclasses.asdict(fusion),
        'sampling_steps': steps,
        'tuned': bool(config.rerank.tune),
        'epoch': info['epoch'] if info else None,
        'held_out': metrics,
        'held_out_before': before,
      },
    )
  videos, queries = len(held.features.tokens), len(held.features.queries)
  note = '' if is_free else ' (the retriever was trained on them)'
  console.say(
    f'\nheld out of train: {queries:,} queries, {videos:,} videos{note}; '
    'temperature '
    f'{fusion.temperature:g}, weight {fusion.weight:g}, {steps} steps, epoch '
    f'{info["epoch"] if info else 0}'
  )
  rows = {'the retriever': before, 're-ranked': metrics}
  console.say(retrieval.format_table(rows, console.TABLE_COLUMNS))
  console.say(
    'evaluate it: '
    + spelled(
      'evaluate', f'--checkpoint={arguments.checkpoint} --rerank={workdir}'
    )
  )
  return 0
