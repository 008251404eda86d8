"""--mode=import of features, and --mode=inspect to check them first."""

import dataclasses
import pathlib
import shutil
from collections.abc import Iterator

import numpy as np
import tqdm

from data_pipeline import stored_moments
from data_pipeline.errors import DataError
from data_pipeline.importers import layout
from data_pipeline.importers.annotations import Annotated, id_problem
from data_pipeline.importers.features import Features
from data_pipeline.importers.sources import Report, Sources
from data_pipeline.limits import MAX_INFLATION, Limits
from data_pipeline.options import SENTENCES
from dreamprvr_jax import folders, text
from dreamprvr_jax.cli.columns import aligned
from dreamprvr_jax.cli.commands import spelled
from dreamprvr_jax.errors import UserError

# Name of the folder under FeatureData.
FEATURE = 'imported'
_RECORD = 'import.json'
_SHOWN = 20


@dataclasses.dataclass(frozen=True)
class Request:
  """The sources to inspect or import.

  Attributes:
    features: Video features: a folder or a file.
    queries: Query features: a folder or a file.
    annotations: Files, comma separated.
    sentences: Vectors of whole sentences: a folder or a file.
    out: The data root of an import; the .json file of an inspection.
    collection: Name of the imported collection.
    progress: Show progress bars.
    max_inflation: Largest factor by which a source may grow when unpacked.
  """

  features: str = ''
  queries: str = ''
  annotations: str = ''
  sentences: str = ''
  out: str = ''
  collection: str = 'imported'
  progress: bool = True
  max_inflation: float = MAX_INFLATION


def run_inspect(request: Request) -> int:
  """Prints the contents of the sources; writes all problems to --out, if given.

  Raises:
    UserError: If anything is wrong, after everything was shown.
  """
  if request.out and not request.out.endswith('.json'):
    raise UserError(f'--out={request.out}: of inspect it is a .json file')
  report = _open(request).report()
  if request.out:
    folders.write_json(request.out, report.as_json(), indent=1)
  _show(report)
  _refuse(report, request.out)
  return 0


def run_import(request: Request) -> int:
  """Writes the sources as a collection in the official layout.

  The collection is written to a temporary folder beside its place and moved
  there when it is complete.

  Raises:
    DataError, UserError: If a source is bad, a flag is missing, the place is
      taken, or another command writes there.
  """
  _check_flags(request)
  name = request.collection
  folder = pathlib.Path(request.out) / name
  sources = _open(request)
  identity = sources.identity()
  if folder.exists():
    _require_same(folder, identity)
    print(f'{folder} holds this very import already: nothing to do')
    return 0
  report = sources.report(values=False)
  _show(report)
  _refuse(report, '')
  counts = {}
  with folders.made(folder, 'import') as fresh:
    if fresh is not None:
      counts = _write(fresh, name, sources, identity, request.progress)
  if fresh is None:
    _require_same(folder, identity)
    print(f'{folder} was imported by another command: nothing to do')
    return 0
  _say_what_next(folder, counts, request)
  return 0


def _write(
  folder: pathlib.Path,
  name: str,
  sources: Sources,
  identity: dict,
  progress: bool,
) -> dict[str, int]:
  """Writes a complete collection; returns sentences by split."""
  assert sources.features is not None
  _require_room(folder, sources)
  place = folder / 'FeatureData' / FEATURE
  layout.write_features(
    place / 'feature.hdf5',
    _matrices(sources.features, progress),
    # A cut depends on the last digit.
    exact=sources.sentences is not None,
  )
  features = sources.features
  if features.moments is not None:
    stored_moments.write(
      place,
      features.moments.settings,
      ((video, features.edges(video)) for video in features.ids),
    )
  counts = {}
  if sources.annotated:
    counts = _write_texts(folder, name, sources, progress)
  folders.write_json(folder / _RECORD, identity, indent=1)
  return counts


def _open(request: Request) -> Sources:
  return Sources(
    request.features,
    request.queries,
    request.annotations,
    request.progress,
    Limits(request.max_inflation, '--max_inflation'),
    request.sentences,
  )


def _check_flags(request: Request) -> None:
  problem = id_problem(request.collection)
  if problem or request.collection.startswith('.'):
    raise UserError(
      f'--collection={request.collection} cannot name a folder and its '
      f'files: {problem or "it begins with a dot"}'
    )
  if bool(request.queries) != bool(request.annotations):
    given, other = ('queries', 'annotations')
    if request.annotations:
      given, other = other, given
    raise UserError(
      f'--{given} needs --{other} beside it; leave both out for an archive '
      'without captions'
    )
  if request.sentences and not request.queries:
    raise UserError(
      '--sentences needs --queries and --annotations beside it; vectors of '
      'whole sentences alone may be given as --queries'
    )


