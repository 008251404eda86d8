"""Files of a split's scores, as `evaluate --scores` writes them."""

import dataclasses
import pathlib

import numpy as np
from jaxtyping import Float, Int

from data_pipeline.errors import ArrayError
from data_pipeline.npz import Npz
from dreamprvr_jax import folders
from dreamprvr_jax.errors import UserError

_NAMES = ('scores', 'queries', 'videos', 'right', 'seedless')


@dataclasses.dataclass(frozen=True)
class Scores:
  """The scores of a split.

  Attributes:
    path: The file.
    scores: Higher is better.
    queries: Id of each query.
    videos: Id of each video.
    right: The column of each query's own video.
    seedless: Whether they depend on no seed: nothing was trained.
  """

  path: str
  scores: Float[np.ndarray, 'n v']
  queries: list[str]
  videos: list[str]
  right: Int[np.ndarray, ' n']
  seedless: bool


def write(scores: Scores) -> None:
  """Writes scores; replaces the file in one step."""
  with folders.replacing(scores.path) as partial, partial.open('wb') as file:
    np.savez(
      file,
      scores=np.asarray(scores.scores, np.float32),
      queries=np.asarray(scores.queries),
      videos=np.asarray(scores.videos),
      right=np.asarray(scores.right, np.int32),
      seedless=np.asarray(scores.seedless),
    )


def paths(flag: str, value: str) -> list[str]:
  """Returns the files that a flag names.

  Raises:
    UserError: If it names none.
  """
  found = [path for path in value.split(',') if path]
  if not found:
    raise UserError(
      f'--{flag} names no file; give what evaluate --scores wrote'
    )
  return found


def read_like(path: str, first: Scores) -> Scores:
  """Returns the scores in a file, of the same split as those of the first.

  Raises:
    UserError: If it cannot be read, or has other queries or videos.
  """
  found = read(path)
  for name in ('queries', 'videos'):
    here, there = getattr(found, name), getattr(first, name)
    if here != there:
      raise UserError(
        f'{path} and {first.path} have other {name} ({len(here):,} and '
        f'{len(there):,}), or another order of them; give scores of one split, '
        'evaluated with the same data keys'
      )
  if not np.array_equal(found.right, first.right):
    raise UserError(
      f'{path} and {first.path} have other right videos; evaluate both with '
      'the same captions'
    )
  return found


def read(path: str) -> Scores:
  """Returns the scores in a file.

  Raises:
    UserError: If it is missing, damaged or no such file.
  """
  again = 'write it with evaluate --scores'
  try:
    with Npz(pathlib.Path(path), path) as file:
      missing = [name for name in _NAMES if name not in file.ids]
      if missing:
        raise UserError(
          f'{path} has no array {missing[0]!r}, only '
          f'{", ".join(file.ids) or "none"}; {again}'
        )
      arrays = {}
      for name in _NAMES:
        try:
          arrays[name] = file.read(name)
        except ArrayError as error:
          raise UserError(f'{path}: {name!r} {error}') from None
  except OSError as error:
    raise UserError(
      f'{path} cannot be read ({error.strerror}); {again}'
    ) from None
  scores, queries, videos, right, seedless = arrays.values()
  shapes = (len(queries), len(videos)), (len(queries),)
  if (
    (scores.shape, right.shape) != shapes
    or scores.dtype != np.float32
    or right.dtype != np.int32
    or not scores.size > 0
  ):
    raise UserError(
      f'{path}: the scores are {scores.dtype} {scores.shape} and the right '
      f'videos {right.dtype} {right.shape}, expected float32 {shapes[0]} and '
      f'int32 {shapes[1]}, with at least one query; {again}'
    )
  if not np.isfinite(scores).all() or not _are_columns(right, len(videos)):
    raise UserError(
      f'{path} has scores that are not finite, or right videos that are none '
      f'of its columns; {again}'
    )
  if seedless.dtype != np.bool_ or seedless.shape:
    raise UserError(
      f"{path}: 'seedless' is {seedless.dtype} {seedless.shape}, expected one "
      f'bool; {again}'
    )
  return Scores(
    path, scores, queries.tolist(), videos.tolist(), right, bool(seedless)
  )


def _are_columns(right: Int[np.ndarray, ' n'], count: int) -> bool:
  return bool(np.all((right >= 0) & (right < count)))
