"""--mode=evaluate --rerank=DIR: a retriever with and without re-ranking."""

import dataclasses
import pathlib
import statistics
import time
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from data_pipeline.corpus import Corpus, Split
from dreamprvr_jax import checkpoints
from dreamprvr_jax.cli import console, data, residency
from dreamprvr_jax.cli.reranking import read_fusion
from dreamprvr_jax.cli.retriever import split_features
from dreamprvr_jax.cli.training import make_evaluator
from dreamprvr_jax.devices import meshes
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.metrics import retrieval, seeds
from dreamprvr_jax.progress import Watch
from dreamprvr_jax.rerank import fusion
from dreamprvr_jax.rerank.candidates import Candidates, best_candidates
from dreamprvr_jax.rerank.features import RerankFeatures
from dreamprvr_jax.rerank.fusion import Fusion
from dreamprvr_jax.rerank.networks import RerankModel, build_reranker
from dreamprvr_jax.rerank.reranker import Reranker
from dreamprvr_jax.trained.retriever import Retriever
from dreamprvr_jax.types import parameter_count

# Queries at a time, and how often, where latency is measured.
_BATCHES = (1, 64)
_TIMES = 7


@dataclasses.dataclass(frozen=True)
class Trained:
  """A trained re-ranker and what was chosen with it."""

  directory: str
  model: RerankModel
  variables: Any
  settings: dict[str, Any]
  chosen: dict[str, Any]

  @classmethod
  def load(
    cls,
    directory: str,
    retriever: Retriever,
    features: RerankFeatures,
    mesh: Mesh,
  ) -> 'Trained':
    """Returns the re-ranker of a workdir.

    Raises:
      UserError: If it is none, is not finished, or was trained with another
        retriever.
    """
    stored = checkpoints.read_config(directory)
    if 'reranker' not in stored:
      raise UserError(
        f'{directory} holds no re-ranker: --mode=rerank-train or an import of '
        "DiffusionRet's generators writes one"
      )
    facts = stored['reranker']
    digest = facts['retriever_digest']
    if digest and digest != retriever.digest:
      raise UserError(
        f'{directory} was trained with the retriever of {facts["retriever"]}, '
        f'whose weights are others than those of {retriever.checkpoint}; '
        'give that --checkpoint, or train a re-ranker with this one'
      )
    width = features.queries.shape[1]
    if facts['width'] != width:
      raise UserError(
        f'{directory} re-ranks encodings of width {facts["width"]}, those of '
        f'{retriever.checkpoint} are {width} wide; train a re-ranker with it'
      )
    settings = stored['config']['rerank']
    model = build_reranker(settings, width)
    shapes = jax.eval_shape(
      lambda: model.init(jax.random.key(0), features.tokens.shape[1], width)
    )
    whole = meshes.replicated(mesh)
    placed = jax.tree.map(
      lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=whole), shapes
    )
    variables = checkpoints.load_weights(directory, placed)
    return cls(directory, model, variables, settings, read_fusion(directory))


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
    config: Of the command; its `rerank.correction` and `noise_seeds` count,
      all else of it is the re-ranker's.
    mesh: The device mesh.
    retriever: The retriever.
    corpus: What `split` is of.
    split: The split.
    directory: Workdir of the re-ranker.
    show: Whether progress bars are shown.
    encodings: Folder where the split's encodings are kept; None for nowhere.
  """
  settings = checkpoints.read_config(directory).get('config', {})
  tokens = settings.get('rerank', {}).get('tokens', 'clip')
  features = split_features(
    config, mesh, retriever, split, encodings, tokens=tokens, show=show
  )
  trained = Trained.load(directory, retriever, features, mesh)
  kind = config.rerank.correction
  bank = None
  if kind == 'qb_norm':
    bank = _bank(config, mesh, retriever, corpus, split, show=show)
  scores = fusion.corrected(features.scores, kind, bank)
  wanted = trained.settings['used_candidates'] or trained.settings['candidates']
  candidates = best_candidates(scores, split.caption_video, wanted)
  ask = Reranker(trained.model, mesh, features, seed=config.seed)
  fuse = Fusion(trained.chosen['temperature'], trained.chosen['weight'])
  steps = trained.chosen['sampling_steps']

  def ranked(**options: Any) -> tuple[np.ndarray, np.ndarray]:
    found = ask(
      trained.variables, candidates.videos, num_steps=steps, **options
    )
    fused = fuse(candidates.scores, found)
    return fused, fusion.ranks_after(candidates, fused)

  noise_seeds = config.rerank.noise_seeds if trained.model.diffusion else 1
  runs = [ranked(noise=i) for i in range(noise_seeds)]
  found = {
    'directory': directory,
    'network': trained.settings['network'],
    'parameters': parameter_count(trained.variables),
    'diffusion': trained.model.diffusion,
    'correction': kind,
    'candidates': candidates.videos.shape[1],
    'temperature': fuse.temperature,
    'weight': fuse.weight,
    'sampling_steps': steps if trained.model.diffusion else 1,
    'before': retrieval.summary(candidates.ranks),
    'after': retrieval.summary(runs[0][1]),
    'by_noise': {
      name: seeds.spread(values)
      for name, values in fusion.spread([r for _, r in runs]).items()
    },
    'ceiling': retrieval.summary(
      np.where(candidates.contain_right, 1, candidates.ranks)
    ),
  }
  if trained.model.diffusion:
    found['single_pass'] = retrieval.summary(ranked(how='single')[1])
  found['milliseconds'] = _latency(trained, mesh, features, candidates, steps)
  return found, fusion.scatter(scores, candidates, runs[0][0])


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
  # The corpora are encoded when they are asked for: that of training is not.
  blocks, _ = of_train.encode(retriever.variables, watch)
  count = len(train.caption_ids)
  queries = of_train.pick(blocks, np.arange(count, dtype=np.int32))
  _, videos = of_split.encode(retriever.variables, watch)
  return of_split.scores(retriever.variables, queries, videos)


def _latency(
  trained: Trained,
  mesh: Mesh,
  features: RerankFeatures,
  candidates: Candidates,
  steps: int,
) -> dict[str, float]:
  """Returns the median milliseconds per query, by how many come at a time."""
  found = {}
  for batch in _BATCHES:
    ask = Reranker(trained.model, mesh, features, seed=0, chunk=batch)
    lists = candidates.videos[: min(batch, len(candidates.videos))]
    times = []
    for _ in range(_TIMES + 1):
      began = time.perf_counter()
      ask(trained.variables, lists, num_steps=steps)
      times.append(time.perf_counter() - began)
    # The first one compiles.
    found[str(batch)] = 1000 * statistics.median(times[1:]) / len(lists)
  return found


def show_table(found: dict[str, Any]) -> None:
  """Prints the rows of a re-ranking."""
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
