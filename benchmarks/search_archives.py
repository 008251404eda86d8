"""Archives on disk for `search.py`: an index, queries, and the exact answer.

A folder has `index/`, which the product's own writer wrote, and `queries.npz`:
for each kind of queries `queries/KIND` (n, d) float32 of any length, and
`exact/KIND` (n, 10), the rows of the best ten videos by falling score. The
exact answer comes from plain NumPy over the stored tokens, not from the search
that is measured. `facts.json` is written last: a folder that has it is reused.
"""

import dataclasses
import json
import pathlib
import shutil
import time
from typing import Any

import hard_queries
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from configs import common
from dreamprvr_jax.archive.index import writer
from dreamprvr_jax.archive.index.layout import BRANCHES
from dreamprvr_jax.archive.index.manifest import Manifest
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.search.index import Index
from dreamprvr_jax.archive.search.list_keeping import keep_lists
from dreamprvr_jax.models.base import RetrievalModel
from dreamprvr_jax.models.contract import Model
from dreamprvr_jax.trained.retriever import Retriever
from dreamprvr_jax.types import DType, VideoEncoding

TOKENS = 'float16+int8'
# Videos of an exact answer.
BEST = 10
INDEX, QUERIES, FACTS = 'index', 'queries.npz', 'facts.json'
# Videos that are written at a time, and that are scored at a time.
_PART, _BLOCK = 512, 64
_SECONDS = 60.0


class Made(RetrievalModel):
  """A plain best-token score, with the features as tokens."""

  def encode_video(
    self,
    clip_features,
    frame_features,
    frame_mask,
    clip_sizes=None,
    *,
    train=False,
  ):
    """Returns the features as they are."""
    return VideoEncoding(clip_features, frame_features, frame_mask)


def retriever_of_made(width: int, dtype: DType = jnp.float32) -> Retriever:
  """Returns a retriever whose queries are vectors of the tokens' space.

  Args:
    width: Numbers of a token.
    dtype: What tokens are scored in.
  """
  config: Any = common.with_model(common.base_config(), 'ms_sl')
  keys = config.model.to_dict()
  del keys['name']
  model = Made(
    **{**keys, 'width': width},
    num_clips=1,
    max_frames=1,
    max_words=1,
    dtype=dtype,
  )
  return Retriever('made', model, {}, 'made', {})


def opened(folder: pathlib.Path, **options: Any) -> Index:
  """Returns the open index of an archive.

  Args:
    folder: The folder of the archive.
    **options: See `Index.open`.
  """
  facts = facts_of(folder)
  made = '' if facts['trained'] else retriever_of_made(facts['width'])
  return Index.open(folder / INDEX, made, **options)


def facts_of(folder: pathlib.Path) -> dict[str, Any]:
  """Returns what is known of an archive; empty if it is not finished."""
  path = folder / FACTS
  return json.loads(path.read_text()) if path.exists() else {}


