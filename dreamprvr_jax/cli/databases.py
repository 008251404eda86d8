"""--mode=export --index: writes an index to a vector database."""

import dataclasses
import itertools

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from dreamprvr_jax.archive.database.database import Database
from dreamprvr_jax.archive.database.export import export
from dreamprvr_jax.archive.database.recall import (
  Exact,
  Recall,
  choose_depth,
)
from dreamprvr_jax.archive.search.index import Index
from dreamprvr_jax.archive.search.list_settings import own_queries
from dreamprvr_jax.cli import console, search_queries
from dreamprvr_jax.errors import UserError

# Videos of a query, and queries, with which a database is tried.
_K, _QUERIES = 10, 256


@dataclasses.dataclass(frozen=True)
class Arguments:
  """The flags of export, with --index; see `options.py`."""

  index: str
  checkpoint: str
  database: str
  queries: str
  encoder: str
  device: str
  progress: bool


def run(arguments: Arguments) -> int:
  """Writes the videos of an index to a database, and tries it."""
  index = Index.open(arguments.index, arguments.checkpoint)
  score = index.retriever.model.token_score
  if score == 'other':
    raise UserError(
      'a vector database finds the best tokens, but the score of '
      f'{type(index.retriever.model).__name__} is computed otherwise; search '
      'its index without a database'
    )
  place = arguments.database
  # Whether queries can be read is found out before hours of work.
  sentences = _sentences(arguments, index) if arguments.queries else None
  done = export(
    place, index.store, product=score == 'product', show=arguments.progress
  )
  console.say(
    f'{place}: {done.videos:,} videos ({done.sent:,} sent, {done.removed:,} '
    f'removed), {done.vectors:,} vectors'
  )
  with Database(place, index.store) as database:
    tried = own_queries(index.store, index.retriever.model, _QUERIES)
    found = choose_depth(database, _exact(index, tried))
    console.say(
      _line(found, "far from the archive's own tokens", database.about.depth)
    )
    if sentences is not None:
      found = _exact(index, sentences).recall(database)
      console.say(_line(found, f'of {arguments.queries}', database.about.depth))
  console.say(
    f'search with --mode=search --index={arguments.index} --database={place}'
  )
  return 0


def _exact(index: Index, queries: Float[np.ndarray, 'n q']) -> Exact:
  return Exact(index.searcher, index.store, queries, _K)


def _line(found: Recall, which: str, depth: int) -> str:
  """Returns what is printed about the recall."""
  how = f'{depth:,} neighbours kept' if depth else 'all vectors compared'
  return (
    f'recall@{found.k} {found.value:.4f} of the exact search, over '
    f'{found.queries} {"query" if found.queries == 1 else "queries"} {which}; '
    f'{how}'
  )


def _sentences(arguments: Arguments, index: Index) -> Float[np.ndarray, 'n q']:
  """Returns the first queries of a file, encoded."""
  request = search_queries.Request(
    query=None,
    queries=arguments.queries,
    caption=None,
    image='',
    clip='',
    span='',
    encoder=arguments.encoder,
    device=arguments.device,
    progress=arguments.progress,
  )
  # The config only names the split, whose captions are not asked for.
  queries = search_queries.read(ConfigDict(), request, index)
  few = itertools.islice(queries.each, _QUERIES)
  return queries.encode([read for _, read in few])
