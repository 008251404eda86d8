"""Questions and answers as JSON; what /openapi.json describes."""

import math
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt

from dreamprvr_jax.archive.serving.answers import DEPTHS
from dreamprvr_jax.archive.serving.limits import Limits

_LIMITS = Limits()


def _known(value: Any) -> Any:
  return None if isinstance(value, float) and math.isnan(value) else value


# None if the duration of the video is unknown.
Seconds = Annotated[float | None, BeforeValidator(_known)]


class SearchRequest(BaseModel):
  """A question."""

  model_config = ConfigDict(extra='forbid')

  query: str = Field(
    max_length=_LIMITS.characters,
    description='What is to be seen in the video, in words.',
  )
  k: StrictInt = Field(
    10, ge=1, le=min(_LIMITS.hits, DEPTHS[-1]), description='Videos, at most.'
  )
  moments: StrictInt = Field(
    3, ge=1, le=_LIMITS.moments, description='Moments of a video, at most.'
  )
  timeline: bool = Field(True, description='Whether hits have a timeline.')


class Moment(BaseModel):
  """A stretch of a video; times are seconds, `span` fractions of the video."""

  model_config = ConfigDict(from_attributes=True)

  start: Seconds
  end: Seconds
  peak: Seconds
  span: tuple[float, float]
  score: float


class File(BaseModel):
  """Where a video is to be had from this server."""

  url: str
  media_type: str
  thumbnail: str = Field(description='A JPEG; add ?t=SECONDS.')


class Hit(BaseModel):
  """A video that was found."""

  rank: int
  video: str
  score: float
  duration: Seconds
  moments: list[Moment]
  timeline: list[float] | None = Field(
    description='A value per stretch of equal length, over the whole video.'
  )
  file: File | None


class SearchAnswer(BaseModel):
  """What was found."""

  query: str
  videos: int = Field(description='How many were searched.')
  seconds: float = Field(description='From the question to the answer.')
  hits: list[Hit]


class Video(BaseModel):
  """What the index holds of a video."""

  video: str
  duration: Seconds
  clips: int = Field(description='Clip tokens.')
  frames: int = Field(description='Frame tokens, without padding.')
  registers: int = Field(description='Register tokens; 0 if none are stored.')
  width: int = Field(description='Of a token.')
  tokens: str = Field(description='How tokens are stored.')
  file: File | None


class Start(BaseModel):
  """Where the clock of a video's file begins."""

  start: float = Field(
    description="What the file's own clock, and most browsers, say at second 0."
  )


class Similar(BaseModel):
  """A video that is like another."""

  rank: int
  video: str
  similarity: float
  duration: Seconds
  file: File | None


class SimilarAnswer(BaseModel):
  """The videos that are most like one."""

  video: str
  by: str = Field(description="What is compared: 'registers' or 'clips'.")
  note: str
  hits: list[Similar]


class Health(BaseModel):
  """How the server is."""

  status: str = Field(description="'ready', 'warming up' or 'stopping'.")
  videos: int
  files: int = Field(description='Video files that are served.')
  semantic: bool = Field(
    description='Whether the text encoder knows what words mean.'
  )


class Error(BaseModel):
  """Why there is no answer."""

  error: str
