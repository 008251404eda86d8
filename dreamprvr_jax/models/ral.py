"""RAL (EMNLP 2025 Findings, arXiv 2509.01383): words that are weighted by their
confidence, and in training one Gaussian per video on each side."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.models.gaussians import (
  PADDED_SUPPORT,
  ProxyHead,
  text_support,
  video_support,
)
from dreamprvr_jax.models.outputs import ProxyPair, RetrievalOutput
from dreamprvr_jax.models.word_model import WordModel, joined
from dreamprvr_jax.types import Batch, VideoEncoding


class RAL(WordModel, kw_only=True):
  """GMMFormer v2 with words for the frames; its Gaussians serve training alone.

  `padded_support` says on which sides zero vectors and padded words take part
  in the attention that makes the Gaussians.
  """

  num_proxies: int
  support_captions: int
  padded_support: str

  def setup(self):
    super().setup()
    if self.padded_support not in PADDED_SUPPORT:
      raise UserError(
        f'padded_support {self.padded_support!r} is unknown; choose from '
        f'{PADDED_SUPPORT}'
      )
    self.text_head = ProxyHead(self.dtype)
    self.video_head = ProxyHead(self.dtype)

  def provided(self) -> set[str]:
    """Returns the names of what losses may read."""
    return super().provided() | {'proxies'}

  def encode_batch(
    self, batch: Batch, *, train: bool
  ) -> tuple[RetrievalOutput, Any]:
    """See `base.RetrievalModel`; hands on the words' vectors, those of padding
    as the encoder gave them.

    The words are encoded once, the pooled queries `query_encodings` times.
    """
    given = batch.word_features, batch.word_mask
    words = self.query.tokens(*given, train=train)
    pooled = text_queries = self.query(*given, train=train)
    if train and self.query_encodings == 2:
      text_queries = self.query(*given, train=train)
    output, _ = self.compare_batch(
      joined(pooled, words, batch.word_mask),
      text_queries.astype(jnp.float32),
      batch,
      train=train,
    )
    return output, words

  def __call__(
    self,
    batch: Batch,
    *,
    train: bool = False,
    proxy_draws: Float[Array, '2 b k d'] | None = None,
  ) -> RetrievalOutput:
    """Returns what the losses read of a batch.

    Args:
      batch: The batch.
      train: Whether dropout is on.
      proxy_draws: Standard normal draws behind the proxies of the captions,
        then of the videos; from the random stream 'proxies' if None.
    """
    output, words = self.encode_batch(batch, train=train)
    if proxy_draws is None:
      shape = (2, len(batch.video_mask), self.num_proxies, self.width)
      proxy_draws = jax.random.normal(self.make_rng('proxies'), shape)
    pair = self._proxies(words, output.videos, batch, proxy_draws)
    return dataclasses.replace(output, proxies=pair)

  def _proxies(
    self,
    words: Float[Array, 'n l d'],
    videos: VideoEncoding,
    batch: Batch,
    draws: Float[Array, '2 b k d'],
  ) -> ProxyPair:
    text = text_support(
      words,
      batch,
      length=self.support_length(batch.word_mask, batch.caption_mask),
      most=self.support_captions,
      padded=self.padded_support in ('both', 'text'),
    )
    video = video_support(
      videos, padded=self.padded_support in ('both', 'video')
    )
    return ProxyPair(
      text=self.text_head(text, draws[0]),
      video=self.video_head(video, draws[1]),
    )

  def support_length(
    self, word_mask: Bool[Array, 'n l'], caption_mask: Bool[Array, ' n']
  ) -> Int[Array, '']:
    """Returns the words of the longest caption of the batch."""
    lengths = jnp.sum(word_mask, axis=1)
    return jnp.max(jnp.where(caption_mask, lengths, 0))
