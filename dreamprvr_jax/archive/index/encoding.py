"""Videos as rows of an index, and the product codes of these rows."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float

from dreamprvr_jax import text
from dreamprvr_jax.archive.index.array_files import array_file
from dreamprvr_jax.archive.index.codes import encode_products, train_codebook
from dreamprvr_jax.archive.index.layout import BRANCHES, codebook_name
from dreamprvr_jax.devices import meshes
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.models.contract import Model
from dreamprvr_jax.trained.retriever import Retriever

# Tokens of a branch that k-means sees: 128 per centre.
_SAMPLE = 2**15
# Videos coded at a time.
_BATCH = 64


@dataclasses.dataclass(frozen=True)
class Videos:
  """Videos to add to an index.

  Attributes:
    ids: Their ids, all different.
    durations: Their seconds, NaN where unknown.
    batches: Starts a pass over their features, in the order of `ids`. Yields
      dicts of `clip_features` (b, c, e), `frame_features` (b, f, e),
      `frame_mask` (b, f), `video_mask` (b,), which is False for padding at the
      end, and, for merged clips, `clip_sizes` (b, c), and, for frames of
      unequal length, `frame_edges` (b, f + 1).
  """

  ids: Sequence[str]
  durations: Float[np.ndarray, ' v']
  batches: Callable[[], Iterable[Mapping[str, np.ndarray]]]

  def named(self) -> 'Videos':
    """Returns the videos with ids in NFC, the form that an index stores.

    Raises:
      UserError: If an id is not valid text.
    """
    return dataclasses.replace(self, ids=[id_of(name) for name in self.ids])


def id_of(name: str) -> str:
  """Returns a video's id in NFC, the form that an index stores.

  Raises:
    UserError: If it is not valid text.
  """
  return text.check(name, f'the id {name!r} of a video')


def encoded_rows(
  retriever: Retriever,
  batches: Callable[[], Iterable[Mapping[str, np.ndarray]]],
  mesh: Mesh | None,
) -> Iterator[dict[str, np.ndarray]]:
  """Yields the arrays of some videos, by name; see `layout.array_specs`.

  Padding is left out, and `durations` are missing. Each row is a whole video.

  Args:
    retriever: Encodes the videos.
    batches: See `Videos`.
    mesh: Devices that encode; all if None.

  Raises:
    UserError: If tokens are not finite as float16.
  """
  mesh = mesh or meshes.make_mesh()
  variables = meshes.replicate(retriever.variables, mesh)
  program = _program(retriever.model, mesh)
  names = ('clip_features', 'frame_features', 'frame_mask', 'clip_sizes')
  start = 0
  for batch in batches():
    real = np.asarray(batch['video_mask'])
    # The devices share a batch evenly.
    short = -len(real) % mesh.size
    arrays = [
      np.pad(x, ((0, short), *((0, 0),) * (x.ndim - 1)))
      for x in (batch[name] for name in names if name in batch)
    ]
    encoding, registers = jax.tree.map(
      lambda x, real=real: np.asarray(x)[: len(real)][real],
      program(variables, arrays),
    )
    stop = start + int(real.sum())
    where = f'the videos {start} to {stop - 1} (counted from 0)'
    start = stop
    clips = finite(encoding.clip_tokens, 'clip', where)
    frames = finite(encoding.frame_tokens, 'frame', where)
    sizes = batch.get('clip_sizes', np.ones((len(real), clips.shape[1])))
    rows = {
      'clip_edges': clip_edges(np.asarray(sizes)[real]).astype(np.float32),
      'frame_mask': encoding.frame_mask,
      'frame_edges': (
        np.asarray(batch['frame_edges'])[real]
        if 'frame_edges' in batch
        else frame_edges(encoding.frame_mask)
      ),
      'starts': np.zeros(len(clips)),
      'cores': np.tile(np.array([0, 1], np.float32), (len(clips), 1)),
    }
    if registers is not None:
      rows['registers'] = finite(registers, 'register', where)
    rows['clip_tokens'], rows['frame_tokens'] = clips, frames
    yield rows


def _program(model: Model, mesh: Mesh) -> Callable[..., Any]:
  """Returns the jitted program from (variables, features) to the encoding of
  videos and their registers, None where the model has none."""

  def encode(variables, arrays):
    return model.apply(variables, *arrays, method='encode_video_and_registers')

  return jax.jit(
    encode, in_shardings=(meshes.replicated(mesh), meshes.by_row(mesh))
  )


def frame_edges(mask: Bool[np.ndarray, 'b f']) -> Float[np.ndarray, 'b f+1']:
  """Returns the borders of real frames that share their stretch evenly, as
  fractions of it, float32; 1 at padded frames."""
  counts = np.maximum(mask.sum(axis=1, keepdims=True), 1)
  places = np.arange(mask.shape[1] + 1)
  return np.minimum(places / counts, 1).astype(np.float32)


class TokensError(UserError):
  """Tokens of a video cannot be stored."""


def finite(tokens: np.ndarray, kind: str, where: str) -> np.ndarray:
  """Returns tokens as float32; raises TokensError unless they are finite as
  float16."""
  found = np.asarray(tokens, np.float32)
  if not np.abs(found).max(initial=0) <= np.finfo(np.float16).max:
    raise TokensError(
      f'{kind} tokens of {where} are not finite as float16; check their '
      'features and the checkpoint'
    )
  return found


def clip_edges(sizes: Float[np.ndarray, 'b c']) -> Float[np.ndarray, 'b c+1']:
  """Returns the borders of clips as fractions of their video, float64, from the
  numbers of frames in each clip."""
  ends = np.cumsum(sizes, axis=1, dtype=np.float64)
  return np.pad(ends / ends[:, -1:], ((0, 0), (1, 0)))


def add_products(
  folder: pathlib.Path,
  sub_vectors: int,
  codebooks: Mapping[str, Float[np.ndarray, 'm k w']],
  *,
  keep: bool,
  scaled: bool = True,
) -> None:
  """Writes the product codes of a segment's tokens and their codebooks.

  Args:
    folder: The folder of the segment, with float16 tokens.
    sub_vectors: Sub-vectors of a token.
    codebooks: The codebooks of the index; if empty, they are made from a sample
      of the segment.
    keep: Whether the float16 tokens stay.
    scaled: Whether tokens are scaled to unit length first: for cosines, not for
      products.
  """
  mask = np.load(folder / 'frame_mask.npy', mmap_mode='r')
  for branch in BRANCHES:
    path = folder / f'{branch}_tokens.npy'
    tokens = np.load(path, mmap_mode='r')
    if codebooks:
      codebook = codebooks[branch]
    else:
      real = np.ones(tokens.shape[:2], bool) if branch == 'clip' else mask
      sample = _sample(tokens, real)
      codebook = np.asarray(train_codebook(sample, sub_vectors, scaled=scaled))
    with (folder / codebook_name(branch)).open('wb') as file:
      np.save(file, codebook)
      file.flush()
      os.fsync(file.fileno())
    row = (sub_vectors, tokens.shape[1])
    with array_file(folder / f'{branch}_products.npy', row, np.uint8) as file:
      for start in range(0, len(tokens), _BATCH):
        few = tokens[start : start + _BATCH]
        # One size, so that one program is compiled.
        filled = np.pad(few, ((0, _BATCH - len(few)), (0, 0), (0, 0)))
        codes = encode_products(filled, codebook, scaled=scaled)
        file.write(np.asarray(codes[: len(few)]))
    del tokens
    if not keep:
      path.unlink()


def _sample(
  tokens: Float[np.ndarray, 'b s d'], real: np.ndarray
) -> Float[np.ndarray, 'n d']:
  """Returns a fixed sample of the real tokens, or of all if none is real."""
  places = np.flatnonzero(real if real.any() else np.ones_like(real))
  if len(places) > _SAMPLE:
    rng = np.random.default_rng(0)
    places = np.sort(rng.choice(places, _SAMPLE, replace=False))
  return tokens.reshape(-1, tokens.shape[-1])[places]
