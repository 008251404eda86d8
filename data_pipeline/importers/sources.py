"""The sources of an import, joined by ids, and their problems."""

import collections
import dataclasses
import hashlib
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from data_pipeline.importers.annotations import (
  Annotated,
  id_problem,
  read_annotations,
)
from data_pipeline.importers.features import Features
from data_pipeline.importers.layout import caption_ids
from data_pipeline.importers.tf_prvr import backbone
from data_pipeline.limits import Limits
from data_pipeline.options import SPLITS


@dataclasses.dataclass
class Report:
  """The facts and problems of some sources.

  Attributes:
    facts: (name, value) rows of a table.
    problems: (item, reason) of every bad item.
    notes: Sentences about odd but usable items.
  """

  facts: list[tuple[str, str]]
  problems: list[tuple[str, str]]
  notes: list[str]

  def as_json(self) -> dict[str, Any]:
    """Returns plain JSON values."""
    return {
      'facts': [list(row) for row in self.facts],
      'problems': [
        {'item': i, 'reason': reason} for i, reason in self.problems
      ],
      'notes': self.notes,
    }


class Sources:
  """Features of videos and queries and their annotations; any may be missing.

  Attributes:
    features: Features of videos, or None.
    queries: Features of queries, or None.
    annotated: Sentences of all annotation files, in their order.
    captions: Caption ids of the sentences.
  """

  def __init__(
    self,
    features: str = '',
    queries: str = '',
    annotations: str = '',
    progress: bool = True,
    limits: Limits | None = None,
    sentences: str = '',
  ):
    """Opens the sources; of features only shapes and types are read.

    Args:
      features: Path; see `features`.
      queries: Path; see `features`.
      annotations: Paths, comma separated; see `annotations`.
      progress: Whether to show bars on a terminal.
      limits: How far features may unpack; the defaults if not given.
      sentences: Path of vectors of whole sentences; see `features`.

    Raises:
      DataError: If one is missing, damaged or of no known form.
    """
    self._paths = {
      'features': features,
      'queries': queries,
      'annotations': annotations,
      'sentences': sentences,
    }
    self._bad_rows: list[tuple[str, str]] = []
    self.annotated: list[Annotated] = []
    self.files = [part.strip() for part in annotations.split(',') if part]
    for path in self.files:
      self.annotated += read_annotations(path, self._bad_rows)
    self.captions = caption_ids(self.annotated)
    self.features = (
      Features(features, progress=progress, limits=limits) if features else None
    )
    flat = lambda path: Features(
      path, flat=True, progress=progress, limits=limits
    )
    self.queries = flat(queries) if queries else None
    self._sentences = flat(sentences) if sentences else None

  @property
  def gallery(self) -> bool:
    """Whether all videos are candidates of a sentence; see `Annotated`."""
    return any(item.gallery for item in self.annotated)

  @property
  def sentences(self) -> Features | None:
    """Vectors of whole sentences, in the space of the frames: those given, or
    features of queries that are such vectors; None without any."""
    frames, found = self.features, self.queries
    if self._sentences or not frames or not found:
      return self._sentences
    is_vector = set(found.rows.values()) == {1} and found.width == frames.width
    return found if is_vector else None

  def name_in(self, source: Features, item: Annotated, caption: str) -> str:
    """Returns the id of a sentence's features in a source; '' if there are
    none.

    It is the query's id, `qid<id>` as in the features of QVHighlights, or the
    caption id.
    """
    names = (item.query_id, f'qid{item.query_id}', caption)
    return next((name for name in names if name in source), '')

  def report(self, values: bool = True) -> Report:
    """Returns counts, and all problems.

    Args:
      values: Whether to read all features and look for NaN and infinity.
    """
    report = Report([], [], [])
    for what, source in (
      ('video', self.features),
      ('query', self.queries),
      ('sentence', self._sentences),
    ):
      if source is not None:
        _describe(report, what, source, values)
    report.problems += self._bad_rows
    self._compare_backbones(report)
    if self.files:
      _describe_annotations(report, self.files, self.annotated)
      self._join(report)
    return report

  def _compare_backbones(self, report: Report) -> None:
    """Adds a problem if videos and queries name different encoders."""
    vectors = self._sentences or self.queries
    if self.features is None or vectors is None:
      return
    names = [backbone(x.path) for x in (self.features, vectors)]
    if all(names) and names[0] != names[1]:
      report.problems.append(
        (
          'the attribute "backbone"',
          f'is {names[0]!r} in {self.features.path}, but {names[1]!r} in '
          f'{vectors.path}: they come from different encoders',
        )
      )

  def _join(self, report: Report) -> None:
    """Adds videos and queries that only annotations or only features have."""
    twice = [
      name
      for name, count in collections.Counter(
        item.query_id for item in self.annotated
      ).items()
      if count > 1
    ]
    report.problems += [
      (f'query {name!r}', 'is in several annotation files') for name in twice
    ]
    if self.features is not None:
      naming = collections.defaultdict(list)
      for item in self.annotated:
        for video in item.videos:
          naming[video].append(item.query_id)
      for video, names in naming.items():
        if video not in self.features:
          more = f' and {len(names) - 1} more' if len(names) > 1 else ''
          report.problems.append(
            (
              f'video {video!r}',
              f'has no features in {self.features.path}, but the query '
              f'{names[0]!r}{more} names it',
            )
          )
      unnamed = sum(name not in naming for name in self.features.ids)
      if unnamed:
        report.notes.append(f'videos that no annotation names: {unnamed}')
    if self.queries is not None:
      names = {
        item.query_id: self.name_in(self.queries, item, caption)
        for item, caption in zip(self.annotated, self.captions, strict=True)
      }
      report.problems += [
        (f'query {query!r}', f'has no features in {self.queries.path}')
        for query, name in names.items()
        if not name
      ]
      used = set(names.values())
      unused = [name for name in self.queries.ids if name not in used]
      if self.gallery:
        report.problems += [
          (f'query {name!r}', f'has no row in {", ".join(self.files)}')
          for name in unused
        ]
      elif unused:
        report.notes.append(
          f'features of queries that no annotation names: {len(unused)}'
        )

    if self._sentences is not None:
      self._join_sentences(self._sentences, report)

  def _join_sentences(self, source: Features, report: Report) -> None:
    """Adds sentences without a vector, and vectors that are none."""
    pairs = zip(self.annotated, self.captions, strict=True)
    for item, caption in pairs:
      name = self.name_in(source, item, caption)
      if not name or source.rows.get(name, 1) != 1:
        what = 'is no single vector' if name else 'has no vector'
        report.problems.append(
          (f'sentence {item.query_id!r}', f'{what} in {source.path}')
        )
    if self.features is not None and source.width != self.features.width:
      report.problems.append(
        (
          f'the vectors of sentences in {source.path}',
          f'are {source.width} wide, the frames in {self.features.path} '
          f'{self.features.width}: they need a common space',
        )
      )

  def identity(self) -> dict[str, Any]:
    """Returns the identity of the sources, to recognise them in a later run:
    for each its path, number of files, and a hash of their names, sizes and
    times."""
    files: dict[str, Sequence[str | pathlib.Path]] = {
      'features': self.features.files() if self.features else (),
      'queries': self.queries.files() if self.queries else (),
      'annotations': self.files,
      'sentences': self._sentences.files() if self._sentences else (),
    }
    if not files['sentences']:
      # As in imports of earlier versions.
      del files['sentences']
    return {
      name: {
        'path': self._paths[name],
        'files': len(paths),
        'digest': _digest(paths),
      }
      for name, paths in files.items()
    }


