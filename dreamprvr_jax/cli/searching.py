"""--mode=search: the best videos of an index, and the moments in them."""

import dataclasses
import itertools
import logging
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from dreamprvr_jax import folders
from dreamprvr_jax.archive.index.database import Database
from dreamprvr_jax.archive.search.index import Index
from dreamprvr_jax.archive.search.text_queries import TextQueries, open_encoder
from dreamprvr_jax.archive.serving.files import VideoFiles
from dreamprvr_jax.archive.serving.thumbnails import Thumbnails
from dreamprvr_jax.archive.videos.files import import_av
from dreamprvr_jax.archive.videos.finding import find_videos
from dreamprvr_jax.cli import (
  console,
  data,
  provenance,
  query_files,
)
from dreamprvr_jax.devices import meshes
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.progress import bar
from dreamprvr_jax.report.search_page import write_page
from dreamprvr_jax.trained.retriever import Retriever

# Queries per search; an index larger than memory is read once for all of them.
_BATCH = 1024
# Queries on which a first pass is compared with the exact search.
_CHECKED = 64
_ENDINGS = ('.json', '.html')
# Bytes of pictures that several hits may share.
_KEPT_PICTURES = 2**26

_log = logging.getLogger(__name__)

# Facts about a query, its word features and mask; see `Retriever.words`.
Query = tuple[dict[str, Any], np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Arguments:
  """The flags of search; see `options.py`."""

  index: str
  checkpoint: str
  query: str | None
  queries: str
  caption: int | None
  k: int
  first_pass: str
  database: str
  rescore: int
  encoder: str
  device: str
  videos: str
  out: str
  progress: bool


def run(config: ConfigDict, arguments: Arguments) -> int:
  """Searches an index for the queries of a file or a split."""
  _check(arguments)
  mesh = meshes.make_mesh(config.num_devices, config.corpus_devices)
  index = Index.open(
    arguments.index,
    arguments.checkpoint,
    mesh=mesh,
    memory_share=config.eval.corpus_share,
  )
  first_pass: Any = arguments.first_pass or None
  if arguments.database:
    first_pass = Database(arguments.database, index.store)
  queries, count = _queries(config, arguments, index.retriever)
  found: dict[str, Any] = {
    'index': arguments.index,
    'videos': index.manifest.num_videos,
    'k': arguments.k,
    'first_pass': arguments.database or arguments.first_pass or None,
    'rescore': arguments.rescore,
    'queries': [],
  }
  shown = bar(queries, 'queries', total=count, show=arguments.progress)
  _search(index, shown, found, first_pass)
  _write(found, arguments)
  return 0


def _check(arguments: Arguments) -> None:
  """Raises UserError if the flags contradict one another."""
  if jax.process_count() > 1:
    raise UserError('--mode=search runs as one process; start it once')
  if arguments.out and pathlib.Path(arguments.out).suffix not in _ENDINGS:
    raise UserError(
      f'--out={arguments.out}: hits are written as {" or ".join(_ENDINGS)}; '
      'without --out they are printed'
    )
  if arguments.query is not None and arguments.queries:
    raise UserError(
      '--query is one sentence, --queries a file of them; give one of them'
    )
  if arguments.database and arguments.first_pass:
    raise UserError(
      '--database and --first_pass are two first passes; give one of them'
    )


def _queries(
  config: ConfigDict, arguments: Arguments, retriever: Retriever
) -> tuple[Iterator[Query], int]:
  """Returns the queries that the flags name, and their number."""
  by_text = query_files.holds_sentences(arguments.queries)
  if arguments.query is not None or by_text:
    return from_sentences(arguments, retriever)
  if arguments.queries:
    return from_file(arguments, retriever)
  return from_split(config, arguments, retriever)


def _search(
  index: Index,
  queries: Iterable[Query],
  found: dict[str, Any],
  first_pass: Any,
) -> None:
  """Adds the hits of each query to `found`, and the recall of a first pass."""
  options = {'first_pass': first_pass, 'rescore': found['rescore']}
  waiting = iter(queries)
  while batch := list(itertools.islice(waiting, _BATCH)):
    facts, words, masks = zip(*batch, strict=True)
    encoded = index.searcher.encode(np.stack(words), np.stack(masks))
    if first_pass and 'recall' not in found:
      few = encoded[:_CHECKED]
      value = index.searcher.recall(few, found['k'], **options)
      recall = {'k': found['k'], 'queries': len(few), 'value': value}
      found['recall'] = recall
    hits = index.search_encoded(encoded, found['k'], **options)
    found['queries'] += [
      {**fact, 'hits': [hit.to_json(i) for i, hit in enumerate(row, 1)]}
      for fact, row in zip(facts, hits, strict=True)
    ]


def _write(found: dict[str, Any], arguments: Arguments) -> None:
  """Writes or prints the hits, and prints where they were written."""
  out = pathlib.Path(arguments.out)
  if out.suffix == '.json':
    folders.write_json(out, provenance.finite(found))
  elif out.suffix == '.html':
    if arguments.videos:
      add_thumbnails(found['queries'], arguments.videos, arguments.progress)
    write_page(found, out)
  else:
    console.say(table(found))
  if 'recall' in found:
    recall = found['recall']
    console.say(
      f'first pass in {found["first_pass"]}: recall@{recall["k"]} '
      f'{recall["value"]:.4f} of the exact search, over {recall["queries"]} '
      'queries'
    )
  if arguments.out:
    console.say(f'{len(found["queries"]):,} queries: {out}')


def add_thumbnails(
  queries: list[dict[str, Any]], folder: str, progress: bool
) -> None:
  """Adds a picture of the best moment to each hit that has a file.

  Raises:
    UserError: If PyAV is missing.
    DataError: If the folder has no video.
  """
  files = VideoFiles(folder, find_videos(folder))
  import_av()
  thumbnails = Thumbnails(waiting=1, kept_bytes=_KEPT_PICTURES)
  hits = [hit for query in queries for hit in query['hits']]
  for hit in bar(hits, 'pictures', total=len(hits), show=progress):
    file, peak = files.get(hit['video']), hit['moments'][0]['peak']
    if file is None:
      continue
    seconds = peak if np.isfinite(peak) else 0.0
    try:
      hit['thumbnail'] = thumbnails.picture(file, seconds)
    except UserError as error:
      _log.warning('%s', error)


def from_sentences(
  arguments: Arguments, retriever: Retriever
) -> tuple[Iterator[Query], int]:
  """Returns the queries of --query, or of a file of sentences, with their
  number."""
  if arguments.query is not None:
    where, sentences = '--query', {'query': arguments.query}
  else:
    where = f'--queries={arguments.queries}'
    sentences = query_files.read_sentences(arguments.queries)
  encoder = open_encoder(retriever, arguments.encoder, device=arguments.device)
  reader = TextQueries(retriever, encoder)
  said: set[str] = set()

  def queries() -> Iterator[Query]:
    for name, text in sentences.items():
      found = reader.read(text, where)
      if found.notice and not said:
        # Once for all queries.
        said.add(found.notice)
        _log.warning('%s: %s', where, found.notice)
      words, mask = retriever.words(found.features)
      yield {'id': name, 'text': text}, words[0], mask[0]

  return queries(), len(sentences)


def from_file(
  arguments: Arguments, retriever: Retriever
) -> tuple[Iterator[Query], int]:
  """Returns the queries of --queries with their number."""
  width = retriever.stored['text_width']
  features = query_files.read_queries(arguments.queries, width)

  def queries() -> Iterator[Query]:
    for name, x in features.items():
      words, mask = retriever.words(x)
      yield {'id': name}, words[0], mask[0]

  return queries(), len(features)


def from_split(
  config: ConfigDict, arguments: Arguments, retriever: Retriever
) -> tuple[Iterator[Query], int]:
  """Returns the captions of a split, or one of them, with their number."""
  corpus = data.open_data(config, show=arguments.progress)
  data.check_widths(retriever.stored, corpus, retriever.checkpoint)
  split = data.get_split(corpus, data.final_split(config, corpus))
  total = len(split.caption_ids)
  chosen = range(total)
  if arguments.caption is not None:
    if arguments.caption not in chosen:
      raise UserError(
        f'--caption={arguments.caption}: the split {split.name} has captions 0 '
        f'to {total - 1}'
      )
    chosen = [arguments.caption]

  def queries() -> Iterator[Query]:
    for start in range(0, len(chosen), _BATCH):
      rows = chosen[start : start + _BATCH]
      read = split.read_captions(rows)
      words, mask = retriever.words(read['word_features'], read['word_mask'])
      for i, row in enumerate(rows):
        video = split.caption_video[row]
        fact = {
          'id': split.caption_ids[row],
          'text': split.captions[row],
          'right': {
            'video': split.video_ids[video],
            'moment': [float(x) for x in split.moments[row]],
          },
        }
        yield fact, words[i], mask[i]

  return queries(), len(chosen)


def table(found: dict[str, Any]) -> str:
  """Returns the hits as a text table."""
  lines = []
  for query in found['queries']:
    text = f': {query["text"]}' if 'text' in query else ''
    lines += ['', f'{query["id"]}{text}']
    width = max(len(hit['video']) for hit in query['hits'])
    right = query.get('right', {}).get('video')
    for hit in query['hits']:
      mark = '*' if hit['video'] == right else ' '
      lines.append(
        f'{hit["rank"]:>5}{mark} {hit["score"]:7.4f}  '
        f'{hit["video"].ljust(width)}  ' + ', '.join(map(_when, hit['moments']))
      )
  if any('right' in query for query in found['queries']):
    lines += ['', '* the video that the caption was written for']
  return '\n'.join(lines)


def _when(moment: dict[str, Any]) -> str:
  if np.isfinite(moment['start']):
    return f'{moment["start"]:.1f}-{moment["end"]:.1f} s'
  start, end = moment['span']
  return f'{100 * start:.0f}-{100 * end:.0f} %'
