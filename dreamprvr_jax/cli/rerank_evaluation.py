"""evaluate --rerank=DIR: a retriever with and without re-ranking."""

import pathlib
from typing import Any

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from data_pipeline.corpus import Corpus, Split
from dreamprvr_jax import checkpoints
from dreamprvr_jax.cli import console, data, residency
from dreamprvr_jax.cli.retriever import split_features
from dreamprvr_jax.cli.training import make_evaluator
from dreamprvr_jax.metrics import retrieval
from dreamprvr_jax.progress import Watch
from dreamprvr_jax.rerank import fusion
from dreamprvr_jax.rerank.assessment import assess
from dreamprvr_jax.rerank.trained import TrainedReranker
from dreamprvr_jax.trained.retriever import Retriever


def evaluate(
  config: ConfigDict,
  mesh: Mesh,
  retriever: Retriever,
  corpus: Corpus,
  split: Split,
  directory: str,
  *,
  show: bool,
  encodings: pathlib.Path | None = None,
) -> tuple[dict[str, Any], np.ndarray]:
  """Returns (metrics, fused scores) of a split, ready for JSON.

  Args:
    config: The command's config. Only `rerank.correction` and
      `rerank.noise_seeds` of its re-ranking keys are read; the others come
      from the re-ranker's training.
    mesh: The device mesh.
    retriever: The retriever.
    corpus: The corpus that `split` is part of.
    split: The split.
    directory: Workdir of the re-ranker.
    show: Whether progress bars are shown.
    encodings: Folder that keeps the split's encodings; None to keep none.
  """
  settings = checkpoints.read_config(directory).get('config', {})
  tokens = settings.get('rerank', {}).get('tokens', 'clip')
  features = split_features(
    config, mesh, retriever, split, encodings, tokens=tokens, show=show
  )
  trained = TrainedReranker.load(directory, retriever, features, mesh)
  kind = config.rerank.correction
  bank = None
  if kind == 'qb_norm':
    bank = _bank(config, mesh, retriever, corpus, split, show=show)
  metrics, scores = assess(
    trained,
    mesh,
    features,
    fusion.corrected(features.scores, kind, bank),
    split.caption_video,
    seed=config.seed,
    noise_seeds=config.rerank.noise_seeds,
  )
  return {**metrics, 'correction': kind}, scores


def _bank(
  config: ConfigDict,
  mesh: Mesh,
  retriever: Retriever,
  corpus: Corpus,
  split: Split,
  *,
  show: bool,
) -> np.ndarray:
  """Returns the scores of the training queries in the corpus of `split`."""
  watch = Watch(show)
  train = data.get_split(corpus, 'train')
  settled = residency.with_pipeline(config, [train, split], mesh)
  of_train, of_split = (
    make_evaluator(settled, mesh, retriever.model, part)
    for part in (train, split)
  )
  # A corpus is encoded when it is read, so the training videos are not encoded.
  blocks, _ = of_train.encode(retriever.variables, watch)
  count = len(train.caption_ids)
  queries = of_train.pick(blocks, np.arange(count, dtype=np.int32))
  _, videos = of_split.encode(retriever.variables, watch)
  return of_split.scores(retriever.variables, queries, videos)


def show_table(found: dict[str, Any]) -> None:
  """Prints the metrics of a re-ranking as rows."""
  rows = {'the retriever': found['before'], 're-ranked': found['after']}
  if 'single_pass' in found:
    rows['  one pass at x = 0 instead'] = found['single_pass']
  rows['  best order of the lists'] = found['ceiling']
  steps = (
    f'{found["sampling_steps"]} steps' if found['diffusion'] else 'one pass'
  )
  console.say(
    f'\nre-ranking {found["candidates"]} candidates by {found["network"]} '
    f'({steps}), temperature {found["temperature"]:g}, weight '
    f'{found["weight"]:g}'
  )
  if found['correction']:
    console.say(
      f'all rows after {found["correction"]}, which sees other queries'
    )
  console.say(retrieval.format_table(rows, console.TABLE_COLUMNS))
  spread = found['by_noise']['SumR']
  if spread['std'] is not None:
    console.say(
      f'SumR over {len(spread["values"])} draws of noise: '
      f'{spread["mean"]:.2f}, deviation {spread["std"]:.2f}'
    )
  if 'milliseconds' in found:
    times = found['milliseconds']
    console.say(
      ', '.join(
        f'{ms:.2f} ms a query, {batch} at a time' for batch, ms in times.items()
      )
    )
