"""--mode=evaluate: metrics of a retriever on a split."""

import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float
from ml_collections import ConfigDict

from data_pipeline.corpus import Corpus, Split
from data_pipeline.importers.layout import LABELS
from dreamprvr_jax import checkpoints, folders
from dreamprvr_jax.cli import (
  console,
  data,
  label_sets,
  moment_metrics,
  overrides,
  provenance,
  rerank_evaluation,
  residency,
  score_files,
  trace_evaluation,
  workdirs,
)
from dreamprvr_jax.cli.label_sets import LabelSets
from dreamprvr_jax.cli.retriever import free_of, load_placed, require_free
from dreamprvr_jax.cli.training import make_evaluator
from dreamprvr_jax.devices import leader, meshes
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.metrics import retrieval
from dreamprvr_jax.metrics.ranks import ranks_of
from dreamprvr_jax.trained.retriever import Retriever


@dataclasses.dataclass(frozen=True)
class Arguments:
  """The flags of evaluate; see `options.py`."""

  checkpoint: str
  workdir: str
  scores: str
  labels: str
  labelled_only: bool
  moments: bool
  rerank: str
  trace: str
  progress: bool


def run(config: ConfigDict, arguments: Arguments) -> int:
  """Evaluates a checkpoint, writes and prints the metrics.

  A --workdir is locked meanwhile. A checkpoint's own folder is not: one file
  is written there in one step, and a run that is still training may be
  evaluated.

  Raises:
    UserError: If the request cannot be met, or another command uses the
      workdir.
  """
  mesh = meshes.make_mesh(config.num_devices, config.corpus_devices)
  if not arguments.workdir:
    return _run(config, arguments, mesh)
  with workdirs.held(arguments.workdir, 'folder'):
    return _run(config, arguments, mesh)


def _opened(
  config: ConfigDict, arguments: Arguments, mesh: Mesh
) -> tuple[Retriever, Corpus]:
  """Returns the retriever and the corpus.

  Without training there is no checkpoint; the folder of the metrics becomes one
  that other commands take.
  """
  place = arguments.checkpoint
  if not place:
    require_free(config.model.get('name', ''))
    corpus = data.open_data(config, show=arguments.progress)
    stored = provenance.stored_config(config, corpus)
    leader.alone(
      lambda: folders.write_json(
        pathlib.Path(arguments.workdir) / checkpoints.CONFIG_FILE, stored
      )
    )
    return free_of(config, corpus), corpus
  applied = overrides.applied(config, place)
  retriever = load_placed(place, mesh, applied)
  corpus = data.open_data(config, show=arguments.progress)
  data.check_widths(retriever.stored, corpus, place)
  data.check_sentences(applied, corpus, training=False)
  return retriever, corpus


def _run(config: ConfigDict, arguments: Arguments, mesh: Mesh) -> int:
  retriever, corpus = _opened(config, arguments, mesh)
  split = data.get_split(corpus, data.final_split(config, corpus))
  if arguments.trace:
    if arguments.rerank:
      raise UserError('--trace and --rerank exclude each other; give one')
    trace_evaluation.check(config, arguments.trace, retriever)
  labels, place = None, arguments.labels or _labels_of(corpus)
  if place:
    labels = LabelSets(place, split, labelled_only=arguments.labelled_only)
  if arguments.moments:
    moment_metrics.check_spans(split)
  settled = residency.with_pipeline(config, [split], mesh)
  evaluator = make_evaluator(settled, mesh, retriever.model, split)
  wanted = bool(arguments.scores or labels) and not arguments.rerank
  metrics, ranking = evaluator.run(
    retriever.variables,
    keep_scores=bool(wanted or arguments.moments or arguments.trace),
    show=arguments.progress,
  )
  best = None
  if not retriever.is_free:
    best = checkpoints.best_info(arguments.checkpoint)
  _show(metrics, _chosen(retriever, best), corpus)
  result = {**metrics, **provenance.environment()}
  if retriever.is_free:
    result['parameters'] = 0
  if best:
    result |= {'epoch': best['epoch'], 'chosen_on': best['split']}
  scores, ranks = ranking.scores, ranking.by_branch['fused']
  if arguments.trace:
    result['trace'], scores = trace_evaluation.evaluate(
      config,
      mesh,
      retriever,
      corpus,
      split,
      scores,
      arguments.trace,
      show=arguments.progress,
    )
    ranks = ranks_of(scores, split.caption_video)
    trace_evaluation.show_table(result['trace'])
  if arguments.moments:
    result['moments'] = moment_metrics.evaluate(
      evaluator,
      retriever.model,
      retriever.variables,
      split,
      scores,
      ranks,
      progress=arguments.progress,
    )
    moment_metrics.show(result['moments'])
  if arguments.rerank:
    result['rerank'], scores = rerank_evaluation.evaluate(
      config,
      mesh,
      retriever,
      corpus,
      split,
      arguments.rerank,
      show=arguments.progress,
    )
    rerank_evaluation.show_table(result['rerank'])
  if jax.process_index() == 0:
    if labels:
      result['labels'] = labels.metrics(scores)
      label_sets.show(result['labels'])
    _write(result, split, arguments)
    if arguments.scores:
      _write_scores(arguments.scores, scores, split, retriever.is_free)
  return 0


def _labels_of(corpus: Corpus) -> str:
  """Returns the labels that an import wrote beside a corpus, '' if none."""
  path = corpus.options.folder / LABELS
  return str(path) if path.exists() else ''


def _chosen(retriever: Retriever, best: dict[str, Any] | None) -> str:
  """Returns which weights were evaluated."""
  if retriever.is_free:
    return f'{retriever.stored["config"]["model"]["name"]}, without training'
  if best:
    return f'epoch {best["epoch"]}, chosen on {best["split"]} by SumR'
  return 'the checkpoint holds one epoch'


def _show(metrics: dict[str, Any], chosen: str, corpus: Corpus) -> None:
  """Prints the metrics by branch, by moment length and text to text."""
  rows: dict[str, Any] = {'chance': metrics['chance']}
  rows |= {
    f'{name} branch' if name != 'fused' else 'fused (the score)': values
    for name, values in metrics['by_branch'].items()
  }
  for bounds, values in metrics['by_moment_ratio'].items():
    if values['queries']:
      rows[f'moment/video in {bounds}, {values["queries"]:,} queries'] = values
  text = metrics['text_to_text']
  if text['queries']:
    rows[f'text to text, {text["queries"]:,} queries'] = text
  console.say(console.count_line(metrics, chosen))
  console.say(retrieval.format_table(rows, console.TABLE_COLUMNS))
  console.warn_of_few(metrics)
  if corpus.skipped:
    console.say(f'{len(corpus.skipped)} bad items were left out')


def _write(result: dict[str, Any], split: Split, arguments: Arguments) -> None:
  """Writes the metrics."""
  workdir = pathlib.Path(arguments.workdir or arguments.checkpoint)
  path = workdir / f'eval_{split.name}.json'
  folders.write_json(path, provenance.finite(result))
  console.say(f'metrics: {path}')


def _write_scores(
  path: str, scores: Float[np.ndarray, 'n v'], split: Split, is_free: bool
) -> None:
  """Writes the scores of a split.

  Args:
    path: The file.
    scores: Higher is better.
    split: Its queries and videos.
    is_free: Whether they come from a retriever without training.
  """
  score_files.write(
    score_files.Scores(
      path,
      scores,
      split.caption_ids,
      split.video_ids,
      split.caption_video,
      seedless=is_free,
    )
  )
  console.say(f'scores: {path}')
