"""Videos as rows of an index."""

from collections.abc import Callable, Iterable, Iterator, Mapping

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from dreamprvr_jax.archive.index.quantization import quantize
from dreamprvr_jax.devices import parallel
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.trained.retriever import Retriever


def encoded_rows(
  retriever: Retriever,
  batches: Callable[[], Iterable[Mapping[str, np.ndarray]]],
  mesh: Mesh | None,
) -> Iterator[dict[str, np.ndarray]]:
  """Yields what may be stored of some videos, by array; see
  `store.array_specs`. Padding is left out; `durations` are not there.

  Args:
    retriever: What encodes them.
    batches: Of `writer.Videos`.
    mesh: Devices that encode; all if None.

  Raises:
    UserError: If tokens are not finite as float16.
  """
  mesh = mesh or parallel.make_mesh()
  variables = parallel.replicate(retriever.variables, mesh)

  def encode(variables, arrays):
    return retriever.model.apply(
      variables, *arrays, method='encode_video_and_registers'
    )

  program = jax.jit(
    encode, in_shardings=(parallel.replicated(mesh), parallel.by_row(mesh))
  )
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
    tokens = {
      'clip': encoding.clip_tokens,
      'frame': encoding.frame_tokens,
      'register': registers,
    }
    for kind, found in tokens.items():
      if found is None:
        continue
      found = tokens[kind] = np.asarray(found, np.float32)
      if not np.abs(found).max(initial=0) <= np.finfo(np.float16).max:
        raise UserError(
          f'{kind} tokens of the videos {start} to {start + real.sum() - 1} '
          '(counted from 0) are not finite as float16; check their features '
          'and the checkpoint'
        )
    start += int(real.sum())
    clips = tokens['clip'].shape[1]
    sizes = batch.get('clip_sizes', np.ones((len(real), clips)))
    rows = {
      'clip_edges': _edges(np.asarray(sizes)[real]),
      'frame_mask': encoding.frame_mask,
    }
    if registers is not None:
      rows['registers'] = tokens['register']
    for branch in ('clip', 'frame'):
      codes, scales = quantize(tokens[branch])
      rows |= {
        f'{branch}_tokens': tokens[branch],
        f'{branch}_codes': codes,
        f'{branch}_scales': scales,
      }
    yield rows


def _edges(sizes: Float[np.ndarray, 'b c']) -> Float[np.ndarray, 'b c+1']:
  """Returns the borders of clips as fractions of the video."""
  ends = np.cumsum(sizes, axis=1, dtype=np.float64)
  edges = np.pad(ends / ends[:, -1:], ((0, 0), (1, 0)))
  return edges.astype(np.float32)
