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
from collections.abc import Callable, Mapping, Sequence
from typing import BinaryIO

import numpy as np
from jax.sharding import Mesh

from dreamprvr_jax.archive.index import codes
from dreamprvr_jax.archive.index.array_files import array_file
from dreamprvr_jax.archive.index.encoding import (
  Videos,
  add_products,
  encoded_rows,
)
from dreamprvr_jax.archive.index.manifest import (
  MANIFEST,
  SEGMENTS,
  TOKENS,
  Manifest,
  Segment,
)
from dreamprvr_jax.archive.index.segments import (
  clean,
  gathered,
  locked,
  new_segment,
)
from dreamprvr_jax.archive.index.store import (
  Store,
  array_specs,
  check_retriever,
)
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.progress import bar
from dreamprvr_jax.trained.retriever import Retriever

# Lets other processes write all videos with `write_part`; takes the index, one
# of `TOKENS`, and whether registers are stored. Returns the names of the
# segments, in the order of the videos.
Elsewhere = Callable[[pathlib.Path, str, bool], Sequence[str]]


@dataclasses.dataclass(frozen=True)
class _Form:
  """How videos are stored.

  Attributes:
    tokens: One of `TOKENS`.
    sub_vectors: Sub-vectors of product codes; 0 for the default.
    codebooks: Codebooks of product codes; empty if they are made now.
    registers: Whether registers are stored, if the model has them.
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
    """The tokens that are written while videos are encoded."""
    # Product codes are made from float16 tokens.
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
  """Makes an index; replaces the one in that folder, if any.

  Args:
    directory: The folder of the index.
    retriever: Encodes the videos.
    videos: The videos.
    tokens: How tokens are stored, one of `TOKENS`.
    sub_vectors: Bytes of a token's product code, if any; 0 for one per eight
      numbers of the token.
    mesh: Devices that encode; all if None.
    show: Whether a progress bar is shown.
    elsewhere: Lets other processes encode and write the videos; None: this
      process does so.

  Raises:
    UserError: If there is no video, an id comes twice, tokens are not finite,
      or another process writes to the index.
  """
  if tokens not in TOKENS:
    raise UserError(
      f'--tokens={tokens} is unknown; choose one of {", ".join(TOKENS)}'
    )
  form = _Form(tokens, sub_vectors)
  if form.has_products and not retriever.is_plain:
    raise UserError(
      f'--tokens={tokens}: product codes need a score that is the best cosine '
      f'or product with a token, and that of {type(retriever.model).__name__} '
      'is not; choose float16 or int8'
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
    form = _Form(
      former.tokens, former.sub_vectors, store.codebooks, former.registers > 0
    )
    segments, sizes = _write_segments(
      root, retriever, videos, form, mesh, show, elsewhere
    )
    there = {name: getattr(former, name) for name in sizes}
    if sizes != there:
      raise UserError(
        f'{directory} has {there} per video, the new ones have {sizes}; read '
        'them with the config of the index'
      )
    segments = (*former.segments, *segments)
    manifest = dataclasses.replace(former, segments=segments)
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
  """Writes videos as a segment of an index that another process has locked.

  That process names the segment in the manifest (see `Elsewhere`). A segment
  that exists stays as it is.
  """
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
  form: _Form,
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
    if form.has_products:
      raise UserError(
        f'product codes (tokens {form.tokens}) are made from all videos in one '
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
        scaled=retriever.model.token_score == 'cosine',
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
  """Encodes the videos and writes their arrays; returns a video's sizes."""
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
        codes.sub_vectors(width, form.sub_vectors) if form.has_products else 0
      )
      if not files:
        for name, (shape, dtype) in specs.items():
          files[name] = open_files.enter_context(
            array_file(folder / f'{name}.npy', (count, *shape), dtype)
          )
      rows['durations'] = np.asarray(videos.durations)[start:][:here]
      for name, (_, dtype) in specs.items():
        # Not memory-mapped: a full disk should be an error, not a signal.
        files[name].write(np.ascontiguousarray(rows[name], dtype).data)
      progress.update(here)
      start += here
  if start != count:
    raise ValueError(f'{start} videos came where {count} were expected')
  return sizes
