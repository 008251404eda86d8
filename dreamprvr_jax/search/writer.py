"""Writing an index: making one, adding videos, removing some.

Videos become a segment in a folder of its own; what counts is the manifest,
which is replaced in one step when all else is on disk. Whenever a write is
stopped, the index is what it was.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from dreamprvr_jax import parallel
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.interop.retriever import Retriever
from dreamprvr_jax.progress import bar
from dreamprvr_jax.search.manifest import (
  MANIFEST,
  SEGMENTS,
  TOKENS,
  Manifest,
  Segment,
)
from dreamprvr_jax.search.quantization import quantize
from dreamprvr_jax.search.store import IDS, Store, array_specs
from dreamprvr_jax.types import VideoEncoding

_LOCK = '.lock'


@dataclasses.dataclass(frozen=True)
class Videos:
  """Videos to be added.

  Attributes:
    ids: Their ids, all different.
    durations: Their seconds, NaN where unknown.
    batches: Starts a pass over their features, in the order of `ids`: dicts
      of `clip_features` (b, c, e), `frame_features` (b, f, e), `frame_mask`
      (b, f), `video_mask` (b,), which is False for padding at the end, and
      of merged clips `clip_sizes` (b, c).
  """

  ids: Sequence[str]
  durations: Float[np.ndarray, ' v']
  batches: Callable[[], Iterable[Mapping[str, np.ndarray]]]


def create(
  directory: os.PathLike[str] | str,
  retriever: Retriever,
  videos: Videos,
  *,
  tokens: str = 'float16',
  mesh: Mesh | None = None,
  show: bool = False,
) -> Manifest:
  """Makes an index, in the place of the one that is there, if any.

  Args:
    directory: Where.
    retriever: What encodes the videos.
    videos: The videos.
    tokens: How they are stored, one of `TOKENS`.
    mesh: Devices that encode; all if None.
    show: Whether a progress bar is shown.

  Raises:
    UserError: If there is nothing to index, an id is there twice, tokens are
      not finite, or another process writes to the index.
  """
  if tokens not in TOKENS:
    raise UserError(
      f'--tokens={tokens} is unknown; choose one of {", ".join(TOKENS)}'
    )
  with _locked(directory) as root:
    segment, sizes = _write_segment(root, retriever, videos, tokens, mesh, show)
    where = str(pathlib.Path(retriever.checkpoint).absolute())
    manifest = Manifest(where, retriever.digest, tokens, *sizes, (segment,))
    manifest.write(root)
    _clean(root, manifest)
  return manifest


def append(
  directory: os.PathLike[str] | str,
  retriever: Retriever,
  videos: Videos,
  *,
  mesh: Mesh | None = None,
  show: bool = False,
) -> Manifest:
  """Adds videos to an index; those that are there are not encoded again.

  Raises:
    UserError: As `create`, and if the index is of another retriever or has
      one of the videos already.
  """
  with _locked(directory) as root:
    store = Store(root)
    former = store.manifest
    check_retriever(root, former, retriever)
    there = store.rows_of()
    twice = [video for video in videos.ids if video in there]
    if twice:
      raise UserError(
        f'{directory} has the video {twice[0]!r} already, and {len(twice) - 1} '
        'others of those that are to be added; remove them first'
      )
    segment, sizes = _write_segment(
      root, retriever, videos, former.tokens, mesh, show
    )
    if sizes != (former.clips, former.frames, former.width):
      raise UserError(
        f'{directory} has (clips, frames, width) '
        f'{(former.clips, former.frames, former.width)} per video, those to be '
        f'added {sizes}; read them with the config of the index'
      )
    segments = (*former.segments, segment)
    manifest = dataclasses.replace(former, segments=segments)
    manifest.write(root)
    _clean(root, manifest)
  return manifest


def remove(directory: os.PathLike[str] | str, ids: Iterable[str]) -> Manifest:
  """Takes videos out of an index. Their room on disk is free when all videos
  that were added with them are out.

  Raises:
    UserError: If one is not there; then all stay.
  """
  with _locked(directory) as root:
    store = Store(root)
    rows = store.rows_of()
    wanted = list(dict.fromkeys(ids))
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
    _clean(root, manifest)
  return manifest


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


@contextlib.contextmanager
def _locked(directory: os.PathLike[str] | str) -> Iterator[pathlib.Path]:
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


def _clean(root: pathlib.Path, manifest: Manifest | None) -> None:
  """Removes what the manifest does not name."""
  named = {segment.name for segment in manifest.segments} if manifest else set()
  for path in (root / SEGMENTS).glob('*'):
    if path.name not in named:
      shutil.rmtree(path)


def _write_segment(
  root: pathlib.Path,
  retriever: Retriever,
  videos: Videos,
  tokens: str,
  mesh: Mesh | None,
  show: bool,
) -> tuple[Segment, tuple[int, int, int]]:
  """Writes a segment that no manifest names yet.

  Returns:
    The segment; clips, frames and width of its tokens.
  """
  if not videos.ids:
    raise UserError('there is no video to index')
  if len(set(videos.ids)) < len(videos.ids):
    raise UserError('a video is to be indexed twice; leave one of them out')
  # The rest of a write that was stopped takes room.
  _clean(root, Manifest.read(root) if (root / MANIFEST).exists() else None)
  segment = Segment(uuid.uuid4().hex, len(videos.ids))
  folder = root / SEGMENTS / segment.name
  folder.mkdir(parents=True)
  try:
    sizes = _write_arrays(folder, retriever, videos, tokens, mesh, show)
    with (folder / IDS).open('w') as file:
      json.dump(list(videos.ids), file)
      file.flush()
      os.fsync(file.fileno())
  except BaseException:
    shutil.rmtree(folder, ignore_errors=True)
    raise
  return segment, sizes


def _write_arrays(
  folder: pathlib.Path,
  retriever: Retriever,
  videos: Videos,
  tokens: str,
  mesh: Mesh | None,
  show: bool,
) -> tuple[int, int, int]:
  """Encodes the videos and writes what is kept; returns the sizes."""
  sizes, start, count = (0, 0, 0), 0, len(videos.ids)
  with contextlib.ExitStack() as open_files:
    files: dict[str, BinaryIO] = {}
    progress = open_files.enter_context(
      bar([], 'encoding videos', total=count, show=show)
    )
    for encoding, edges in _encode(retriever, videos, mesh):
      clips, width = encoding.clip_tokens.shape[1:]
      sizes = (clips, encoding.frame_mask.shape[1], width)
      specs = array_specs(Manifest('', '', tokens, *sizes, ()))
      if not files:
        for name, (shape, dtype) in specs.items():
          files[name] = open_files.enter_context(
            _array_file(folder / f'{name}.npy', (count, *shape), dtype)
          )
      rows = _rows(encoding, edges, start)
      rows['durations'] = np.asarray(videos.durations)[start:][: len(edges)]
      for name, (_, dtype) in specs.items():
        # Not memory-mapped: a full disk is to be an error, not a signal.
        files[name].write(np.ascontiguousarray(rows[name], dtype).data)
      progress.update(len(edges))
      start += len(edges)
  if start != count:
    raise ValueError(f'{start} videos came where {count} were named')
  return sizes


@contextlib.contextmanager
def _array_file(
  path: pathlib.Path, shape: tuple[int, ...], dtype: Any
) -> Iterator[BinaryIO]:
  """Opens a .npy file behind its header; in the end all is on disk."""
  header = {
    'descr': np.lib.format.dtype_to_descr(np.dtype(dtype)),
    'fortran_order': False,
    'shape': shape,
  }
  with path.open('wb') as file:
    np.lib.format.write_array_header_1_0(file, header)
    yield file
    file.flush()
    os.fsync(file.fileno())


def _rows(
  encoding: VideoEncoding, edges: Float[np.ndarray, 'b c+1'], start: int
) -> dict[str, np.ndarray]:
  """Returns what may be stored of some videos, by array."""
  rows = {'clip_edges': edges, 'frame_mask': encoding.frame_mask}
  for branch in ('clip', 'frame'):
    found = np.asarray(getattr(encoding, f'{branch}_tokens'), np.float32)
    if not np.abs(found).max(initial=0) <= np.finfo(np.float16).max:
      raise UserError(
        f'{branch} tokens of the videos {start} to {start + len(edges) - 1} '
        '(counted from 0) are not finite as float16; check their features and '
        'the checkpoint'
      )
    codes, scales = quantize(found)
    rows |= {
      f'{branch}_tokens': found,
      f'{branch}_codes': codes,
      f'{branch}_scales': scales,
    }
  return rows


def _encode(
  retriever: Retriever, videos: Videos, mesh: Mesh | None
) -> Iterator[tuple[VideoEncoding, Float[np.ndarray, 'b c+1']]]:
  """Yields the encodings of the videos, padding left out, and clip edges."""
  mesh = mesh or parallel.make_mesh()
  variables = parallel.replicate(retriever.variables, mesh)
  encode = jax.jit(
    lambda variables, arrays: retriever.model.apply(
      variables, *arrays, method='encode_video'
    ),
    in_shardings=(parallel.replicated(mesh), parallel.by_row(mesh)),
  )
  names = ('clip_features', 'frame_features', 'frame_mask', 'clip_sizes')
  for batch in videos.batches():
    real = np.asarray(batch['video_mask'])
    # The devices share a batch evenly.
    short = -len(real) % mesh.size
    arrays = [
      np.pad(x, ((0, short), *((0, 0),) * (x.ndim - 1)))
      for x in (batch[name] for name in names if name in batch)
    ]
    encoding = jax.tree.map(
      lambda x, real=real: np.asarray(x)[: len(real)][real],
      encode(variables, arrays),
    )
    clips = encoding.clip_tokens.shape[1]
    sizes = np.asarray(batch.get('clip_sizes', np.ones((len(real), clips))))
    ends = np.cumsum(sizes[real], axis=1, dtype=np.float64)
    edges = np.pad(ends / ends[:, -1:], ((0, 0), (1, 0)))
    yield encoding, edges.astype(np.float32)
