"""Folders of segments: one writer at a time, all or nothing."""

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import uuid
from collections.abc import Iterator, Sequence

import numpy as np

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.search.manifest import (
  MANIFEST,
  SEGMENTS,
  Manifest,
  Segment,
)
from dreamprvr_jax.search.store import IDS

_LOCK = '.lock'


@contextlib.contextmanager
def locked(directory: os.PathLike[str] | str) -> Iterator[pathlib.Path]:
  """Holds the index, which is removed if nothing came of making it."""
  root = pathlib.Path(directory)
  root.mkdir(parents=True, exist_ok=True)
  foreign = [path.name for path in root.iterdir() if path.name != _LOCK]
  if foreign and not {MANIFEST, SEGMENTS} & set(foreign):
    raise UserError(
      f'{directory} holds other files ({sorted(foreign)[0]}) and no index; '
      'give a folder that is empty or does not exist yet'
    )
  with (root / _LOCK).open('w') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise UserError(
        f'another process is writing to the index {directory}; wait for it'
      ) from None
    yield root


def clean(root: pathlib.Path, manifest: Manifest | None) -> None:
  """Removes what the manifest does not name."""
  named = {segment.name for segment in manifest.segments} if manifest else set()
  for path in (root / SEGMENTS).glob('*'):
    if path.name not in named:
      shutil.rmtree(path)


def gathered(
  root: pathlib.Path, names: Sequence[str], ids: Sequence[str]
) -> tuple[tuple[Segment, ...], dict[str, int]]:
  """Returns segments that other processes wrote, and the sizes of a video.

  Args:
    root: The index.
    names: Of the segments.
    ids: Of all their videos, in order.

  Raises:
    UserError: If they do not hold these videos, or not all of one size.
  """
  segments, found, sizes = [], [], []
  for name in names:
    folder = root / SEGMENTS / name
    if not (folder / IDS).exists():
      raise UserError(
        f'{folder} was not written; --index must be a folder that all machines '
        'share, under one path'
      )
    here = json.loads((folder / IDS).read_text())
    segments.append(Segment(name, len(here)))
    found += here
    sizes.append(_sizes(folder))
  if found != list(ids) or any(size != sizes[0] for size in sizes):
    raise UserError(
      f'the videos that were written to {root} are not those that were to be; '
      'the features changed meanwhile, or differ between machines: index again'
    )
  return tuple(segments), sizes[0]


def _sizes(folder: pathlib.Path) -> dict[str, int]:
  """Returns the sizes of a video, without product codes, by their names in the
  manifest."""
  shapes = {
    path.stem: np.load(path, mmap_mode='r').shape
    for path in folder.glob('*.npy')
  }
  tokens = shapes.get('clip_tokens') or shapes['clip_codes']
  return {
    'clips': tokens[1],
    'frames': shapes['frame_mask'][1],
    'width': tokens[2],
    'registers': shapes['registers'][1] if 'registers' in shapes else 0,
    'sub_vectors': 0,
  }


@contextlib.contextmanager
def new_segment(
  root: pathlib.Path, ids: Sequence[str]
) -> Iterator[tuple[Segment, pathlib.Path]]:
  """Makes a segment, which no manifest names yet, and gives its folder for the
  arrays of its videos. It is gone if that fails."""
  segment = Segment(uuid.uuid4().hex, len(ids))
  folder = root / SEGMENTS / segment.name
  folder.mkdir(parents=True)
  try:
    yield segment, folder
    with (folder / IDS).open('w') as file:
      json.dump(list(ids), file)
      file.flush()
      os.fsync(file.fileno())
  except BaseException:
    shutil.rmtree(folder, ignore_errors=True)
    raise
