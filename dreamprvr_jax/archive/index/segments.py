"""Folders of segments and lists: one writer at a time, all or nothing."""

import contextlib
import dataclasses
import json
import logging
import os
import pathlib
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from dreamprvr_jax import folders, text
from dreamprvr_jax.archive.index import checksums, lists_record
from dreamprvr_jax.archive.index.array_files import Rows
from dreamprvr_jax.archive.index.files import DamagedError
from dreamprvr_jax.archive.index.layout import (
  CHECKSUMS,
  FILES,
  IDS,
  PRODUCTS,
  SOURCES,
  read_ids,
)
from dreamprvr_jax.archive.index.lists_record import LISTS
from dreamprvr_jax.archive.index.manifest import (
  MANIFEST,
  SEGMENTS,
  Manifest,
  Segment,
  is_name,
)
from dreamprvr_jax.errors import UserError

_KIND = 'index'
# The files that folders may have, by the folder that contains these folders.
_FILES = {SEGMENTS: FILES, LISTS: lists_record.FILES}
# Temporary names of a manifest or marker, which a killed command may leave; the
# last form is that of earlier versions.
_PARTIAL = re.compile(
  r'\.[0-9]+(-[0-9a-f]{8})?\.partial\.(manifest|\.dreamprvr)\.json'
  r'|\.manifest\.json\.[0-9]+\.tmp'
)

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def locked(directory: os.PathLike[str] | str) -> Iterator[pathlib.Path]:
  """Locks the folder of an index, or of one that will be made, and gives it.

  Raises:
    UserError: If another process holds the lock, or the folder has files of
      others; then nothing in it was changed.
  """
  root = pathlib.Path(directory)
  if root.exists() and not root.is_dir():
    raise UserError(f'{directory} is a file; give a folder as --index')
  if folders.kind_of(root) != _KIND:
    _claim(root)
  with folders.held(root, 'index'):
    # Not earlier: another process may have been removing segments.
    _check(root)
    yield root


def _claim(root: pathlib.Path) -> None:
  """Marks a folder as an index; raises UserError if it has files of others."""
  known = {MANIFEST}
  if root.exists():
    _check(root)
    if folders.kind_of(root) is None and not (root / MANIFEST).exists():
      names = {path.name for path in root.iterdir()} - {folders.LOCK}
      # The rest of a first write that was killed, by an earlier version;
      # `_check` has looked into its segments.
      if all(n in _FILES or _PARTIAL.fullmatch(n) for n in names):
        known |= names
  folders.claim(root, _KIND, known)


def _check(root: pathlib.Path) -> None:
  """Raises UserError if a folder has a foreign manifest, or foreign files where
  an index has its segments."""
  manifest = root / MANIFEST
  if manifest.is_symlink() or manifest.exists():
    Manifest.read(root)
  for name, files in _FILES.items():
    _check_folders(root / name, files)


def _check_folders(place: pathlib.Path, files: frozenset[str]) -> None:
  """Raises UserError if a folder has more than folders with such files."""
  if place.is_symlink() or (place.exists() and not place.is_dir()):
    raise _foreign(place)
  for folder in place.iterdir() if place.exists() else ():
    if folders.is_of_system(folder.name):
      continue
    if folder.is_symlink() or not (is_name(folder.name) and folder.is_dir()):
      raise _foreign(folder)
    for path in folder.iterdir():
      is_ours = path.name in files and not path.is_symlink() and path.is_file()
      if not (is_ours or folders.is_of_system(path.name)):
        raise _foreign(path)


def _foreign(path: pathlib.Path) -> UserError:
  return UserError(
    f'{path} was not written by --mode=index, which clears the folder that '
    'contains it; nothing was changed: move it elsewhere, or give another '
    '--index'
  )


def clean(root: pathlib.Path, *manifests: Manifest | None) -> None:
  """Removes the segments and lists that no manifest names.

  Files that cannot be removed now are left for the next change.

  Args:
    root: The index.
    *manifests: Manifests; None names no segment.
  """
  named = {folder for one in manifests if one for folder in one.files}
  for place, files in _FILES.items():
    for folder in sorted((root / place).glob('*')):
      if is_name(folder.name) and f'{place}/{folder.name}' not in named:
        _remove(folder, files)
  for path in root.iterdir():
    if _PARTIAL.fullmatch(path.name):
      path.unlink(missing_ok=True)


def drop_products(root: pathlib.Path, manifest: Manifest) -> None:
  """Removes the product codes in the segments of an index, which only earlier
  versions read."""
  for segment in manifest.segments:
    for name in PRODUCTS:
      (root / SEGMENTS / segment.name / name).unlink(missing_ok=True)


def _remove(folder: pathlib.Path, files: frozenset[str]) -> None:
  """Removes files of a folder, and the folder unless it has others."""
  try:
    for name in files:
      (folder / name).unlink(missing_ok=True)
    folder.rmdir()
  except OSError as error:
    _log.warning(
      '%s cannot be removed yet (%s); the next change of the index removes it',
      folder,
      error.strerror,
    )


def gathered(
  root: pathlib.Path, names: Sequence[str], ids: Sequence[str]
) -> tuple[tuple[Segment, ...], dict[str, int]]:
  """Returns the segments that other processes wrote, and a video's sizes.

  Args:
    root: The index.
    names: Names of the segments.
    ids: Ids of all their videos, in order.

  Raises:
    UserError: If their videos or sizes are not as expected, or one is damaged.
  """
  segments, found, sizes = [], [], []
  for name in names:
    folder = root / SEGMENTS / name
    if not (folder / IDS).exists():
      raise UserError(
        f'{folder} was not written; --index must be a folder that all machines '
        'share, under one path'
      )
    here = read_ids(folder / IDS)
    files = _written_checksums(folder / CHECKSUMS)
    segments.append(Segment(name, len(here), len(here), files=files))
    found += here
    sizes.append(_sizes(folder))
  if found != list(ids) or any(size != sizes[0] for size in sizes):
    raise UserError(
      f'the videos in the new segments of {root} are not the expected ones; '
      'the features changed meanwhile, or differ between machines: index again'
    )
  # Their folders were renamed after they were written.
  folders.sync(root / SEGMENTS)
  return tuple(segments), sizes[0]


