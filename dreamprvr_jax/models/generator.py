"""DiffusionRet's generators: the scores of a list of candidates, denoised.

For one query and n candidates a generator turns n noisy scores into n clean
ones. `terms` computes once per list what depends neither on the scores nor on
the step, `step_terms` once per model what depends on the step alone; `denoise`
adds the rest, which is small (docs/method.md, "Generators"). One head, float32,
no norm, no dropout.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.layers import initializers
from dreamprvr_jax.layers.sinusoids import sinusoid_table
from dreamprvr_jax.numerics import FEATURE_NORMS, MASKED, with_norm

MASK_MODES = ('before', 'after')


@struct.dataclass
class ListTerms:
  """Terms of a list that are the same in all steps; axis n: candidates."""

  candidates: Float[Array, 'b n d']  # U_a of videos, y_a of texts
  content: Float[Array, 'b n']  # part of the logits
  hidden: Float[Array, 'b n w']  # part of the decoder; w = 2d
  mask: Bool[Array, 'b n']  # real candidates
  pooled: Float[Array, 'b n d'] | None = None  # the video as each text sees it


@struct.dataclass
class StepTerms:
  """Terms of a step that are the same for all lists, by step number."""

  key: Float[Array, 't d']  # compared with the candidates
  pooled_key: Float[Array, 't d']  # compared with `pooled`
  hidden: Float[Array, 't w']  # part of the decoder; w = 2d


class Map(nn.Module):
  """A linear map whose kernel and bias are also used on their own."""

  inputs: int
  outputs: int
  use_bias: bool = True

  def setup(self):
    shape = (self.inputs, self.outputs)
    self.kernel = initializers.parameter(
      self, 'kernel', initializers.WEIGHT, shape
    )
    if self.use_bias:
      zeros = nn.initializers.zeros
      self.bias = initializers.parameter(self, 'bias', zeros, (self.outputs,))

  def __call__(self, x: Float[Array, '*rows i']) -> Float[Array, '*rows o']:
    y = x @ self.kernel
    return y + self.bias if self.use_bias else y


class ScoreGenerator(nn.Module):
  """The common part of both directions.

  Attributes:
    width: d.
    num_steps: T, length of the diffusion process.
    pool_temperature: Divides the logits of the pooling over frames.
    mask_mode: Whether padding is removed 'before' that softmax, or 'after' it
      without normalising again (released).
    feature_norm: Norm of queries and frames: 'raw' (unchanged, released),
      'unit', or 'scaled' to `feature_scale`.
    feature_scale: Norm of 'scaled' features.
  """

  width: int
  num_steps: int
  pool_temperature: float
  mask_mode: str
  feature_norm: str
  feature_scale: float

  def setup(self):
    for what, value, known in (
      ('mask_mode', self.mask_mode, MASK_MODES),
      ('feature_norm', self.feature_norm, FEATURE_NORMS),
    ):
      if value not in known:
        raise UserError(f'{what} {value!r} is unknown; choose from {known}')
    d = self.width
    plain = lambda: Map(d, d, use_bias=False)
    self.q_proj, self.k_proj, self.v_proj = plain(), plain(), plain()
    self.proj = Map(d, d)
    self.time_embed_0, self.time_embed_2 = Map(d, d), Map(d, d)
    self.decoder_0, self.decoder_2 = Map(2 * d, 2 * d), Map(2 * d, 1)

  def time_embedding(self) -> Float[Array, 't d']:
    """Returns c_k of every step."""
    table = jnp.asarray(sinusoid_table(self.num_steps, self.width))
    return self.time_embed_2(jax.nn.silu(self.time_embed_0(table)))

  def step_terms(self) -> StepTerms:
    """Returns the terms of all steps."""
    c = self.time_embedding()
    return StepTerms(
      key=self.q_proj(c) @ self.k_proj.kernel.T,
      pooled_key=self.k_proj(c) @ self.q_proj.kernel.T,
      hidden=self._of_list(c) + self.proj.bias @ self._list_half,
    )

  def denoise(
    self, x: Float[Array, 'b n'], steps: StepTerms, lists: ListTerms
  ) -> Float[Array, 'b n']:
    """Returns the estimate of the clean scores, not clipped.

    Args:
      x: Noisy scores.
      steps: Terms of one step for all lists, leaves (d,), or of one step per
        list, (b, d).
      lists: From `terms`.
    """
    compare = lambda keys, key: jnp.sum(keys * key[..., None, :], axis=-1)
    logits = lists.content + compare(lists.candidates, steps.key) + x
    if lists.pooled is not None:
      logits = logits + compare(lists.pooled, steps.pooled_key)
    logits = jnp.where(lists.mask, logits, MASKED)
    weights = jax.nn.softmax(logits, axis=-1)
    whole = jnp.einsum('bn,bnd->bd', weights, lists.candidates)
    of_list = self._of_list(whole) + steps.hidden
    hidden = jax.nn.relu(lists.hidden + of_list[:, None])
    return self.decoder_2(hidden)[..., 0] + weights

  def __call__(
    self,
    x: Float[Array, 'b n'],
    steps: Int[Array, ' b'],
    query: Any,
    candidates: Any,
    frame_mask: Bool[Array, '...'],
    mask: Bool[Array, 'b n'],
  ) -> Float[Array, 'b n']:
    """Returns the estimate at one step per list; see `denoise`, `terms`."""
    table = jax.tree.map(lambda leaf: leaf[steps], self.step_terms())
    return self.denoise(
      x, table, self.terms(query, candidates, frame_mask, mask)
    )

  def terms(
    self, query: Any, candidates: Any, frame_mask: Any, mask: Any
  ) -> ListTerms:
    """Returns the terms of some lists; a direction defines them."""
    raise TypeError(f'{type(self).__name__} has no direction')

  @property
  def _list_half(self) -> Float[Array, 'd w']:
    """The decoder's weights for the list's vector; it comes first."""
    return self.decoder_0.kernel[: self.width]

  def _of_list(self, x: Float[Array, '*rows d']) -> Float[Array, '*rows w']:
    """Returns the decoder's part for a mean of candidates, without bias."""
    return self.v_proj(x) @ self.proj.kernel @ self._list_half

  def _of_candidates(
    self, candidates: Float[Array, 'b n d']
  ) -> Float[Array, 'b n w']:
    half = self.decoder_0.kernel[self.width :]
    return candidates @ half + self.decoder_0.bias

  def _normed(
    self, features: Float[Array, '*rows d']
  ) -> Float[Array, '*rows d']:
    features = features.astype(jnp.float32)
    return with_norm(features, self.feature_norm, self.feature_scale)

  def _pooling(
    self, logits: Float[Array, 'b n f'], mask: Bool[Array, 'b _ f']
  ) -> Float[Array, 'b n f']:
    logits = logits / self.pool_temperature
    if self.mask_mode == 'before':
      logits = jnp.where(mask, logits, MASKED)
    return jnp.where(mask, jax.nn.softmax(logits, axis=-1), 0.0)