def _digest(paths: Sequence[str | pathlib.Path]) -> str:
  digest = hashlib.sha256()
  for path in map(pathlib.Path, paths):
    stat = path.stat()
    line = f'{path.name} {stat.st_size} {stat.st_mtime_ns}\n'
    # A name may have bytes that are not text.
    digest.update(line.encode('utf-8', 'surrogateescape'))
  return digest.hexdigest()


def _describe(
  report: Report, what: str, source: Features, values: bool
) -> None:
  """Adds the counts and problems of one kind of features."""
  problems = dict(source.problems)
  if what == 'video':
    for name in source.ids:
      problem = id_problem(name)
      if problem:
        problems[name] = problem
  if values:
    problems |= source.check_values()
  report.problems += [
    (f'{what} {name!r}', f'{reason} (in {source.path})')
    for name, reason in problems.items()
  ]
  rows = list(source.rows.values())
  plural, unit = {
    'video': ('videos', 'frames'),
    'query': ('queries', 'words'),
    'sentence': ('sentences', 'vectors'),
  }[what]
  report.facts += [
    (plural, f'{source.path} ({source.form})'),
    (f'  {plural}', f'{len(source.ids):,}'),
    ('  width', str(source.width)),
    (f'  {unit}', _spread(rows)),
    ('  in float32', f'{4 * sum(rows) * source.width / 2**20:,.1f} MiB'),
    ('  bad', f'{len(problems):,}'),
  ]


def _describe_annotations(
  report: Report, files: Sequence[str], annotated: Sequence[Annotated]
) -> None:
  spans = [a.span for a in annotated if not math.isnan(a.span[0])]
  durations = {
    a.videos[0]: a.duration for a in annotated if not math.isnan(a.duration)
  }
  videos = {video for a in annotated for video in a.videos}
  report.facts += [
    ('annotations', ', '.join(files)),
    ('  sentences', f'{len(annotated):,}'),
    ('  videos', f'{len(videos):,}'),
    ('  of several videos', f'{sum(len(a.videos) > 1 for a in annotated):,}'),
    ('  with a time span', f'{len(spans):,}'),
    ('  span, seconds', _spread([end - start for start, end in spans])),
    ('  videos with duration', f'{len(durations):,}'),
    ('  duration, seconds', _spread(list(durations.values()))),
  ]
  owners = collections.defaultdict(set)
  for split in (*SPLITS, ''):
    mine = [a for a in annotated if a.split == split]
    for item in mine:
      owners[item.videos[0]].add(split)
    if mine:
      own = len({a.videos[0] for a in mine})
      report.facts.append(
        (
          f'  split {split}' if split else '  no split',
          f'{len(mine):,} sentences, {own:,} videos',
        )
      )
  shared = sum(len(splits - {''}) > 1 for splits in owners.values())
  if shared:
    report.notes.append(f'videos with sentences in several splits: {shared}')
  late = sum(a.span[1] > a.duration for a in annotated)
  if late:
    report.notes.append(f'time spans that end after their video: {late}')


def _spread(values: Sequence[float]) -> str:
  """Returns the minimum, maximum and mean as text."""
  if not values:
    return '-'
  array = np.asarray(values, np.float64)
  return f'{array.min():g} to {array.max():g}, mean {array.mean():.1f}'
