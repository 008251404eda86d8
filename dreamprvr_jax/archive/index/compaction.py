"""Changes of an index that encode nothing: removing, renaming, joining.

Arrays of a segment never change. A change writes new segments, or only another
manifest, which replaces the former one in one step.
"""

import contextlib
import dataclasses
import os
import pathlib
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from dreamprvr_jax.archive.index import checksums
from dreamprvr_jax.archive.index.array_files import ArrayFile
from dreamprvr_jax.archive.index.encoding import id_of
from dreamprvr_jax.archive.index.layout import (
  IDS,
  SOURCES,
  Sources,
  array_specs,
)
from dreamprvr_jax.archive.index.manifest import SEGMENTS, Manifest, Segment
from dreamprvr_jax.archive.index.segments import (
  clean,
  drop_products,
  locked,
  new_segment,
  unlisted,
  write_names,
)
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.progress import bar

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
    names = {*changes, *(str(source['id']) for source in changes.values())}
    manifest = unlisted(root, manifest, names)
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
    arrays = [f'{name}.npy' for name in array_specs(store.manifest)]
    for name in arrays:
      _link(place / name, folder / name)
    files = {name: former.files[name] for name in arrays if former.files}
    segment = write_names(folder, ids, sources, files)
  return dataclasses.replace(former, name=segment.name, files=segment.files)


def _link(path: pathlib.Path, target: pathlib.Path) -> None:
  """Makes a second name of a file, or a copy where a disk has none."""
  with contextlib.suppress(OSError):
    os.link(path, target)
    return
  shutil.copyfile(path, target)
  with target.open('rb') as file:
    os.fsync(file.fileno())


def compact(
  directory: os.PathLike[str] | str, *, show: bool = False
) -> Manifest:
  """Rewrites segments that have removed rows, without these, and joins small
  ones.

  Other segments stay as they are, without the product codes of an earlier
  version, and get checksums if that version wrote none. Nothing is encoded.
  Until all is written, the index is unchanged and takes more disk space.

  Args:
    directory: The index.
    show: Whether a progress bar is shown.

  Raises:
    UserError: If there is no index, or another process writes to it.
  """
  Manifest.read(directory)
  with locked(directory) as root:
    store = Store(root)
    clean(root, store.manifest)
    manifest = _rewritten(root, store, everything=True, show=show)
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
    _rewritten(root, Store(root), everything=False, show=False).write(root)


def _rewritten(
  root: pathlib.Path, store: Store, *, everything: bool, show: bool
) -> Manifest:
  """Writes new segments, and returns the manifest that names them.

  Args:
    root: The index.
    store: The same.
    everything: Whether a segment that is not joined to another is rewritten if
      it has removed rows, and gets checksums if it has none.
    show: Whether a progress bar is shown.
  """
  former = store.manifest
  groups = list(_groups(former.segments))
  copied = [len(g) > 1 or (everything and bool(g[0].removed)) for g in groups]
  read = [
    not c and everything and not g[0].files
    for c, g in zip(copied, groups, strict=True)
  ]
  rows = sum(
    segment.rows - len(segment.removed)
    for group, c, r in zip(groups, copied, read, strict=True)
    for segment in group
    if c or r
  )
  size = rows * store.bytes_per_row(tuple(array_specs(former)))
  segments, first, start = [], 0, 0
  with bar(
    [], 'rewriting', total=size, show=show, unit='B', unit_scale=True
  ) as progress:
    for group, c, r in zip(groups, copied, read, strict=True):
      last, stop = first + len(group), start + sum(s.rows for s in group)
      if c:
        alive = store.items[start:stop]
        alive = alive[alive >= 0]
        sources = store.sources(range(first, last))
        segments.append(_copied(root, store, alive, sources, progress.update))
      elif r:
        segments.append(_recorded(root, former, group[0], progress.update))
      else:
        segments += group
      first, start = last, stop
  return dataclasses.replace(former, segments=tuple(segments))


def _recorded(
  root: pathlib.Path,
  manifest: Manifest,
  segment: Segment,
  count: Callable[[int], Any],
) -> Segment:
  """Returns a segment of an earlier version with the checksums of its files;
  calls `count` with the bytes that were read."""
  folder = root / SEGMENTS / segment.name
  names = [IDS, *(f'{name}.npy' for name in array_specs(manifest))]
  names += [SOURCES] if (folder / SOURCES).exists() else []
  files = checksums.record(folder, names, count)
  return dataclasses.replace(segment, files=files)


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


def _copied(
  root: pathlib.Path,
  store: Store,
  rows: np.ndarray,
  sources: Iterable[dict[str, Any]],
  count: Callable[[int], Any],
) -> Segment:
  """Returns a new segment of some rows of a store.

  Args:
    root: The index.
    store: The same.
    rows: The rows.
    sources: What is known of the files of their videos, and perhaps of others.
    count: Called with the bytes that were written.
  """
  ids = [store.ids[row] for row in rows]
  known, files = set(ids), {}
  with new_segment(root) as folder:
    for name, (shape, dtype) in array_specs(store.manifest).items():
      path = folder / f'{name}.npy'
      with contextlib.closing(ArrayFile(path, shape, dtype)) as file:
        for first in range(0, len(rows), _BATCH):
          few = store.take(name, rows[first : first + _BATCH])
          file.write(few)
          count(few.nbytes)
        files[path.name] = file.finish()
    # Former segments may also have a source of a video that was replaced.
    kept = [source for source in sources if source['id'] in known]
    return write_names(folder, ids, kept, files)