class TextToVideoGenerator(ScoreGenerator):
  """Scores of n videos for a text; docs/method.md, "Generators"."""

  def terms(self, query, candidates, frame_mask, mask) -> ListTerms:
    """Returns the terms of some lists.

    Args:
      query: (b, d) texts.
      candidates: (b, n, f, d) frames of each list's videos.
      frame_mask: (b, n, f) bool.
      mask: (b, n) bool, real candidates.
    """
    query, frames = self._normed(query), self._normed(candidates)
    logits = jnp.einsum('bd,bnfd->bnf', query, frames)
    weights = self._pooling(logits, frame_mask)
    pooled = jnp.einsum('bnf,bnfd->bnd', weights, frames)
    key = self.q_proj(query) @ self.k_proj.kernel.T
    return ListTerms(
      candidates=pooled,
      content=jnp.einsum('bnd,bd->bn', pooled, key),
      hidden=self._of_candidates(pooled),
      mask=mask,
    )


class VideoToTextGenerator(ScoreGenerator):
  """Scores of n texts for a video; docs/method.md, "Generators".

  No command uses it: this program retrieves videos. Released checkpoints have
  both directions, and their authors trained and clipped both together, so the
  golden updates need it.
  """

  def terms(self, query, candidates, frame_mask, mask) -> ListTerms:
    """Returns the terms of some lists.

    Args:
      query: (b, f, d) frames of the videos.
      candidates: (b, n, d) texts.
      frame_mask: (b, f) bool.
      mask: (b, n) bool, real candidates.
    """
    frames, texts = self._normed(query), self._normed(candidates)
    logits = jnp.einsum('bnd,bfd->bnf', texts, frames)
    weights = self._pooling(logits, frame_mask[:, None])
    pooled = jnp.einsum('bnf,bfd->bnd', weights, frames)
    content = jnp.sum(self.q_proj(pooled) * self.k_proj(texts), axis=-1)
    return ListTerms(
      candidates=texts,
      content=content,
      hidden=self._of_candidates(texts),
      mask=mask,
      pooled=pooled,
    )


class CrossAttentionScorer(nn.Module):
  """The control of the generator: a query attends to the tokens of each
  candidate, without diffusion.

  A pre-norm block of as many parameters as a generator (10 d^2), and one
  score per candidate. It is called like `TextToVideoGenerator` but ignores the
  noisy scores and the step.
  """

  width: int
  num_heads: int = 4

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'b n'],
    steps: Int[Array, ' b'],
    query: Float[Array, 'b d'],
    candidates: Float[Array, 'b n f d'],
    frame_mask: Bool[Array, 'b n f'],
    mask: Bool[Array, 'b n'],
  ) -> Float[Array, 'b n']:
    """Returns the scores of the candidates."""
    del x, steps, mask
    d, heads = self.width, self.num_heads
    split = lambda y: y.reshape(*y.shape[:-1], heads, d // heads)
    norm = lambda name: nn.LayerNorm(name=name)
    query = query.astype(jnp.float32)
    frames = norm('frame_norm')(candidates.astype(jnp.float32))
    q = split(Map(d, d, name='q_proj')(norm('query_norm')(query)))
    # With one query, keys and values need not be computed for every token.
    keys = split(self._kernel('k_proj'))
    seen = jnp.einsum('bhk,dhk->bhd', q, keys)
    logits = jnp.einsum('bhd,bnfd->bnhf', seen, frames) * (d // heads) ** -0.5
    logits = jnp.where(frame_mask[:, :, None], logits, MASKED)
    pooled = jnp.einsum(
      'bnhf,bnfd->bnhd', jax.nn.softmax(logits, axis=-1), frames
    )
    values = split(self._kernel('v_proj'))
    mixed = jnp.einsum('bnhd,dhk->bnhk', pooled, values)
    mixed = mixed.reshape(*mixed.shape[:2], d)
    h = query[:, None] + Map(d, d, name='proj')(mixed)
    inner = jax.nn.relu(Map(d, 3 * d, name='inner')(norm('inner_norm')(h)))
    h = h + Map(3 * d, d, name='outer')(inner)
    return Map(d, 1, name='score')(norm('score_norm')(h))[..., 0]

  def _kernel(self, name: str) -> Float[Array, 'd d']:
    shape = (self.width, self.width)
    return initializers.parameter(self, name, initializers.WEIGHT, shape)
