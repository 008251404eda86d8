"""evaluate --trace=FORM,...: a retriever with and without TRACE's score, which
needs no training. Form and weight are chosen on the validation split."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float
from ml_collections import ConfigDict

from data_pipeline.corpus import Corpus, Split
from dreamprvr_jax.cli import console, data, residency
from dreamprvr_jax.cli.training import make_evaluator
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.metrics import retrieval
from dreamprvr_jax.metrics.ranks import ranks_of
from dreamprvr_jax.models.anchors import AnchoredTrace, Anchors
from dreamprvr_jax.models.trace import ROUTINGS, TraceSettings
from dreamprvr_jax.progress import Watch
from dreamprvr_jax.trained.retriever import Retriever

Matrix = Float[np.ndarray, 'n v']


def check(config: ConfigDict, forms: str, retriever: Retriever) -> None:
  """Raises UserError if TRACE cannot be added as asked."""
  _anchors(forms)
  _settings(config, config.trace.routing)
  weights = config.trace.weights
  if not weights or not all(0 <= weight < np.inf for weight in weights):
    raise UserError(
      f'config.trace.weights is {weights}; give numbers from 0 on, of which '
      'one is chosen'
    )
  if retriever.model.reads_registers:
    raise UserError(
      f'{retriever.checkpoint} was trained with TRACE, which its score has '
      'already; leave out --trace'
    )


def evaluate(
  config: ConfigDict,
  mesh: Mesh,
  retriever: Retriever,
  corpus: Corpus,
  split: Split,
  scores: Matrix,
  forms: str,
  *,
  show: bool,
) -> tuple[dict[str, Any], Matrix]:
  """Returns (metrics, scores with TRACE) of a split, ready for JSON.

  Args:
    config: The command's config; `config.trace` has the numbers of the score.
    mesh: The device mesh.
    retriever: The retriever.
    corpus: The corpus that `split` is part of.
    split: The split.
    scores: The retriever's scores on it.
    forms: Forms separated by commas, of which one is chosen.
    show: Whether progress bars are shown.
  """
  val = data.get_split(corpus, config.data.val_split)
  routing = config.trace.routing

  def matrices(
    where: Split, anchors: Sequence[Anchors], routings: Sequence[str]
  ) -> Iterator[Matrix]:
    settled = residency.with_pipeline(config, [where], mesh)
    evaluator = make_evaluator(settled, mesh, retriever.model, where)
    model = retriever.model
    scorers = [
      AnchoredTrace(
        one, _settings(config, name), model.token_branch, model.pooled
      )
      for one in anchors
      for name in routings
    ]
    return evaluator.matrices(retriever.variables, scorers, Watch(show))

  base, *added = matrices(val, _anchors(forms), [routing])
  sums = {
    str(one): {
      weight: _recall(base + weight * matrix, val)['SumR']
      for weight in config.trace.weights
    }
    for one, matrix in zip(_anchors(forms), added, strict=True)
  }
  form, weight = max(
    ((form, weight) for form in sums for weight in sums[form]),
    key=lambda x: sums[x[0]][x[1]],
  )
  controls = [name for name in ROUTINGS if name != routing]
  found = matrices(split, [Anchors.parse(form)], [routing, *controls])
  # The retriever's own scores are known.
  next(found)
  with_trace = scores + np.float32(weight) * next(found)
  return {
    'form': form,
    'routing': routing,
    'weight': weight,
    'chosen_on': val.name,
    'before_on_val': _recall(base, val)['SumR'],
    'on_val': {
      name: {f'{w:g}': value for w, value in row.items()}
      for name, row in sums.items()
    },
    'before': _recall(scores, split),
    'after': _recall(with_trace, split),
    'controls': {
      name: _recall(scores + np.float32(weight) * matrix, split)
      for name, matrix in zip(controls, found, strict=True)
    },
  }, with_trace


def show_table(found: dict[str, Any]) -> None:
  """Prints the metrics with and without TRACE, and with its controls."""
  rows = {
    'the retriever': found['before'],
    f'with TRACE, {found["routing"]}': found['after'],
    **{
      f'  {name} instead': values for name, values in found['controls'].items()
    },
  }
  console.say(
    f'\nTRACE without training: {found["form"]}, weight {found["weight"]:g}, '
    f'chosen on {found["chosen_on"]} by SumR'
  )
  console.say(retrieval.format_table(rows, console.TABLE_COLUMNS))


def _anchors(forms: str) -> list[Anchors]:
  return [Anchors.parse(form.strip()) for form in forms.split(',')]


def _settings(config: ConfigDict, routing: str) -> TraceSettings:
  trace = config.trace
  return TraceSettings(routing, trace.temperature, trace.route, trace.soft)


def _recall(scores: Matrix, split: Split) -> dict[str, float]:
  return retrieval.summary(ranks_of(scores, split.caption_video))
