"""What training, evaluation, search and export know of a model."""

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Bool, Float, Int

from dreamprvr_jax.models.outputs import RetrievalOutput
from dreamprvr_jax.types import Batch, BranchScores, DType, VideoEncoding


@runtime_checkable
class Model(Protocol):
  """A Flax module that encodes and compares queries and videos.

  `models.base.RetrievalModel` implements all of it except `encode_branches`,
  the step from features to tokens. Methods that read parameters are called
  through `apply`: `model.apply(variables, words, word_mask,
  method='encode_query')`; `pooled`, `constrain` and `provided` read none and
  are called directly.

  An encoded query is one row of q numbers. q = d, or more where a query keeps
  its words; `pooled` then finds the vector that stands for the query.
  """

  @property
  def clip_weight(self) -> float:
    """Weight of the clip branch's score in the fused score."""
    ...

  @property
  def frame_weight(self) -> float:
    """Weight of the frame branch's score in the fused score."""
    ...

  @property
  def dtype(self) -> DType:
    """Compute dtype, that of the tokens; scores are float32."""
    ...

  @property
  def token_score(self) -> str:
    """What a branch's score is: 'cosine', the best cosine of the query with a
    token, which stays the same if tokens are scaled; 'product', the best
    product of the unit query with a token; 'other', anything else."""
    ...

  @property
  def reads(self) -> str:
    """What a query is made of: 'words', the features of its words, or
    'sentence', one vector of the whole sentence, given as one word."""
    ...

  @property
  def reads_registers(self) -> bool:
    """Whether the score reads the registers of videos, which their encoding
    then has."""
    ...

  @property
  def reads_features(self) -> bool:
    """Whether the score reads the features of frames beside their tokens, which
    the encoding of a video then has."""
    ...

  @property
  def token_branch(self) -> str:
    """The tokens that the pooled query is compared with one by one: 'frame', or
    'clip' where a video's frames are one vector or are compared with words."""
    ...

  @property
  def repeats_padding(self) -> bool:
    """Whether padded frame tokens repeat the last real one. Otherwise they are
    zero, and so is their score."""
    ...

  def init(self, rngs: Any, *args: Any, **kwargs: Any) -> Any:
    """Returns initial variables; see `flax.linen.Module.init`."""
    ...

  def apply(self, variables: Any, *args: Any, **kwargs: Any) -> Any:
    """Calls a method with variables; see `flax.linen.Module.apply`."""
    ...

  def provided(self) -> set[str]:
    """Returns the names of what losses may read; see `RetrievalOutput`."""
    ...

  def pooled(self, queries: Any) -> Any:
    """Returns the one vector of each encoded query that stands for it: from
    (..., q) to (..., d), arrays of jax or numpy."""
    ...

  def constrain(self, params: Any) -> Any:
    """Returns the parameters within their bounds, before an update."""
    ...

  def encode_query(
    self,
    words: Float[Array, 'n l e'],
    word_mask: Bool[Array, 'n l'],
    *,
    train: bool = False,
  ) -> Float[Array, 'n q']:
    """Returns the encoded queries, float32, not normalised."""
    ...

  def encode_video(
    self,
    clip_features: Float[Array, 'b c e'],
    frame_features: Float[Array, 'b f e'],
    frame_mask: Bool[Array, 'b f'],
    clip_sizes: Int[Array, 'b c'] | None = None,
    *,
    train: bool = False,
  ) -> VideoEncoding:
    """Returns the tokens of videos; `clip_sizes` are those of merged clips."""
    ...

  def encode_video_and_registers(
    self,
    clip_features: Float[Array, 'b c e'],
    frame_features: Float[Array, 'b f e'],
    frame_mask: Bool[Array, 'b f'],
    clip_sizes: Int[Array, 'b c'] | None = None,
  ) -> tuple[VideoEncoding, Float[Array, 'b r d'] | None]:
    """Returns the tokens of videos, and their registers if the model has
    any."""
    ...

  def score(
    self, queries: Float[Array, 'n q'], videos: VideoEncoding
  ) -> BranchScores:
    """Returns the scores (n, b) of both branches, float32."""
    ...

  def __call__(self, batch: Batch, *, train: bool = False) -> RetrievalOutput:
    """Returns what the losses read of a batch."""
    ...