def questions(
  folder: pathlib.Path,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Returns {kind: (queries, rows of the exact best ten)}."""
  with np.load(folder / QUERIES) as found:
    kinds = [name.partition('/')[2] for name in found if 'queries/' in name]
    return {k: (found[f'queries/{k}'], found[f'exact/{k}']) for k in kinds}


def write_index(
  place: pathlib.Path,
  recipe: hard_queries.Recipe,
  branches: hard_queries.Branches,
  *,
  tokens: str = TOKENS,
  seen: Any = None,
) -> dict[str, float]:
  """Writes the index of a made archive, part by part.

  Args:
    place: The folder of the index.
    recipe: The archive.
    branches: Its clip tokens and frame tokens.
    tokens: How tokens are stored.
    seen: Takes (first video, clip tokens, frame tokens) of each part.

  Returns:
    Seconds that the tokens were made in, and that they were written in.
  """
  made, began = 0.0, time.perf_counter()
  frames = branches.tokens - branches.clips
  with writer.open_segment(
    place, retriever_of_made(recipe.width), tokens=tokens
  ) as segment:
    for first in range(0, recipe.videos, _PART):
      start = time.perf_counter()
      count = min(_PART, recipe.videos - first)
      clip, frame = branches.split(recipe.made(first, count))
      if seen is not None:
        seen(first, clip, frame)
      made += time.perf_counter() - start
      even = lambda n, count=count: np.tile(np.linspace(0, 1, n), (count, 1))
      rows = {
        'clip_tokens': clip,
        'frame_tokens': frame,
        'frame_mask': np.ones((count, frames), bool),
        'clip_edges': even(branches.clips + 1),
        'frame_edges': even(frames + 1),
        'cores': even(2),
        'starts': np.zeros(count),
        'durations': np.full(count, _SECONDS),
      }
      segment.write(rows, f'the videos from {first} on')
      segment.ids += [f'v{i}' for i in range(first, first + count)]
  written = time.perf_counter() - began - made
  return {'made_seconds': round(made, 1), 'write_seconds': round(written, 1)}


def drop_lists(place: pathlib.Path) -> None:
  """Forgets the lists of an index, so that they are made again."""
  manifest = Manifest.read(place)
  if manifest.lists is not None:
    dataclasses.replace(manifest, lists=None).write(place)


def make_lists(
  place: pathlib.Path, retriever: Retriever, recall: float, memory: float
) -> dict[str, Any]:
  """Makes the lists of an index, a first pass; returns what they took.

  Args:
    place: The folder of the index. Lists that it has are used if they are up
      to date; then only their settings are measured.
    retriever: The retriever of the index.
    recall: The share of the exact best ten that a search shall find.
    memory: Bytes that this may take.
  """
  began = time.perf_counter()
  manifest = keep_lists(place, retriever, recall=recall, memory=memory)
  seconds = time.perf_counter() - began
  record = manifest.lists
  assert record is not None
  files = (place / 'lists' / record.name).iterdir()
  return {
    'lists_seconds': round(seconds, 1),
    'lists_bytes': sum(path.stat().st_size for path in files),
    'probes': record.probes,
    'depth': record.depth,
    'recall_of_own_queries': round(record.found, 4),
  }


def make(
  folder: pathlib.Path,
  recipe: hard_queries.Recipe,
  branches: hard_queries.Branches,
  count: int,
) -> None:
  """Makes an archive with `count` queries of each kind, unless it exists."""
  wanted = {
    **dataclasses.asdict(recipe),
    'clips': branches.clips,
    'queries': count,
    'trained': False,
  }
  facts = facts_of(folder)
  if {name: facts.get(name) for name in wanted} == wanted:
    return
  shutil.rmtree(folder, ignore_errors=True)
  folder.mkdir(parents=True)
  seconds = write_index(folder / INDEX, recipe, branches)
  asked = {kind: recipe.queries(kind, count)[0] for kind in hard_queries.KINDS}
  answer(folder, asked, retriever_of_made(recipe.width).model)
  finish(folder, {**wanted, **seconds})


def answer(
  folder: pathlib.Path, asked: dict[str, np.ndarray], model: Model
) -> None:
  """Writes the queries of an archive and their exact answers."""
  found = exact(
    Store(folder / INDEX), np.concatenate(list(asked.values())), model
  )
  ends = np.cumsum([len(few) for few in asked.values()])[:-1]
  arrays: dict[str, Any] = {f'queries/{k}': few for k, few in asked.items()}
  for kind, rows in zip(asked, np.split(found, ends), strict=True):
    arrays[f'exact/{kind}'] = rows
  np.savez(folder / QUERIES, **arrays)


def finish(folder: pathlib.Path, facts: dict[str, Any]) -> None:
  """Marks an archive as finished, and says how large its index is."""
  size = sum(p.stat().st_size for p in (folder / INDEX).rglob('*.*'))
  facts = {**facts, 'index_bytes_per_video': size // facts['videos']}
  (folder / FACTS).write_text(json.dumps(facts))


class Best:
  """The best ten videos of some queries, while all videos pass by."""

  def __init__(self, queries: Float[np.ndarray, 'n d'], model: Model):
    """Args:
    queries: The queries, of any length.
    model: It weighs the branches.
    """
    self._queries = hard_queries.unit(queries.astype(np.float32))
    self._weights = model.clip_weight, model.frame_weight
    self.scores = np.full((len(queries), BEST), -np.inf, np.float32)
    self.rows = np.full((len(queries), BEST), -1, np.int64)

  def add(
    self,
    first: int,
    clips: Float[np.ndarray, 'b c d'],
    frames: Float[np.ndarray, 'b f d'],
    mask: np.ndarray | None = None,
  ) -> None:
    """Compares the videos of the rows from `first` on; their tokens are of any
    length, and `mask` (b, f) says which frames are real."""
    for start in range(0, len(clips), _BLOCK):
      few = slice(start, start + _BLOCK)
      found = self._weights[0] * self._cosines(clips[few], None)
      real = None if mask is None else mask[few]
      found += self._weights[1] * self._cosines(frames[few], real)
      rows = np.arange(first + start, first + start + found.shape[1])
      self._merge(found, np.broadcast_to(rows, found.shape))

  def _cosines(
    self, tokens: Float[np.ndarray, 'b s d'], real: np.ndarray | None
  ) -> Float[np.ndarray, 'n b']:
    norms = np.linalg.norm(tokens, axis=-1)
    flat = tokens.reshape(-1, tokens.shape[-1])
    found = (flat @ self._queries.T).reshape(*norms.shape, -1)
    found /= np.maximum(norms, np.finfo(np.float32).tiny)[..., None]
    if real is not None:
      found = np.where(real[..., None], found, -np.inf)
    return found.max(axis=1).T

  def _merge(self, scores: np.ndarray, rows: np.ndarray) -> None:
    scores = np.concatenate([self.scores, scores], axis=1)
    rows = np.concatenate([self.rows, rows], axis=1)
    order = np.argsort(-scores, axis=1, kind='stable')[:, :BEST]
    self.scores = np.take_along_axis(scores, order, axis=1)
    self.rows = np.take_along_axis(rows, order, axis=1)


def exact(
  store: Store, queries: Float[np.ndarray, 'n d'], model: Model
) -> Int[np.ndarray, 'n 10']:
  """Returns the rows of the best ten videos by the stored tokens."""
  best = Best(queries, model)
  for first in range(0, len(store), _BLOCK):
    rows = np.arange(first, min(first + _BLOCK, len(store)))
    clips, frames = (store.tokens(branch, rows) for branch in BRANCHES)
    best.add(first, clips, frames, store.take('frame_mask', rows))
  return best.rows
