"""Writing an index: making one, adding videos, removing some.

Videos become a segment in a folder of its own; what counts is the manifest,
which is replaced in one step when all else is on disk. Whenever a write is
stopped, the index is what it was. Segments that only the former manifest names
stay until the next change: a process that has just read it, on another machine
perhaps, still opens them.
"""

import contextlib
import dataclasses
import os
import pathlib
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import BinaryIO

import numpy as np
from jax.sharding import Mesh

from dreamprvr_jax.archive.index import product
from dreamprvr_jax.archive.index.array_files import array_file
from dreamprvr_jax.archive.index.encoding import encoded_rows
from dreamprvr_jax.archive.index.manifest import (
  MANIFEST,
  SEGMENTS,
  TOKENS,
  Manifest,
  Segment,
)
from dreamprvr_jax.archive.index.product_files import add_products
from dreamprvr_jax.archive.index.segments import (
  clean,
  gathered,
  locked,
  new_segment,
)
from dreamprvr_jax.archive.index.store import Store, array_specs
from dreamprvr_jax.archive.index.videos import Videos, id_of
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.progress import bar
from dreamprvr_jax.trained.retriever import Retriever

# Has all videos written by other processes that call `write_part`, given the
# index, how tokens are stored and whether registers are; returns the names of
# the segments, in the order of the videos.
Elsewhere = Callable[[pathlib.Path, str, bool], Sequence[str]]


@dataclasses.dataclass(frozen=True)
class _Form:
  """What is kept of videos.

  Attributes:
    tokens: One of `TOKENS`.
    sub_vectors: Of product codes; 0 for what is usual.
    codebooks: Of product codes; empty if they are to be made.
    registers: Whether registers are kept, if the model has them.
  """

  tokens: str
  sub_vectors: int = 0
  codebooks: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  registers: bool = True

  @property
  def has_products(self) -> bool:
    return 'pq' in self.tokens

  @property
  def encoded(self) -> str:
    """The tokens that are written as videos are encoded."""
    # Product codes are made from these.
    return 'float16' if self.has_products else self.tokens


def create(
  directory: os.PathLike[str] | str,
  retriever: Retriever,
  videos: Videos,
  *,
  tokens: str = 'float16',
  sub_vectors: int = 0,
  mesh: Mesh | None = None,
  show: bool = False,
  elsewhere: Elsewhere | None = None,
) -> Manifest:
  """Makes an index, in the place of the one that is there, if any.

  Args:
    directory: Where.
    retriever: What encodes the videos.
    videos: The videos.
    tokens: How they are stored, one of `TOKENS`.
    sub_vectors: Bytes of a token's product code, if there are any; 0 for one
      per eight numbers of the token.
    mesh: Devices that encode; all if None.
    show: Whether a progress bar is shown.
    elsewhere: What encodes and writes the videos; this process if None.

  Raises:
    UserError: If there is nothing to index, an id is there twice, tokens are
      not finite, or another process writes to the index.
  """
  if tokens not in TOKENS:
    raise UserError(
      f'--tokens={tokens} is unknown; choose one of {", ".join(TOKENS)}'
    )
  form = _Form(tokens, sub_vectors)
  if form.has_products and not retriever.is_plain:
    raise UserError(
      f'--tokens={tokens}: product codes need a score that is the best cosine '
      f'with a token, that of {type(retriever.model).__name__} is not; choose '
      'float16 or int8'
    )
  videos = videos.named()
  with locked(directory) as root:
    segments, sizes = _write_segments(
      root, retriever, videos, form, mesh, show, elsewhere
    )
    where = str(pathlib.Path(retriever.checkpoint).absolute())
    manifest = Manifest(
      where, retriever.digest, tokens, segments=segments, **sizes
    )
    former = _manifest_of(root)
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
  """Adds videos to an index; those that are there are not encoded again.

  Raises:
    UserError: As `create`, and if the index is of another retriever or has
      one of the videos already.
  """
  Manifest.read(directory)
  videos = videos.named()
  with locked(directory) as root:
    store = Store(root)
    former = store.manifest
    check_retriever(root, former, retriever)
    rows = store.rows_of()
    twice = [video for video in videos.ids if video in rows]
    if twice:
      raise UserError(
        f'{directory} has the video {twice[0]!r} already, and {len(twice) - 1} '
        'others of those that are to be added; remove them first'
      )
    form = _Form(
      former.tokens, former.sub_vectors, store.codebooks, former.registers > 0
    )
    segments, sizes = _write_segments(
      root, retriever, videos, form, mesh, show, elsewhere
    )
    there = {name: getattr(former, name) for name in sizes}
    if sizes != there:
      raise UserError(
        f'{directory} has {there} per video, those to be added {sizes}; read '
        'them with the config of the index'
      )
    segments = (*former.segments, *segments)
    manifest = dataclasses.replace(former, segments=segments)
    manifest.write(root)
  return manifest


