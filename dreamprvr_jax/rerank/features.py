"""Input of a re-ranker: encodings of a split by a frozen retriever."""

import dataclasses
import pathlib
import zipfile
import zlib
from typing import Any

import jax
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from dreamprvr_jax import folders
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.evaluation.corpus import EncodedCorpus
from dreamprvr_jax.evaluation.evaluator import Evaluator
from dreamprvr_jax.progress import Watch

TOKENS = ('clip', 'frame', 'all')


@struct.dataclass
class RerankFeatures:
  """Encodings of n queries and v videos, and how they match."""

  queries: Any  # (n, d) float32, pooled
  tokens: Any  # (v, f, d)
  token_mask: Any  # (v, f) bool
  scores: Any = None  # (n, v) float32, of the retriever; only on the host

  def inputs(
    self, rows: Int[Array, ' b'], lists: Int[Array, 'b k']
  ) -> tuple[
    Float[Array, 'b d'], Float[Array, 'b k f d'], Bool[Array, 'b k f']
  ]:
    """Returns (queries, tokens, token masks) of some lists."""
    return self.queries[rows], self.tokens[lists], self.token_mask[lists]

  def of_videos(
    self, videos: Int[np.ndarray, ' m'], queries: Int[np.ndarray, ' k']
  ) -> 'RerankFeatures':
    """Returns the features of some videos and queries."""
    return RerankFeatures(
      queries=self.queries[queries],
      tokens=self.tokens[videos],
      token_mask=self.token_mask[videos],
      scores=self.scores[np.ix_(queries, videos)],
    )

  def on_device(self) -> 'RerankFeatures':
    """Returns the features without the scores, which devices do not need."""
    return dataclasses.replace(self, scores=None)


def encode(
  evaluator: Evaluator, variables: Any, tokens: str, watch: Watch
) -> RerankFeatures:
  """Returns the features of the evaluator's split, numpy.

  Args:
    evaluator: The split's evaluator.
    variables: The retriever's variables, replicated over the mesh.
    tokens: 'clip', 'frame' or 'all' of them.
    watch: Progress bars, and whether to stop.

  Raises:
    UserError: If `tokens` is unknown.
  """
  if tokens not in TOKENS:
    raise UserError(f'config.rerank.tokens is {tokens!r}; choose from {TOKENS}')
  blocks, corpus = evaluator.encode(variables, watch)
  count = len(evaluator.task.caption_ids)
  queries = evaluator.pick(blocks, np.arange(count, dtype=np.int32))
  found, mask = _tokens(corpus, tokens)
  return RerankFeatures(
    queries=np.asarray(evaluator.pooled(queries), np.float32),
    tokens=found,
    token_mask=mask,
    scores=evaluator.scores(variables, queries, corpus),
  )


def _tokens(
  corpus: EncodedCorpus, kind: str
) -> tuple[Float[np.ndarray, 'v f d'], Bool[np.ndarray, 'v f']]:
  """Returns the tokens of all videos in corpus order, and their mask."""
  found, masks = [], []
  for videos in corpus.whole():
    parts = []
    if kind != 'frame':
      clips = videos.clip_tokens
      parts.append((clips, np.ones(clips.shape[:2], bool)))
    if kind != 'clip':
      parts.append((videos.frame_tokens, videos.frame_mask))
    tokens, real = (np.concatenate(x, axis=1) for x in zip(*parts, strict=True))
    found.append(np.asarray(tokens, np.float32))
    masks.append(real)
  return np.concatenate(found), np.concatenate(masks)


def save(path: pathlib.Path, features: RerankFeatures, origin: str) -> None:
  """Writes features as an NPZ file, replacing the file in one step.

  Args:
    path: The file.
    features: Numpy arrays.
    origin: What `restore` compares: the retriever and the split.
  """
  with folders.replacing(path) as partial:
    np.savez(partial, origin=origin, **vars(features))


def restore(path: pathlib.Path, origin: str) -> RerankFeatures | None:
  """Returns the features of a file.

  Returns None if they have another origin or cannot be read.
  """
  if not path.exists() or not _is_whole(path):
    return None
  names = [field.name for field in dataclasses.fields(RerankFeatures)]
  try:
    with np.load(path) as file:
      found = {name: file[name] for name in ('origin', *names)}
  except (OSError, ValueError, KeyError):
    # A file of another program: the features are computed again.
    return None
  if str(found.pop('origin')) != origin:
    return None
  return RerankFeatures(**found)


def _is_whole(path: pathlib.Path) -> bool:
  """Returns whether every array of a file is as it was written.

  Checked before numpy reads it, which trusts a damaged shape.
  """
  try:
    with zipfile.ZipFile(path) as file:
      return file.testzip() is None
  except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile):
    return False


def place(features: RerankFeatures, sharding: Any) -> RerankFeatures:
  """Returns the features on the devices, without the scores."""
  return jax.device_put(features.on_device(), sharding)