def _written_checksums(path: pathlib.Path) -> checksums.Files:
  """Returns the checksums that a process left for this one, and removes their
  file."""
  found = text.parse_json(text.read(path), f'the index is damaged: {path}')
  if not checksums.is_valid(found):
    raise DamagedError(path, 'has no checksums')
  path.unlink()
  return found


def _sizes(folder: pathlib.Path) -> dict[str, int]:
  """Returns the sizes of a segment's videos, by the manifest's names."""
  shapes = {path.stem: Rows(path).shape for path in folder.glob('*.npy')}
  tokens = shapes.get('clip_tokens') or shapes['clip_codes']
  return {
    'clips': tokens[1],
    'frames': shapes['frame_mask'][1],
    'width': tokens[2],
    'registers': shapes['registers'][1] if 'registers' in shapes else 0,
  }


@contextlib.contextmanager
def new_segment(root: pathlib.Path) -> Iterator[pathlib.Path]:
  """Makes the folder of a segment that no manifest names yet, for its files;
  see `write_names`. If the block fails, it is removed."""
  with _new_folder(root / SEGMENTS) as folder:
    yield folder


@contextlib.contextmanager
def new_lists(root: pathlib.Path) -> Iterator[pathlib.Path]:
  """Makes the folder of lists that no manifest names yet, likewise."""
  with _new_folder(root / LISTS) as folder:
    yield folder


@contextlib.contextmanager
def _new_folder(place: pathlib.Path) -> Iterator[pathlib.Path]:
  folder = place / uuid.uuid4().hex
  folder.mkdir(parents=True)
  try:
    yield folder
  except BaseException:
    shutil.rmtree(folder, ignore_errors=True)
    raise


def settle(folder: pathlib.Path) -> None:
  """Makes the names of a new segment or of new lists outlast a power cut, so
  that a manifest may name them. Their files have been synced.

  Args:
    folder: The folder, two levels below that of the index.
  """
  place, root = folder.parent, folder.parent.parent
  # The index may be new, too.
  for one in (folder, place, root, root.absolute().parent):
    folders.sync(one)


def unlisted(
  root: pathlib.Path, manifest: Manifest, ids: Iterable[str]
) -> Manifest:
  """Returns a manifest whose lists no longer speak for some videos; one without
  lists if theirs are damaged.

  Args:
    root: The index.
    manifest: Its manifest, perhaps without lists.
    ids: Ids of videos that were added, replaced or renamed.
  """
  lists, name = manifest.lists, lists_record.NAMES
  if lists is None:
    return manifest
  folder = root / LISTS / lists.name
  try:
    checksums.check(folder, {name: lists.files[name]})
    named = set(read_ids(folder / name))
  except DamagedError as error:
    _log.warning('%s; the lists are dropped, --recall makes new ones', error)
    return dataclasses.replace(manifest, lists=None)
  gone = {*lists.dropped, *named.intersection(ids)}
  lists = dataclasses.replace(lists, dropped=tuple(sorted(gone)))
  return dataclasses.replace(manifest, lists=lists)


def write_names(
  folder: pathlib.Path,
  ids: Sequence[str],
  sources: Sequence[dict[str, Any]],
  arrays: checksums.Files,
) -> Segment:
  """Writes the ids and sources of a new segment, when its arrays are there, and
  syncs its folder; returns it.

  Args:
    folder: Its folder.
    ids: Id of each row's video.
    sources: What is known of the files of its videos, see `Store.sources`.
    arrays: Sizes and checksums of its arrays; empty if they are not known.
  """
  files = dict(arrays)
  contents: dict[str, list[Any]] = {IDS: list(ids)}
  if sources:
    contents[SOURCES] = list(sources)
  for name, content in contents.items():
    known = _write_json(folder / name, content)
    if arrays:
      files[name] = known
  settle(folder)
  return Segment(folder.name, len(ids), len(set(ids)), files=files)


def verify(
  directory: os.PathLike[str] | str,
  folder: str,
  files: checksums.Files,
  read: Callable[[int], Any] = lambda count: None,
) -> Iterator[DamagedError]:
  """Yields an error for each damaged file of a folder of an index.

  Args:
    directory: The index.
    folder: The folder, as `Manifest.files` names it.
    files: What the manifest says of its files.
    read: See `checksums.of_file`.
  """
  for error in checksums.damage(
    pathlib.Path(directory) / folder, files, read=read
  ):
    # Another command may have removed the folder meanwhile.
    if folder in Manifest.read(directory).files:
      yield error


def write_checksums(folder: pathlib.Path, segment: Segment) -> None:
  """Leaves the checksums of a segment for the process that names it in the
  manifest; see `gathered`."""
  _write_json(folder / CHECKSUMS, dict(segment.files))


def _write_json(path: pathlib.Path, content: Any) -> checksums.Facts:
  """Writes and syncs a new file; returns its size and checksum."""
  raw = json.dumps(content).encode()
  with path.open('wb') as file:
    file.write(raw)
    file.flush()
    os.fsync(file.fileno())
  return checksums.of_bytes(raw)
