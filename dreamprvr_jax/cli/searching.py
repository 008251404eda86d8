"""--mode=search: the best videos of an index, and the moments in them.

What only some searches need is imported by them: imports are much of the time
of a small search.
"""

import contextlib
import dataclasses
import itertools
import logging
import math
import pathlib
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from dreamprvr_jax import folders
from dreamprvr_jax.archive.search.calibration import STRENGTHS
from dreamprvr_jax.archive.search.catalogue import Catalogue
from dreamprvr_jax.archive.search.filters import Filters
from dreamprvr_jax.archive.search.index import Index
from dreamprvr_jax.archive.search.list_search import MEASURED
from dreamprvr_jax.archive.serving.files import VideoFiles
from dreamprvr_jax.archive.videos.files import import_av
from dreamprvr_jax.cli import console, provenance, search_queries
from dreamprvr_jax.cli.search_queries import Queries, Request
from dreamprvr_jax.devices import meshes
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.progress import bar

# Queries per search; an index larger than memory is read once for all of them.
_BATCH = 1024
# Queries on which a first pass is compared with the exact search.
_CHECKED = 64
_ENDINGS = ('.json', '.html')
# Bytes of pictures that several hits may share.
_KEPT_PICTURES = 2**26

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Arguments(Request):
  """The flags of search; see `options.py`."""

  index: str
  checkpoint: str
  k: int
  cutoff: str
  folder: str
  after: str
  before: str
  min_seconds: float
  max_seconds: float
  duplicates: bool
  save_clips: str
  first_pass: str
  database: str
  rescore: int
  videos: str
  out: str

  @property
  def filters(self) -> Filters:
    """The conditions on videos."""
    return Filters(
      self.folder,
      self.after,
      self.before,
      self.min_seconds,
      # The flag's 0 stands for no limit.
      self.max_seconds or math.inf,
    )


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
  options: dict[str, Any] = {
    'first_pass': index.searcher.chosen(arguments.first_pass),
    'rescore': arguments.rescore,
  }
  queries = search_queries.read(config, arguments, index)
  found: dict[str, Any] = {
    'index': arguments.index,
    'videos': index.manifest.num_videos,
    'k': arguments.k,
    'first_pass': arguments.database or options['first_pass'],
    'rescore': arguments.rescore,
    'cutoff': arguments.cutoff,
    'queries': [],
  }
  with contextlib.ExitStack() as stack:
    if arguments.database:
      from dreamprvr_jax.archive.database.database import Database

      options['first_pass'] = stack.enter_context(
        Database(arguments.database, index.store)
      )
    _search(index, queries, found, arguments, options)
  _write(found, arguments, index)
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
  search_queries.check(arguments)
  if arguments.database and arguments.first_pass != 'auto':
    raise UserError(
      '--database and --first_pass are two first passes; give one of them'
    )
  if arguments.cutoff not in STRENGTHS:
    raise UserError(
      f'--cutoff={arguments.cutoff}: choose {", ".join(STRENGTHS)}'
    )
  # Found out before the index is loaded.
  _ = arguments.filters
  if arguments.save_clips:
    import_av()


def _search(
  index: Index,
  queries: Queries,
  found: dict[str, Any],
  arguments: Arguments,
  options: dict[str, Any],
) -> None:
  """Adds the hits of each query to `found`, and the recall of a first pass."""
  show = arguments.progress and queries.count > 1
  waiting = iter(bar(queries.each, 'queries', total=queries.count, show=show))
  while batch := list(itertools.islice(waiting, _BATCH)):
    facts, read = zip(*batch, strict=True)
    encoded = queries.encode(list(read))
    if options['first_pass'] and 'recall' not in found:
      found['recall'] = _recall(index, encoded[:_CHECKED], found['k'], options)
    hits = index.search_encoded(
      encoded,
      arguments.k,
      filters=arguments.filters,
      duplicates=arguments.duplicates,
      cutoff=arguments.cutoff,
      **options,
    )
    found['queries'] += [
      {**fact, 'hits': [hit.to_json(i) for i, hit in enumerate(row, 1)]}
      for fact, row in zip(facts, hits, strict=True)
    ]