def remove(directory: os.PathLike[str] | str, ids: Iterable[str]) -> Manifest:
  """Takes videos out of an index. Their room on disk is free after `compact`,
  or at the change that follows when all videos that were added with them are
  out.

  Raises:
    UserError: If one is not there; then all stay.
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
        f'{directory} has no video {unknown[0]!r}, nor {len(unknown) - 1} '
        'others of those that are to be removed; nothing was removed'
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
  """Writes videos as the segment `name` of an index that another process holds,
  for its manifest (`Elsewhere`). One that is there stays as it is."""
  root = pathlib.Path(directory)
  place = root / SEGMENTS / name
  if place.exists():
    return
  videos = videos.named()
  with new_segment(root, videos.ids) as (_, folder):
    form = _Form(tokens, registers=registers)
    _write_arrays(folder, retriever, videos, form, mesh, show=False)
  try:
    folder.rename(place)
  except OSError:
    # Another process was given the same videos, and was quicker. The folder
    # got its name a moment ago, in `new_segment`.
    shutil.rmtree(folder, ignore_errors=True)
    if not place.exists():
      raise


def check_retriever(
  directory: os.PathLike[str] | str, manifest: Manifest, retriever: Retriever
) -> None:
  """Raises UserError unless an index is of this retriever."""
  if manifest.digest != retriever.digest:
    raise UserError(
      f'{directory} was made with the checkpoint {manifest.checkpoint} '
      f'(weights {manifest.digest}), not with {retriever.checkpoint} (weights '
      f'{retriever.digest}); give the former as --checkpoint, or index anew'
    )


def _manifest_of(root: pathlib.Path) -> Manifest | None:
  """Returns the manifest of an index, None where there is none yet."""
  return Manifest.read(root) if (root / MANIFEST).exists() else None


def _write_segments(
  root: pathlib.Path,
  retriever: Retriever,
  videos: Videos,
  form: _Form,
  mesh: Mesh | None,
  show: bool,
  elsewhere: Elsewhere | None,
) -> tuple[tuple[Segment, ...], dict[str, int]]:
  """Writes segments that no manifest names yet.

  Returns:
    The segments; by their names in the manifest, clips, frames, width and
    registers of a video, and sub-vectors of a token.
  """
  if not videos.ids:
    raise UserError('there is no video to index')
  if len(set(videos.ids)) < len(videos.ids):
    raise UserError('a video is to be indexed twice; leave one of them out')
  # The rest of a write that was stopped takes room.
  clean(root, _manifest_of(root))
  if elsewhere is not None:
    if form.has_products:
      raise UserError(
        f'product codes (tokens {form.tokens}) are made of all videos in one '
        'process; index without --engine, or with other --tokens'
      )
    names = elsewhere(root, form.tokens, form.registers)
    return gathered(root, names, videos.ids)
  with new_segment(root, videos.ids) as (segment, folder):
    sizes = _write_arrays(folder, retriever, videos, form, mesh, show)
    if form.has_products:
      add_products(
        folder,
        sizes['sub_vectors'],
        form.codebooks,
        keep='float16' in form.tokens,
      )
  return (segment,), sizes


def _write_arrays(
  folder: pathlib.Path,
  retriever: Retriever,
  videos: Videos,
  form: _Form,
  mesh: Mesh | None,
  show: bool,
) -> dict[str, int]:
  """Encodes the videos and writes what is kept; returns the sizes."""
  sizes, start, count = {}, 0, len(videos.ids)
  with contextlib.ExitStack() as open_files:
    files: dict[str, BinaryIO] = {}
    progress = open_files.enter_context(
      bar([], 'encoding videos', total=count, show=show)
    )
    for rows in encoded_rows(retriever, videos.batches, mesh):
      here, clips, width = rows['clip_tokens'].shape
      sizes = {
        'clips': clips,
        'frames': rows['frame_mask'].shape[1],
        'width': width,
        'registers': 0,
      }
      if form.registers and 'registers' in rows:
        sizes['registers'] = rows['registers'].shape[1]
      specs = array_specs(Manifest('', '', form.encoded, segments=(), **sizes))
      sizes['sub_vectors'] = (
        product.sub_vectors(width, form.sub_vectors) if form.has_products else 0
      )
      if not files:
        for name, (shape, dtype) in specs.items():
          files[name] = open_files.enter_context(
            array_file(folder / f'{name}.npy', (count, *shape), dtype)
          )
      rows['durations'] = np.asarray(videos.durations)[start:][:here]
      for name, (_, dtype) in specs.items():
        # Not memory-mapped: a full disk is to be an error, not a signal.
        files[name].write(np.ascontiguousarray(rows[name], dtype).data)
      progress.update(here)
      start += here
  if start != count:
    raise ValueError(f'{start} videos came where {count} were named')
  return sizes
