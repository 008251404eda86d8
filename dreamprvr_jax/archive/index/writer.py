"""Writing an index: making one, and adding videos to it.

New videos become a segment in a folder of their own. The manifest says which
segments count; it is replaced in one step when all else is on disk. If a write
is stopped, the index is unchanged. Segments that only the former manifest names
stay until the next change, because another process, perhaps on another machine,
may have just read that manifest and still opens them.
"""

import contextlib
import dataclasses
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh

from dreamprvr_jax.archive.index.compaction import join, without
from dreamprvr_jax.archive.index.encoding import Videos, encoded_rows
from dreamprvr_jax.archive.index.manifest import (
  MANIFEST,
  SEGMENTS,
  TOKENS,
  Manifest,
  Segment,
)
from dreamprvr_jax.archive.index.segment_writer import Form, SegmentWriter
from dreamprvr_jax.archive.index.segments import (
  clean,
  gathered,
  locked,
  new_segment,
  unlisted,
  write_checksums,
)
from dreamprvr_jax.archive.index.store import Store, check_retriever
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.progress import bar
from dreamprvr_jax.trained.retriever import Retriever

# Lets other processes write all videos with `write_part`; takes the index, one
# of `TOKENS`, and whether registers are stored. Returns the names of the
# segments, in the order of the videos.
Elsewhere = Callable[[pathlib.Path, str, bool], Sequence[str]]


def create(
  directory: os.PathLike[str] | str,
  retriever: Retriever,
  videos: Videos,
  *,
  tokens: str = 'float16',
  mesh: Mesh | None = None,
  show: bool = False,
  elsewhere: Elsewhere | None = None,
  archive: Mapping[str, Any] | None = None,
) -> Manifest:
  """Makes an index; replaces the one in that folder, if any.

  Args:
    directory: The folder of the index.
    retriever: Encodes the videos.
    videos: The videos.
    tokens: How tokens are stored, one of `TOKENS`.
    mesh: Devices that encode; all if None.
    show: Whether a progress bar is shown.
    elsewhere: Lets other processes encode and write the videos; None: this
      process does so.
    archive: What the manifest says as `archive`.

  Raises:
    UserError: If there is no video, an id comes twice, tokens are not finite,
      the score reads more than tokens, or another process writes to the index.
  """
  retriever.require_tokens_alone()
  form = Form(_known(tokens))
  videos = videos.named()
  with locked(directory) as root:
    segments, sizes = _write_segments(
      root, retriever, videos, form, mesh, show, elsewhere
    )
    former = _manifest_of(root)
    manifest = dataclasses.replace(
      _manifest(retriever, tokens, segments, sizes), archive=dict(archive or {})
    )
    manifest.write(root)
    clean(root, manifest, former)
  return manifest


def append(
  directory: os.PathLike[str] | str,
  retriever: Retriever,
  videos: Videos,
  *,
  mesh: Mesh | None = None,
  show: bool = False,
  elsewhere: Elsewhere | None = None,
) -> Manifest:
  """Adds videos to an index; nothing is encoded again.

  Raises:
    UserError: As `create`, and if the index was made with another retriever or
      has one of the videos already.
  """
  Manifest.read(directory)
  videos = videos.named()
  with locked(directory) as root:
    store = Store(root)
    former = store.manifest
    check_retriever(store, retriever)
    rows = store.rows_of()
    twice = [video for video in videos.ids if video in rows]
    if twice:
      raise UserError(
        f'{directory} has the video {twice[0]!r} already, and so '
        f'{len(twice)} of {len(videos.ids)} new ones; remove them first'
      )
    form = Form.of(former)
    segments, _ = _write_segments(
      root, retriever, videos, form, mesh, show, elsewhere
    )
    segments = (*former.segments, *segments)
    manifest = dataclasses.replace(former, segments=segments)
    manifest = unlisted(root, manifest, videos.ids)
    manifest.write(root)
  return manifest


@contextlib.contextmanager
def open_segment(
  directory: os.PathLike[str] | str,
  retriever: Retriever,
  *,
  tokens: str = 'float16',
  archive: Mapping[str, Any] | None = None,
) -> Iterator[SegmentWriter]:
  """Opens a segment for videos that come one by one; makes the index if there
  is none.

  When the block ends, the videos become part of the index, all in one step. A
  video that the index has already is replaced. Small segments are joined, see
  `compaction.join`. If the block fails, the index is as it was.

  Args:
    directory: The folder of the index.
    retriever: What the rows were made with.
    tokens: How tokens of a new index are stored, one of `TOKENS`.
    archive: What the manifest says as `archive`; None leaves it as it is.

  Yields:
    What takes the videos.

  Raises:
    UserError: If the index was made with another retriever, its rows are whole
      videos only, or another process writes to it.
  """
  form = Form(_known(tokens))
  with locked(directory) as root, contextlib.ExitStack() as stack:
    former = _manifest_of(root)
    clean(root, former)
    store = None
    if former is not None:
      store = Store(root)
      check_retriever(store, retriever)
      if not former.parts:
        raise UserError(
          f'{directory} was made by an earlier version, and has no place for '
          'parts of videos; index the videos again, into another folder'
        )
      form = Form.of(former)
    folder = stack.enter_context(new_segment(root))
    writer = SegmentWriter(folder, form, str(directory))
    stack.callback(writer.close)
    yield writer
    manifest = former
    if writer.ids:
      segment = writer.finish()
      if former is None or store is None:
        manifest = _manifest(retriever, form.tokens, (segment,), writer.sizes)
      else:
        kept = without(store, set(writer.ids))
        manifest = dataclasses.replace(former, segments=(*kept, segment))
        manifest = unlisted(root, manifest, writer.ids)
    else:
      shutil.rmtree(folder)
    if manifest is None:
      return
    if archive is not None:
      manifest = dataclasses.replace(manifest, archive=dict(archive))
    if manifest != former:
      manifest.write(root)
    join(root)