def _recall(
  index: Index, queries: np.ndarray, k: int, options: dict[str, Any]
) -> dict[str, Any]:
  """Returns the recall of a first pass: that of lists is in the manifest, that
  of others is measured with some queries."""
  lists = index.manifest.lists
  if options['first_pass'] == 'lists' and lists is not None:
    return {'k': MEASURED, 'queries': lists.queries, 'value': lists.found}
  value = index.searcher.recall(queries, k, **options)
  return {'k': k, 'queries': len(queries), 'value': value}


def _write(found: dict[str, Any], arguments: Arguments, index: Index) -> None:
  """Saves clips, writes or prints the hits, and prints what was written."""
  out = pathlib.Path(arguments.out)
  if arguments.videos:
    from dreamprvr_jax.archive.videos.finding import find_videos

    files = VideoFiles(arguments.videos, find_videos(arguments.videos))
  elif arguments.save_clips or out.suffix == '.html':
    files = VideoFiles.of_sources(index.store.sources())
  else:
    files = VideoFiles()
  saved = 0
  if arguments.save_clips:
    from dreamprvr_jax.cli.saved_clips import save_clips

    saved = save_clips(
      found['queries'],
      arguments.save_clips,
      lambda hit: file_of(hit['video'], files, index.catalogue),
      progress=arguments.progress,
    )
  if out.suffix == '.json':
    folders.write_json(out, provenance.finite(found))
  elif out.suffix == '.html':
    if len(files):
      add_files(found['queries'], files, arguments.progress)
    from dreamprvr_jax.report.search_page import write_page

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
  if arguments.save_clips:
    what = 'clip' if saved == 1 else 'clips'
    console.say(f'{saved:,} {what}: {arguments.save_clips}')
  if arguments.out:
    count = len(found['queries'])
    console.say(f'{count:,} {"query" if count == 1 else "queries"}: {out}')


def file_of(video: str, files: VideoFiles, catalogue: Catalogue) -> str:
  """Returns the file of a video; '' if it is not known or gone.

  Args:
    video: The id of the video.
    files: The files of --videos.
    catalogue: What the index knows of its files.
  """
  found = files.get(video)
  if found is not None:
    return str(found.path)
  path = catalogue.file(video).path
  return path if path and pathlib.Path(path).is_file() else ''


def add_files(
  queries: list[dict[str, Any]], files: VideoFiles, progress: bool
) -> None:
  """Adds the path, and a picture of the best moment, to each hit that has a
  file.

  Raises:
    UserError: If PyAV is missing.
  """
  import_av()
  from dreamprvr_jax.archive.serving.thumbnails import Thumbnails

  thumbnails = Thumbnails(waiting=1, kept_bytes=_KEPT_PICTURES)
  hits = [hit for query in queries for hit in query['hits']]
  for hit in bar(hits, 'pictures', total=len(hits), show=progress):
    file, peak = files.get(hit['video']), hit['moments'][0]['peak']
    if file is None:
      continue
    hit['path'] = str(file.path)
    seconds = peak if np.isfinite(peak) else 0.0
    try:
      hit['thumbnail'] = thumbnails.picture(file, seconds)
    except UserError as error:
      _log.warning('%s', error)


def table(found: dict[str, Any]) -> str:
  """Returns the hits as a text table."""
  lines = []
  for query in found['queries']:
    text = f': {query["text"]}' if 'text' in query else ''
    lines += ['', f'{query["id"]}{text}']
    if not query['hits']:
      lines.append('  nothing fits')
      continue
    width = max(len(hit['video']) for hit in query['hits'])
    right = query.get('right', {}).get('video')
    for hit in query['hits']:
      mark = '*' if hit['video'] == right else ' '
      parts = [
        f'{hit["rank"]:>5}{mark} {hit["score"]:7.4f}',
        hit['strength'].ljust(max(map(len, STRENGTHS))),
        hit['video'].ljust(width),
        ', '.join(map(_when, hit['moments'])),
      ]
      # A small index tells no strength.
      lines.append('  '.join(part for part in parts if part.strip()))
      if hit['others']:
        lines.append(f'{"":>7}copies: {", ".join(hit["others"])}')
  if any('right' in query for query in found['queries']):
    lines += ['', '* the video that the caption was written for']
  return '\n'.join(lines)


def _when(moment: dict[str, Any]) -> str:
  if np.isfinite(moment['start']):
    return f'{moment["start"]:.1f}-{moment["end"]:.1f} s'
  start, end = moment['span']
  return f'{100 * start:.0f}-{100 * end:.0f} %'