def _require_same(folder: pathlib.Path, identity: dict) -> None:
  """Raises UserError unless a folder holds the import of these sources."""
  record = folder / _RECORD
  try:
    found = text.parse_json(text.read(record), str(record))
  except (OSError, text.TextError):
    found = None
  what = 'is no import'
  if isinstance(found, dict):
    # Files may have been moved.
    other = [
      name
      for name, facts in identity.items()
      if not isinstance(found.get(name), dict)
      or found[name].get('digest') != facts['digest']
    ]
    if not other:
      return
    what = f'was imported from other or since changed {" and ".join(other)}'
  raise UserError(
    f'{folder} exists and {what}; nothing was written: name another '
    '--collection or --out, or remove the folder first'
  )


def _require_room(folder: pathlib.Path, sources: Sources) -> None:
  """Raises DataError if the disk has too little space for the features."""
  features, queries, sentences = (
    sources.features,
    sources.queries,
    sources.sentences,
  )
  assert features is not None
  numbers = 4
  if sentences is not None and features.ids:
    # Then they keep their type.
    numbers = features.read(features.ids[0]).dtype.itemsize
  needed = numbers * features.width * sum(features.rows.values()) + sum(
    4 * source.width * sum(source.rows.values())
    for source in (queries, sentences if sentences is not queries else None)
    if source is not None
  )
  free = shutil.disk_usage(folder).free
  if needed > free:
    raise DataError(
      f'the features take {needed / 2**30:.1f} GiB but the disk of '
      f'{folder.parent} has {free / 2**30:.1f} GiB free; free some, or give '
      '--out on another disk'
    )


def _matrices(
  features: Features, progress: bool
) -> Iterator[tuple[str, np.ndarray]]:
  names = tqdm.tqdm(
    features.ids,
    desc='importing',
    unit=' videos',
    disable=None if progress else True,
  )
  for name in names:
    yield name, features.read(name)


def _write_texts(
  folder: pathlib.Path, name: str, sources: Sources, progress: bool
) -> dict[str, int]:
  """Writes captions and query features; returns sentences by split."""
  queries = sources.queries
  assert queries is not None
  names = {
    item.query_id: sources.name_in(queries, item, caption)
    for item, caption in zip(sources.annotated, sources.captions, strict=True)
  }
  bar = tqdm.tqdm(
    total=len(names),
    desc='importing',
    unit=' queries',
    disable=None if progress else True,
  )

  def words(item: Annotated) -> np.ndarray:
    bar.update()
    return queries.read(names[item.query_id])

  with bar:
    counts = layout.write_texts(
      folder,
      name,
      sources.annotated,
      words,
      f'imported_{name}_query_feat.hdf5',
      sources.features.ids if sources.features else (),
    )
  vectors = sources.sentences
  if vectors is not None:
    layout.write_features(
      folder / 'TextData' / SENTENCES,
      (
        (caption, vectors.read(sources.name_in(vectors, item, caption)))
        for item, caption in zip(
          sources.annotated, sources.captions, strict=True
        )
      ),
      flat=True,
      exact=True,
    )
  return counts


def _say_what_next(
  folder: pathlib.Path, counts: dict[str, int], request: Request
) -> None:
  print(f'written: {folder}')
  flags = (
    f'--config.data.root={request.out} --config.data.collection={folder.name}'
    f' --config.data.feature={FEATURE}'
  )
  if not counts:
    print('an archive without captions: index it with --all_videos')
    return
  print(
    'sentences: ' + ', '.join(f'{n:,} {split}' for split, n in counts.items())
  )
  lacking = [split for split in ('train', 'val') if split not in counts]
  if lacking and (folder / 'TextData' / SENTENCES).exists():
    print(
      'evaluate without training: '
      + spelled('evaluate', f'--config=configs/videos.py:tf_prvr {flags}')
    )
  elif lacking:
    print(
      f'no sentence is of the split {" or ".join(lacking)}: training needs both'
    )
  else:
    print(
      'train on it: '
      + spelled('train', f'--config=configs/activitynet.py {flags}')
    )
  if (folder / layout.LABELS).exists():
    print(
      f'queries have several right videos: evaluate counts those in '
      f'{folder / layout.LABELS}'
    )


def _show(report: Report) -> None:
  print(aligned(report.facts))
  for note in report.notes:
    print(f'note: {note}')
  for item, reason in report.problems[:_SHOWN]:
    print(f'wrong: {item}: {reason}')
  more = len(report.problems) - _SHOWN
  if more > 0:
    print(f'wrong: {more} more')


def _refuse(report: Report, written: str) -> None:
  """Raises UserError if anything is wrong."""
  count = len(report.problems)
  if not count:
    return
  where = f'all are in {written}' if written else 'all go to --out=FILE.json'
  raise UserError(
    f'{count} {"thing is" if count == 1 else "things are"} wrong, the first: '
    f'{": ".join(report.problems[0])} ({where} of --mode=inspect)'
  )
