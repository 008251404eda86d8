"""A retrieval task: queries, their right videos, and the corpus."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from dreamprvr_jax.devices.resident import ResidentSplit

Batches = Callable[[], Iterable[Mapping[str, np.ndarray]]]


@dataclasses.dataclass(frozen=True)
class RetrievalTask:
  """Queries, each with one right video, and the corpus they search.

  Attributes:
    name: Name of the split.
    video_ids: Corpus, in order.
    caption_ids: Queries, in order.
    caption_video: Index of each query's right video.
    moment_ratios: Length of the moment over that of the video; NaN where
      unknown.
    video_batch: Videos encoded at a time, over all devices.
    query_batch: Queries encoded and ranked at a time, over all devices.
    video_batches: Starts a pass over the corpus: dicts of `clip_features`,
      `frame_features`, `frame_mask`, `video_mask`, and for merged clips
      `clip_sizes`; this process's rows.
    query_batches: Starts a pass over the queries: dicts of `word_features`,
      `word_mask`, `caption_mask`; this process's rows.
    resident: The features in device memory; if given, the batches are not
      read.
  """

  name: str
  video_ids: Sequence[str]
  caption_ids: Sequence[str]
  caption_video: Int[np.ndarray, ' n']
  moment_ratios: Float[np.ndarray, ' n']
  video_batch: int
  query_batch: int
  video_batches: Batches
  query_batches: Batches
  resident: ResidentSplit | None = None

  @property
  def num_query_batches(self) -> int:
    """Length of a pass over the queries."""
    return -(-len(self.caption_ids) // self.query_batch)
