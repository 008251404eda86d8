"""Changes of an index that encode nothing: removing, renaming, joining.

Arrays of a segment never change. A change writes new segments, or only another
manifest, which replaces the former one in one step.
"""

import contextlib
import dataclasses
import os
import pathlib
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from dreamprvr_jax.archive.index.array_files import array_file
from dreamprvr_jax.archive.index.encoding import id_of
from dreamprvr_jax.archive.index.layout import Sources, array_specs
from dreamprvr_jax.archive.index.manifest import SEGMENTS, Manifest, Segment
from dreamprvr_jax.archive.index.segments import (
  clean,
  drop_products,
  locked,
  new_segment,
  write_names,
)
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.errors import UserError

# Rows copied at a time.
_BATCH = 256
# Segments with fewer rows are small; more small ones are joined at a change.
_SMALL = 4096
_MOST_SMALL = 16
# Rows of a joined segment, about.
_JOINED = 2**16


def remove(directory: os.PathLike[str] | str, ids: Iterable[str]) -> Manifest:
  """Removes videos from an index.

  Their disk space is freed by `compact`, or by the next change if all videos of
  their segment were removed.

  Raises:
    UserError: If the index lacks one of them; then none is removed.
  """
  Manifest.read(directory)
  with locked(directory) as root:
    store = Store(root)
    clean(root, store.manifest)
    rows = store.rows_of()
    wanted = list(dict.fromkeys(id_of(name) for name in ids))
    unknown = [video for video in wanted if video not in rows]
    if unknown:
      raise UserError(
        f'{directory} has no video {unknown[0]!r}; it lacks {len(unknown)} of '
        f'{len(wanted)} videos to remove: nothing was removed'
      )
    segments = without(store, set(wanted))
    manifest = dataclasses.replace(store.manifest, segments=segments)
    manifest.write(root)
  return manifest


def without(store: Store, ids: Collection[str]) -> tuple[Segment, ...]:
  """Returns the segments of an index without some videos.

  Args:
    store: The index.
    ids: The videos; those that it lacks change nothing.
  """
  all_rows = store.rows_of()
  gone = store.items < 0
  for name in ids:
    for row in all_rows.get(name, ()):
      gone[row] = True
  segments, start = [], 0
  for segment in store.manifest.segments:
    here = slice(start, start + segment.rows)
    start += segment.rows
    removed = np.flatnonzero(gone[here])
    if len(removed) < segment.rows:
      videos = len(np.unique(store.groups[here][~gone[here]]))
      segments.append(
        dataclasses.replace(
          segment, videos=videos, removed=tuple(removed.tolist())
        )
      )
  return tuple(segments)


def rename(
  directory: os.PathLike[str] | str, changes: Mapping[str, Mapping[str, Any]]
) -> Manifest:
  """Changes the ids and sources of videos, all in one step.

  The new folder of a segment has links to its arrays.

  Args:
    directory: The index.
    changes: Id -> the new source of the video, whose `id` is the new id.

  Raises:
    UserError: If there is no index, or another process writes to it.
  """
  Manifest.read(directory)
  with locked(directory) as root:
    store, segments, start = Store(root), [], 0
    clean(root, store.manifest)
    for segment in store.manifest.segments:
      rows = np.arange(start, start + segment.rows)
      start += segment.rows
      names = {store.ids[row] for row in rows if store.items[row] >= 0}
      if names & changes.keys():
        segment = _renamed(root, store, segment, rows, changes)
      segments.append(segment)
    manifest = dataclasses.replace(store.manifest, segments=tuple(segments))
    manifest.write(root)
  return manifest