def write_part(
  directory: os.PathLike[str] | str,
  name: str,
  retriever: Retriever,
  videos: Videos,
  *,
  tokens: str,
  registers: bool,
  mesh: Mesh | None = None,
) -> None:
  """Writes videos as a segment of an index that another process has locked.

  That process names the segment in the manifest (see `Elsewhere`). A segment
  that exists stays as it is.
  """
  root = pathlib.Path(directory)
  place = root / SEGMENTS / name
  if place.exists():
    return
  videos = videos.named()
  with new_segment(root) as folder:
    form = Form(tokens, registers=registers)
    segment, _ = _write_rows(folder, retriever, videos, form, mesh, show=False)
    write_checksums(folder, segment)
  try:
    folder.rename(place)
  except OSError:
    # Another process got the same videos, and was quicker. What is removed is
    # the folder that `new_segment` has just made.
    shutil.rmtree(folder, ignore_errors=True)
    if not place.exists():
      raise


def _manifest_of(root: pathlib.Path) -> Manifest | None:
  """Returns the manifest of an index; None if there is none yet."""
  return Manifest.read(root) if (root / MANIFEST).exists() else None


def _write_segments(
  root: pathlib.Path,
  retriever: Retriever,
  videos: Videos,
  form: Form,
  mesh: Mesh | None,
  show: bool,
  elsewhere: Elsewhere | None,
) -> tuple[tuple[Segment, ...], dict[str, int]]:
  """Writes segments that no manifest names yet.

  Returns:
    The segments; the sizes of a video, by the manifest's names.
  """
  if not videos.ids:
    raise UserError('there is no video to index')
  if len(set(videos.ids)) < len(videos.ids):
    raise UserError('an id comes twice among the videos; leave one of them out')
  # Free the disk space of a write that was stopped.
  clean(root, _manifest_of(root))
  if elsewhere is not None:
    names = elsewhere(root, form.tokens, form.registers)
    return gathered(root, names, videos.ids)
  with new_segment(root) as folder:
    segment, sizes = _write_rows(folder, retriever, videos, form, mesh, show)
  return (segment,), sizes


def _write_rows(
  folder: pathlib.Path,
  retriever: Retriever,
  videos: Videos,
  form: Form,
  mesh: Mesh | None,
  show: bool,
) -> tuple[Segment, dict[str, int]]:
  """Encodes videos and writes them as a segment, a row for each.

  Returns:
    The segment; the sizes of a row, by the manifest's names.
  """
  start, count = 0, len(videos.ids)
  with contextlib.ExitStack() as stack:
    writer = SegmentWriter(folder, form, str(folder.parent.parent))
    stack.callback(writer.close)
    progress = stack.enter_context(
      bar([], 'encoding videos', total=count, show=show)
    )
    for rows in encoded_rows(retriever, videos.batches, mesh):
      here = len(rows['frame_mask'])
      rows['durations'] = np.asarray(videos.durations)[start:][:here]
      stop = start + here
      where = f'the videos {start} to {stop - 1} (counted from 0)'
      writer.write(rows, where)
      writer.ids += videos.ids[start:stop]
      progress.update(here)
      start = stop
    if start != count:
      raise ValueError(f'{start} videos came where {count} were expected')
    return writer.finish(), writer.sizes


def _manifest(
  retriever: Retriever,
  tokens: str,
  segments: Sequence[Segment],
  sizes: Mapping[str, int],
) -> Manifest:
  """Returns the manifest of a new index."""
  where = retriever.checkpoint
  if not retriever.is_free:
    where = str(pathlib.Path(where).absolute())
  return Manifest(
    where,
    retriever.digest,
    tokens,
    segments=tuple(segments),
    parts=True,
    retriever=retriever.facts,
    clips=sizes['clips'],
    frames=sizes['frames'],
    width=sizes['width'],
    registers=sizes['registers'],
  )


def _known(tokens: str) -> str:
  """Returns the form of tokens; raises UserError unless it is in `TOKENS`."""
  if tokens not in TOKENS:
    raise UserError(
      f'--tokens={tokens} is unknown; choose one of {", ".join(TOKENS)}'
    )
  return tokens
