"""Cross-entropy over lists of candidates.

Source: docs/method.md, "Listwise cross-entropy".
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dreamprvr_jax.numerics import MASKED


def listwise_entropy(
  scores: Float[Array, 'b n'], mask: Bool[Array, 'b n'], temperature: float
) -> Float[Array, ' b']:
  """Returns the cross-entropy of each list; its first candidate is the right
  one.

  Args:
    scores: Scores of the candidates, not clipped.
    mask: Real candidates.
    temperature: Multiplies the scores (d_temp).
  """
  logits = jnp.where(mask, temperature * scores, MASKED)
  return -jax.nn.log_softmax(logits, axis=-1)[:, 0]
