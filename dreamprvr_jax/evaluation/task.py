"""What an evaluation needs of a split, whatever it was read from."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

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
    video_batches: Starts a pass over the corpus: dicts of `clip_features`,
      `frame_features`, `frame_mask`, `video_mask`; this process's rows.
    query_batches: Starts a pass over the queries: dicts of `word_features`,
      `word_mask`, `caption_mask`; this process's rows.
    num_video_batches: Length of a pass over the corpus.
    num_query_batches: Length of a pass over the queries.
  """

  name: str
  video_ids: Sequence[str]
  caption_ids: Sequence[str]
  caption_video: Int[np.ndarray, ' n']
  moment_ratios: Float[np.ndarray, ' n']
  video_batches: Batches
  query_batches: Batches
  num_video_batches: int
  num_query_batches: int
