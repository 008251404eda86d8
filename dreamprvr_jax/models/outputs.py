"""What a model hands to the losses, in groups by what provides them.

All arrays are float32, except tokens, which have the compute dtype.
"""

from flax import struct
from jaxtyping import Array, Float

from dreamprvr_jax.types import VideoEncoding


@struct.dataclass
class ScorePair:
  """Two scores of each caption (row) with each column.

  Source: docs/method.md, "Cosine and raw scores".
  """

  cosine: Float[Array, 'n k']  # s: for the triplet and evidential losses
  raw: Float[Array, 'n k']  # s~: un-normalised products, for the NCE losses


@struct.dataclass
class VideoGaussian:
  """The Gaussian of each video, from the variational sampler."""

  mu: Float[Array, 'b d']
  logvar: Float[Array, 'b d']


@struct.dataclass
class NoisePrediction:
  """The noise of all diffusion steps at once, and its prediction."""

  mean_queries: Float[Array, 'b d']  # text_queries, averaged per video
  noise: Float[Array, 'b r d']
  predicted: Float[Array, 't b r d']


@struct.dataclass
class ConePoints:
  """Space coordinates of both sides of the cone loss, and the curvature."""

  videos: Float[Array, 'b d']
  captions: Float[Array, 'n d']
  curvature: Float[Array, '']


@struct.dataclass
class AlignedTokens:
  """Tokens of both branches in the space where MSC compares them."""

  clips: Float[Array, 'b c d']
  frames: Float[Array, 'b f d']


@struct.dataclass
class ProxySet:
  """A Gaussian of each video on one side, and draws from it (RAL)."""

  mu: Float[Array, 'b d']
  spread: Float[Array, 'b d']  # the logarithm of the standard deviation
  proxies: Float[Array, 'b k d']


@struct.dataclass
class ProxyPair:
  """Both sides of RAL's alignment of videos with their captions."""

  text: ProxySet
  video: ProxySet


@struct.dataclass
class RetrievalOutput:
  """The output of a retrieval model on a training batch.

  A model's `provided` names the fields that its losses may read: 'queries' is
  `text_queries`, 'clip_tokens' is `videos.clip_tokens`, the others have the
  field's name. Fields that a model does not have are None.
  """

  text_queries: Float[Array, 'n d']  # the encoding that text losses see
  videos: VideoEncoding
  clip_scores: ScorePair | None = None  # (n, b)
  frame_scores: ScorePair | None = None  # (n, b)
  guided_scores: ScorePair | None = None  # (n, n) video of each caption
  interaction: Float[Array, 'n b'] | None = None  # scaled scores
  sampler: VideoGaussian | None = None
  estimator: NoisePrediction | None = None
  cone: ConePoints | None = None
  alignment: AlignedTokens | None = None
  proxies: ProxyPair | None = None
  trace_scores: Float[Array, 'n b'] | None = None
