"""DiffusionRet's generators as published: every step computes everything.

This is the baseline for `dreamprvr_jax.models.generator`, which has the same
parameters but computes terms that do not depend on the step once per list.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from dreamprvr_jax.layers.sinusoids import sinusoid_table


@dataclasses.dataclass(frozen=True)
class Direct:
  """The results of one pass.

  Attributes:
    output: (b, n).
    attention: (b, n) weights over the candidates.
    list_vector: (b, d).
  """

  output: Any
  attention: Any
  list_vector: Any


def run(
  direction: str,
  params: Any,
  x: Any,
  steps: Any,
  query: Any,
  candidates: Any,
  frame_mask: Any,
  *,
  mask_mode: str = 'after',
) -> Direct:
  """Returns one pass of the generator called 't2v' or 'v2t'
  (docs/method.md, "Generators"), features taken as they are.

  Args:
    direction: Which generator.
    params: Its parameters.
    x: (b, n) noisy scores.
    steps: (b,) step numbers.
    query: (b, d) texts, or (b, f, d) frames.
    candidates: (b, n, f, d) frames, or (b, n, d) texts.
    frame_mask: (b, n, f) or (b, f) bool.
    mask_mode: 'after' as released, or 'before'.
  """

  def affine(name: str, z: Any) -> Any:
    return z @ params[name]['kernel'] + params[name].get('bias', 0.0)

  is_text_to_video = direction == 't2v'
  texts, frames = (
    (query, candidates) if is_text_to_video else (candidates, query)
  )
  product = 'bd,bnfd->bnf' if is_text_to_video else 'bnd,bfd->bnf'
  logits = jnp.einsum(product, texts, frames)
  mask = frame_mask if is_text_to_video else frame_mask[:, None]
  if mask_mode == 'before':
    logits = jnp.where(mask, logits, -1e9)
  weights = jax.nn.softmax(logits, axis=-1) * mask
  product = 'bnf,bnfd->bnd' if is_text_to_video else 'bnf,bfd->bnd'
  pooled = jnp.einsum(product, weights, frames)

  table = jnp.asarray(sinusoid_table(5000, texts.shape[-1]))[jnp.asarray(steps)]
  c = affine('time_embed_2', jax.nn.silu(affine('time_embed_0', table)))[
    :, None
  ]
  if is_text_to_video:
    asked, listed = query[:, None], pooled
  else:
    asked, listed = pooled, candidates
  q = affine('q_proj', asked + c)
  k, v = affine('k_proj', listed + c), affine('v_proj', listed + c)
  attention = jax.nn.softmax(jnp.sum(q * k, axis=-1) + x, axis=-1)
  vector = affine('proj', jnp.einsum('bn,bnd->bd', attention, v))
  repeated = jnp.broadcast_to(vector[:, None], listed.shape)
  both = jnp.concatenate([repeated, listed], axis=-1)
  hidden = jax.nn.relu(affine('decoder_0', both))
  output = affine('decoder_2', hidden)[..., 0] + attention
  return Direct(output, attention, vector)
