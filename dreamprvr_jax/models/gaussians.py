"""A Gaussian of each video, from its frames or from its captions."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from dreamprvr_jax.layers.linear import linear
from dreamprvr_jax.layers.normalization import layer_norm
from dreamprvr_jax.layers.pooling import SupportAttention
from dreamprvr_jax.models.outputs import ProxySet
from dreamprvr_jax.numerics import l2_normalize
from dreamprvr_jax.types import Batch, DType, VideoEncoding

# The sides on which zero vectors take part in the attention.
PADDED_SUPPORT = ('both', 'text', 'video', 'none')


def gaussian(
  pooled: Float[Array, 'b d'],
  attended: Callable[[str], Float[Array, 'b d']],
) -> tuple[Float[Array, 'b d'], Float[Array, 'b d']]:
  """Returns the mean, of norm 1, and the spread, float32.

  The spread is a plain linear map; its reader says what it is the logarithm
  of. The layers become parts of the module that calls this in its compact
  method.

  Args:
    pooled: One vector per video.
    attended: From the name of an attention, a new part, to what it returns.
  """
  to_width = lambda name: linear(pooled.shape[-1], jnp.float32, name)
  gate = jax.nn.sigmoid(to_width('mean_gate')(attended('mean_attention')))
  mu = l2_normalize(layer_norm('mean_norm', jnp.float32)(pooled + gate))
  spread = to_width('logvar_attended')(attended('logvar_attention'))
  return mu, spread + to_width('logvar_pooled')(pooled)


@struct.dataclass
class Support:
  """What the Gaussian of each video is made of; float32 but the tokens."""

  pooled: Float[Array, 'b d']
  tokens: Float[Array, 'n s d']
  mask: Bool[Array, 'n s']  # tokens that take part
  video: Int[Array, ' n']  # of each row of tokens
  zeros: Float[Array, ' b']  # zero vectors that take part


class ProxyHead(nn.Module):
  """A Gaussian of each video and its proxies: draws from it.

  Source: docs/method.md, "Robust alignment".
  """

  dtype: DType = jnp.float32

  @nn.compact
  def __call__(
    self, support: Support, draws: Float[Array, 'b k d']
  ) -> ProxySet:
    """Returns Gaussians and proxies, float32.

    Args:
      support: What the Gaussians are made of.
      draws: Standard normal draws, one for each proxy.
    """

    def attended(name: str) -> Float[Array, 'b d']:
      return SupportAttention(self.dtype, name=name)(
        support.tokens,
        mask=support.mask,
        video=support.video,
        zeros=support.zeros,
      )

    mu, spread = gaussian(support.pooled, attended)
    proxies = mu[:, None] + jnp.exp(spread)[:, None] * draws
    return ProxySet(mu, spread, proxies)


def text_support(
  words: Float[Array, 'n l d'],
  batch: Batch,
  *,
  length: Int[Array, ''],
  most: int,
  padded: bool,
) -> Support:
  """Returns the words of each video's captions as its support.

  Args:
    words: The words' vectors, those of padding as the encoder gave them.
    batch: The batch.
    length: Words of the longest caption. Each caption takes part with so many,
      padding included, if `padded`; else with its real words.
    most: Captions that the support has room for; zero vectors fill the rest if
      `padded`.
    padded: Whether padding takes part.
  """
  num_videos = len(batch.video_mask)
  total = lambda rows: jax.ops.segment_sum(
    rows, batch.caption_video, num_videos
  )
  captions = batch.caption_mask
  real = batch.word_mask & captions[:, None]
  summed = jnp.sum(jnp.where(real[..., None], words, 0), 1, jnp.float32)
  count = total(jnp.sum(real, axis=1).astype(jnp.float32))
  mask, zeros = real, jnp.zeros((num_videos,))
  if padded:
    mask = (jnp.arange(words.shape[1]) < length) & captions[:, None]
    free = jnp.maximum(most - total(captions.astype(jnp.float32)), 0)
    zeros = free * length
  return Support(
    pooled=total(summed) / jnp.maximum(count, 1)[:, None],
    tokens=words,
    mask=mask,
    video=batch.caption_video,
    zeros=zeros,
  )


def video_support(videos: VideoEncoding, *, padded: bool) -> Support:
  """Returns the frames of each video as its support.

  Args:
    videos: The videos; padded frames are zero.
    padded: Whether padded frames take part.
  """
  frames, mask = videos.frame_tokens, jnp.asarray(videos.frame_mask)
  unit = l2_normalize(frames.astype(jnp.float32))
  count = jnp.sum(mask, axis=1).astype(jnp.float32)
  mean = jnp.sum(unit, axis=1) / jnp.maximum(count, 1)[:, None]
  zeros = frames.shape[1] - count if padded else jnp.zeros(len(frames))
  return Support(
    pooled=l2_normalize(mean),
    tokens=frames,
    mask=mask,
    video=jnp.arange(len(frames)),
    zeros=zeros,
  )