def _renamed(
  root: pathlib.Path,
  store: Store,
  former: Segment,
  rows: np.ndarray,
  changes: Mapping[str, Mapping[str, Any]],
) -> Segment:
  """Returns a segment with the arrays of a former one and other ids."""
  place = root / SEGMENTS / former.name
  videos = store.rows_of()
  changed = {name: source for name, source in changes.items() if name in videos}
  ids = []
  for row in rows:
    name = store.ids[row]
    # Rows that were removed lose their ids: a neighbour may get one of them.
    alive = store.items[row] >= 0
    ids.append(str(changed.get(name, {'id': name})['id']) if alive else '')
  known = {store.ids[row] for row in rows if store.items[row] >= 0}
  sources = [
    dict(changed.get(row['id'], row))
    for row in Sources(place).read()
    if row['id'] in known
  ]
  there = {row['id'] for row in sources}
  sources += [
    dict(changed[name])
    for name in dict.fromkeys(store.ids[row] for row in rows)
    if name in known and name in changed and changed[name]['id'] not in there
  ]
  with new_segment(root) as folder:
    for name in array_specs(store.manifest):
      _link(place / f'{name}.npy', folder / f'{name}.npy')
    segment = write_names(folder, ids, sources)
  return dataclasses.replace(former, name=segment.name)


def _link(path: pathlib.Path, target: pathlib.Path) -> None:
  """Makes a second name of a file, or a copy where a disk has none."""
  with contextlib.suppress(OSError):
    os.link(path, target)
    return
  shutil.copyfile(path, target)


def compact(directory: os.PathLike[str] | str) -> Manifest:
  """Rewrites segments that have removed rows, without these, and joins small
  ones.

  Other segments stay as they are, without the product codes of an earlier
  version. Nothing is encoded. Until all is written,
  the index is unchanged and takes more disk space.

  Raises:
    UserError: If there is no index, or another process writes to it.
  """
  Manifest.read(directory)
  with locked(directory) as root:
    store = Store(root)
    clean(root, store.manifest)
    manifest = _rewritten(root, store, everything=True)
    manifest.write(root)
    # Former segments are removed at once, to free their disk space. A process
    # that has them open still reads them.
    clean(root, manifest)
    drop_products(root, manifest)
  return manifest


def join(root: pathlib.Path) -> None:
  """Joins the small segments of a locked index, if there are many."""
  manifest = Manifest.read(root)
  if sum(s.rows < _SMALL for s in manifest.segments) > _MOST_SMALL:
    _rewritten(root, Store(root), everything=False).write(root)


def _rewritten(
  root: pathlib.Path, store: Store, *, everything: bool
) -> Manifest:
  """Writes new segments, and returns the manifest that names them.

  Args:
    root: The index.
    store: The same.
    everything: Whether a segment that is not joined to another is rewritten if
      it has removed rows.
  """
  segments, start = [], 0
  for group in _groups(store.manifest.segments):
    stop = start + sum(segment.rows for segment in group)
    if len(group) > 1 or (everything and group[0].removed):
      rows = store.items[start:stop]
      segments.append(_copied(root, store, rows[rows >= 0]))
    else:
      segments += group
    start = stop
  return dataclasses.replace(store.manifest, segments=tuple(segments))


def _groups(segments: Iterable[Segment]) -> Iterator[list[Segment]]:
  """Yields segments to join; a neighbour of a small one is small, too, so that
  the rows keep their order."""
  group: list[Segment] = []
  for segment in segments:
    rows = sum(one.rows for one in group)
    small = segment.rows < _SMALL and all(one.rows < _SMALL for one in group)
    if group and not (small and rows + segment.rows <= _JOINED):
      yield group
      group = []
    group.append(segment)
  if group:
    yield group


def _copied(root: pathlib.Path, store: Store, rows: np.ndarray) -> Segment:
  """Returns a new segment of some rows of a store."""
  ids = [store.ids[row] for row in rows]
  # Former segments may also have a source of a video that was replaced.
  known = set(ids)
  sources = [source for source in store.sources() if source['id'] in known]
  with new_segment(root) as folder:
    for name, (shape, dtype) in array_specs(store.manifest).items():
      with array_file(folder / f'{name}.npy', shape, dtype) as file:
        for first in range(0, len(rows), _BATCH):
          file.write(store.take(name, rows[first : first + _BATCH]))
    return write_names(folder, ids, sources)
