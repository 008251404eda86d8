"""A trained retriever: model, variables and their digest."""

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float

from dreamprvr_jax import checkpoints
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.models.contract import Model
from dreamprvr_jax.trained.inference import load


@dataclasses.dataclass(frozen=True)
class Retriever:
  """A trained retriever.

  Attributes:
    checkpoint: Its folder.
    model: The Flax module.
    variables: Its variables.
    digest: 16 hexadecimal digits of the variables' SHA-256.
    stored: Its config.json, with the config that the model was built from.
  """

  checkpoint: str
  model: Model
  variables: Any
  digest: str
  stored: dict[str, Any]

  @classmethod
  def load(
    cls,
    checkpoint: os.PathLike[str] | str,
    config: Mapping[str, Any] | None = None,
  ) -> 'Retriever':
    """Returns the retriever of a workdir, an import or an export.

    Args:
      checkpoint: Its folder.
      config: A config to build the model from instead of the stored one.

    Raises:
      CheckpointError: If the checkpoint is missing or cannot be read, or if its
        weights do not fit a model of `config`.
    """
    model, variables = load(checkpoint, config)
    stored = checkpoints.read_config(checkpoint)
    if config is not None:
      stored['config'] = dict(config)
    hashed = hashlib.sha256()
    for leaf in jax.tree.leaves(variables):
      hashed.update(np.ascontiguousarray(leaf).data)
    return cls(
      str(checkpoint),
      model,
      variables,
      hashed.hexdigest()[:16],
      stored,
    )

  @property
  def is_plain(self) -> bool:
    """Whether a branch's score is the best cosine of the query with a token,
    which does not change if tokens are scaled."""
    return self.model.scores_best_tokens

  def words(
    self, features: Any, mask: Any = None
  ) -> tuple[Float[np.ndarray, 'n l e'], Bool[np.ndarray, 'n l']]:
    """Returns word features and their mask in the shape that was trained.

    Args:
      features: (n, words, e), or (words, e) of one query.
      mask: (n, words) or (words,), which of them are real; all if None. Words
        beyond the model's maximum are cut off.

    Raises:
      UserError: If the shape does not fit, a number is not finite, or a query
        has no word.
    """
    width = self.stored['text_width']
    length = self.stored['config']['data']['max_words']
    found = np.asarray(features, np.float32)
    found = found[None] if found.ndim == 2 else found
    if found.ndim != 3 or found.shape[-1] != width:
      raise UserError(
        f'word features have the shape {np.shape(features)}; expected '
        f'(queries, words, {width}) or (words, {width}), as {self.checkpoint} '
        'was trained with'
      )
    if not len(found):
      raise UserError('no query was given; give at least one')
    real = np.ones(found.shape[:2], bool)
    if mask is not None:
      real = np.atleast_2d(np.asarray(mask, bool))
    if real.shape != found.shape[:2]:
      raise UserError(
        f'the mask of the words has the shape {real.shape}, their features '
        f'{found.shape}; give one boolean per word'
      )
    if not np.isfinite(found[real]).all():
      raise UserError(
        'word features have numbers that are not finite; compute them again'
      )
    if not real[:, :length].any(axis=1).all():
      raise UserError('a query has no word; leave it out, or correct its mask')
    short = max(length - found.shape[1], 0)
    found = np.pad(found[:, :length], ((0, 0), (0, short), (0, 0)))
    real = np.pad(real[:, :length], ((0, 0), (0, short)))
    return np.where(real[..., None], found, 0), real
