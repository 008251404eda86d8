"""A retriever, trained or not: model, variables and their digest."""

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float

from dreamprvr_jax import checkpoints
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.models.contract import Model
from dreamprvr_jax.models.training_free import TrainingFree
from dreamprvr_jax.trained.inference import load, model_of
from dreamprvr_jax.training_free import rows as free_rows
from dreamprvr_jax.training_free.moments import BETA, WAVELET, check_beta
from dreamprvr_jax.training_free.wavelets import filters

# Retrievers that need no checkpoint, and their settings.
FREE: dict[str, dict[str, Any]] = {
  'best_frame': {},
  'tf_prvr': {'wavelet': WAVELET, 'beta': BETA},
}
# Keys of an encoder's identity that say where it was found; its weights
# identify it.
PLACES = ('model', 'revision')


@dataclasses.dataclass(frozen=True)
class Retriever:
  """A retriever: a checkpoint, or one that needs no training.

  Attributes:
    checkpoint: The folder of its checkpoint; without one, its name.
    model: The Flax module.
    variables: Its variables.
    digest: 16 hexadecimal digits of the variables' SHA-256; without variables
      that of its settings and of the encoder's identity.
    stored: Its config.json, with the config that the model was built from, the
      widths of its features, and `encoder`, their identity, if known.
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
    stored = checkpoints.read_config(checkpoint)
    whole = config or stored['config']
    given = dict(whole['model'])
    if given.get('name') in FREE:
      require_float32(given['name'], whole['dtype'])
      # Without weights: its settings are all there is.
      return dataclasses.replace(
        cls.free(
          given.pop('name'),
          stored.get('encoder'),
          width=stored['visual_width'],
          **given,
        ),
        checkpoint=str(checkpoint),
      )
    model, variables = load(checkpoint, config)
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

  @classmethod
  def free(
    cls,
    name: str,
    encoder: Mapping[str, Any] | None = None,
    *,
    width: int = 0,
    **settings: Any,
  ) -> 'Retriever':
    """Returns a retriever that needs no training, and so no checkpoint.

    Its `stored` has the same keys as a checkpoint's config.json.

    Args:
      name: A key of `FREE`.
      encoder: Identity of the encoder of frames and sentences, see
        `archive.encoders.encoder.Encoder.identity`; None if unknown.
      width: Numbers of a frame vector and of a sentence vector; 0 for the
        encoder's.
      **settings: Settings of `FREE[name]` that have another value.

    Raises:
      UserError: If the name or a setting is unknown or impossible, or no width
        is known.
    """
    if name not in FREE:
      raise UserError(
        f'there is no retriever {name!r} that needs no training; choose '
        f'{" or ".join(FREE)}'
      )
    unknown = sorted(set(settings) - set(FREE[name]))
    if unknown:
      raise UserError(
        f'{name} has no setting {unknown[0]!r}; it has '
        f'{", ".join(FREE[name]) or "none"}'
      )
    settings = {**FREE[name], **settings}
    if name == 'tf_prvr':
      filters(settings['wavelet'])
      check_beta(settings['beta'])
    encoder = dict(encoder or {})
    width = width or encoder.get('visual_width', 0)
    if width < 1:
      raise UserError(
        f'{name} needs the width of its frame vectors; name their encoder'
      )
    config = {
      'dtype': 'float32',
      'data': {
        'num_clips': 1,
        'max_frames': free_rows.ROW_TOKENS,
        'max_words': 1,
      },
      'model': {'name': name, **settings},
    }
    identity = {k: v for k, v in encoder.items() if k not in PLACES}
    facts = json.dumps([name, settings, identity, width], sort_keys=True)
    stored = {
      'config': config,
      'visual_width': width,
      'text_width': width,
    }
    if encoder:
      stored['encoder'] = encoder
    digest = hashlib.sha256(facts.encode()).hexdigest()[:16]
    return cls(name, model_of(config), {}, digest, stored)

  @classmethod
  def from_facts(cls, facts: Mapping[str, Any]) -> 'Retriever':
    """Returns the retriever that `facts` describe.

    Raises:
      UserError: If they do not describe one; see `free`.
    """
    given = dict(facts)
    name = given.pop('name', None)
    if not isinstance(name, str):
      raise UserError(f'{facts!r:.80} does not name a retriever')
    return cls.free(name, **given)

  @property
  def facts(self) -> dict[str, Any]:
    """What makes a retriever without training, as a JSON object for
    `from_facts`; empty for a checkpoint."""
    if not self.is_free:
      return {}
    return {
      **self.stored['config']['model'],
      'width': self.stored['visual_width'],
      'encoder': self.stored.get('encoder', {}),
    }

  @property
  def encode_one(self) -> Callable[..., np.ndarray] | None:
    """Encodes one query, from its words (1, words, e) and their mask; None
    unless the query encoder was kept, see `trained.kept`."""
    return None

  @property
  def is_free(self) -> bool:
    """Whether it needs no training, and so no checkpoint."""
    return isinstance(self.model, TrainingFree)

  @property
  def is_plain(self) -> bool:
    """Whether a branch's score is the best cosine of the query with a token, or
    the best product of the unit query with a token."""
    return self.model.token_score != 'other'

  def require_tokens_alone(self) -> None:
    """Raises UserError unless an index stores all that the score reads of a
    video: its tokens."""
    for reads, what, key in (
      (self.model.reads_registers, 'TRACE, which reads registers', 'trace'),
      (
        self.model.reads_features,
        "the sentence's best frame, which reads frame features",
        'sentence',
      ),
    ):
      if reads:
        raise UserError(
          f'{self.checkpoint} scores with {what}, but a search reads clip and '
          'frame tokens alone; write a checkpoint that scores without it '
          f'(--mode=export --checkpoint={self.checkpoint} --out=DIR '
          f'--config.model.{key}_weight=0) and index with that'
        )

  def rows(
    self,
    features: Float[np.ndarray, 'n d'],
    *,
    times: Float[np.ndarray, ' n'] | None = None,
    start: float = 0.0,
    duration: float = math.nan,
  ) -> dict[str, np.ndarray]:
    """Returns a stretch of a video as r rows of an index; only without
    training. `archive.index.encoding` does so for every retriever.

    Args:
      features: Frame vectors of the stretch, in time order.
      times: Seconds of the whole file at which they were taken, rising; None if
        they share the stretch evenly.
      start: Second of the whole file at which the stretch begins.
      duration: Seconds of the stretch, NaN if unknown.

    Returns:
      With f = `training_free.rows.ROW_TOKENS`: clip_tokens (r, 1, d) and
      frame_tokens (r, f, d) float32, frame_mask (r, f) bool, clip_edges (r, 2)
      and frame_edges (r, f + 1) float32, fractions of the row's own stretch,
      starts and durations (r,) float64 seconds. Padded tokens repeat the last.

    Raises:
      UserError: If a frame vector has no direction or is not finite.
    """
    model = dict(self.stored['config']['model'])
    return free_rows.rows_of(
      model.pop('name'),
      features,
      times=times,
      start=start,
      duration=duration,
      **model,
    )

  def words(
    self, features: Any, mask: Any = None
  ) -> tuple[Float[np.ndarray, 'n l e'], Bool[np.ndarray, 'n l']]:
    """Returns word features and their mask in the shape that was trained.

    Where a model reads sentences (`Model.reads`), the sentence vector of a
    query is its only word.

    Args:
      features: (n, words, e), or (words, e) of one query; a sentence vector may
        be (e,).
      mask: (n, words) or (words,), which of them are real; all if None. Words
        beyond the model's maximum are cut off.

    Raises:
      UserError: If the shape does not fit, a number is not finite, or a query
        has no word.
    """
    width = self.stored['text_width']
    length = self.stored['config']['data']['max_words']
    found = np.asarray(features, np.float32)
    if found.shape == (0,) or (found.ndim == 3 and not len(found)):
      raise UserError('no query was given; give at least one')
    sentence = self.model.reads == 'sentence'
    found = found[None] if found.ndim == 1 and sentence else found
    found = found[None] if found.ndim == 2 else found
    if sentence and found.ndim == 3 and found.shape[1] != 1:
      raise UserError(
        f'{self.checkpoint} reads one vector of a whole sentence, but the '
        f'features have the shape {np.shape(features)}; give (queries, 1, '
        f"{width}) or ({width},), the encoder's sentence vectors"
      )
    if found.ndim != 3 or found.shape[-1] != width:
      raise UserError(
        f'word features have the shape {np.shape(features)}; expected '
        f'(queries, words, {width}) or (words, {width}), as {self.checkpoint} '
        'was trained with'
      )
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


def require_float32(name: str, dtype: str) -> None:
  """Raises UserError unless a retriever without training is to compute in
  float32."""
  if dtype != 'float32':
    raise UserError(
      f'{name} computes in float32, but config.dtype is {dtype!r}; leave the '
      'key out'
    )
