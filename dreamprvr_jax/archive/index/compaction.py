"""An index without the rows that were removed."""

import dataclasses
import os
import pathlib
import shutil

import numpy as np

from dreamprvr_jax.archive.index.array_files import array_file
from dreamprvr_jax.archive.index.manifest import SEGMENTS, Manifest, Segment
from dreamprvr_jax.archive.index.segments import clean, locked, new_segment
from dreamprvr_jax.archive.index.store import Store, array_specs, codebook_name

# Rows copied at a time.
_BATCH = 256


def compact(directory: os.PathLike[str] | str) -> Manifest:
  """Writes the segments that have removed rows anew without them; others stay
  as they are, nothing is encoded. Until all is written the index is what it
  was, and takes that much more room.

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
    # At once: disk space is what this is for. Who has opened the former
    # segments keeps them; who opens them now reads the new manifest.
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
