"""Taking videos out of an index, and freeing their disk space."""

import dataclasses
import os
import pathlib
import shutil
from collections.abc import Iterable

import numpy as np

from dreamprvr_jax.archive.index.array_files import array_file
from dreamprvr_jax.archive.index.encoding import id_of
from dreamprvr_jax.archive.index.manifest import SEGMENTS, Manifest, Segment
from dreamprvr_jax.archive.index.segments import clean, locked, new_segment
from dreamprvr_jax.archive.index.store import Store, array_specs, codebook_name
from dreamprvr_jax.errors import UserError

# Rows copied at a time.
_BATCH = 256


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
    gone = np.isin(np.arange(len(store)), [rows[video] for video in wanted])
    gone |= store.items < 0
    segments, start = [], 0
    for segment in store.manifest.segments:
      here = np.flatnonzero(gone[start : start + segment.videos])
      start += segment.videos
      if len(here) < segment.videos:
        removed = tuple(here.tolist())
        segments.append(dataclasses.replace(segment, removed=removed))
    manifest = dataclasses.replace(store.manifest, segments=tuple(segments))
    manifest.write(root)
  return manifest


def compact(directory: os.PathLike[str] | str) -> Manifest:
  """Rewrites the segments that have removed rows, without these.

  Other segments stay as they are, and nothing is encoded. Until all is written,
  the index is unchanged and takes more disk space.

  Raises:
    UserError: If there is no index, or another process writes to it.
  """
  Manifest.read(directory)
  with locked(directory) as root:
    store, segments, start = Store(root), [], 0
    clean(root, store.manifest)
    for segment in store.manifest.segments:
      rows = store.items[start : start + segment.videos]
      start += segment.videos
      if segment.removed:
        segment = _copied(root, store, segment, rows[rows >= 0])
      segments.append(segment)
    manifest = dataclasses.replace(store.manifest, segments=tuple(segments))
    manifest.write(root)
    # Former segments are removed at once, to free their disk space. A process
    # that has them open still reads them.
    clean(root, manifest)
  return manifest


def _copied(
  root: pathlib.Path, store: Store, former: Segment, rows: np.ndarray
) -> Segment:
  """Returns a new segment of some rows of a former one."""
  ids = [store.ids[row] for row in rows]
  with new_segment(root, ids) as (segment, folder):
    for name, (shape, dtype) in array_specs(store.manifest).items():
      path = folder / f'{name}.npy'
      with array_file(path, (len(rows), *shape), dtype) as file:
        for first in range(0, len(rows), _BATCH):
          few = store.take(name, rows[first : first + _BATCH])
          file.write(np.ascontiguousarray(few).data)
    for branch in store.codebooks:
      name = codebook_name(branch)
      shutil.copyfile(root / SEGMENTS / former.name / name, folder / name)
  return segment
