"""Giving videos of an index other ids, without touching their tokens."""

import contextlib
import dataclasses
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

from dreamprvr_jax import folders
from dreamprvr_jax.archive.index.manifest import SEGMENTS, Manifest, Segment
from dreamprvr_jax.archive.index.segments import clean, locked, new_segment
from dreamprvr_jax.archive.index.store import IDS, Store, read_ids

SOURCES = 'sources.json'


def rename(
  directory: os.PathLike[str] | str, changes: Mapping[str, Mapping[str, Any]]
) -> Manifest:
  """Changes the ids and sources of videos, in one step for all.

  The arrays of a segment stay on disk as they are: its new folder has links to
  them.

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
      items = store.items[start : start + segment.videos]
      ids = store.ids[start : start + segment.videos]
      start += segment.videos
      real = {name for name, row in zip(ids, items, strict=True) if row >= 0}
      if real & changes.keys():
        segment = _renamed(root, segment, changes)
      segments.append(segment)
    manifest = dataclasses.replace(store.manifest, segments=tuple(segments))
    manifest.write(root)
  return manifest


def _renamed(
  root: pathlib.Path, former: Segment, changes: Mapping[str, Mapping[str, Any]]
) -> Segment:
  """Returns a segment with the arrays of a former one and other ids."""
  place = root / SEGMENTS / former.name
  ids = [
    str(changes[name]['id']) if name in changes else name
    for name in read_ids(place / IDS)
  ]
  with new_segment(root, ids) as (segment, folder):
    for path in place.glob('*.npy'):
      _link(path, folder / path.name)
    rows = folders.read_json(place / SOURCES)
    rows = [dict(changes.get(row['id'], row)) for row in rows]
    folders.write_json(folder / SOURCES, rows, indent=1)
  return dataclasses.replace(former, name=segment.name)


def _link(path: pathlib.Path, target: pathlib.Path) -> None:
  """Makes a second name of a file, or a copy where a disk has none."""
  with contextlib.suppress(OSError):
    os.link(path, target)
    return
  shutil.copyfile(path, target)
