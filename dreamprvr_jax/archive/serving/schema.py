"""Requests and answers as JSON, as /openapi.json describes them."""

import math
from typing import Annotated, Any, TypeVar

from fastapi import HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic import (
  BaseModel,
  BeforeValidator,
  ConfigDict,
  Field,
  StrictInt,
  ValidationError,
)

from dreamprvr_jax import text
from dreamprvr_jax.archive.serving.answers import DEPTHS
from dreamprvr_jax.archive.serving.limits import Limits
from dreamprvr_jax.archive.serving.playable import PIECE_SECONDS

_LIMITS = Limits()
Model = TypeVar('Model', bound=BaseModel)


def _known(value: Any) -> Any:
  return None if isinstance(value, float) and math.isnan(value) else value


# None if the duration of the video is unknown.
Seconds = Annotated[float | None, BeforeValidator(_known)]


class SearchRequest(BaseModel):
  """A search."""

  model_config = ConfigDict(extra='forbid')

  query: str = Field(
    '',
    description='What the video should show, in words; a long text is cut.',
  )
  like: 'Like | None' = Field(
    None, description='A picture of a video, instead of words.'
  )
  k: StrictInt = Field(
    10, ge=1, le=min(_LIMITS.hits, DEPTHS[-1]), description='Videos, at most.'
  )
  moments: StrictInt = Field(
    3, ge=1, le=_LIMITS.moments, description='Moments of a video, at most.'
  )
  timeline: bool = Field(True, description='Whether hits have a timeline.')
  folder: str = Field('', description='Only videos in it, or below it.')
  after: str = Field(
    '', description='Only files changed from this day on, such as 2024-05-31.'
  )
  before: str = Field('', description='Only files changed before this day.')
  min_seconds: float = Field(
    0.0, allow_inf_nan=False, description='Only videos that last so long.'
  )
  max_seconds: float | None = Field(
    None, allow_inf_nan=False, description='Only videos that last no longer.'
  )
  duplicates: bool = Field(
    False,
    description='Whether copies of a video are hits of their own; if not, they '
    'are `others` of one hit.',
  )


class Like(BaseModel):
  """A picture of a video."""

  model_config = ConfigDict(extra='forbid')

  video: str
  at: float = Field(ge=0, allow_inf_nan=False, description='The second.')


class Moment(BaseModel):
  """A stretch of a video; times are seconds, `span` fractions of the video."""

  model_config = ConfigDict(from_attributes=True)

  start: Seconds
  end: Seconds
  peak: Seconds
  span: tuple[float, float]
  score: float


class File(BaseModel):
  """The file of a video on this server."""

  url: str
  media_type: str
  thumbnail: str = Field(description='A JPEG; add ?t=SECONDS.')
  strip: str = Field(
    description='A JPEG with pictures of a stretch side by side; add '
    '?start=SECONDS&end=SECONDS&count=N.'
  )
  converted: str = Field(
    description='MP4 for browsers that cannot play the file; see `playing`.'
  )
  playing: str = Field(description='How the file can be played, as JSON.')
  clip: str = Field(
    description='A stretch as an MP4 file to save; add '
    '?start=SECONDS&end=SECONDS.'
  )


class Entry(BaseModel):
  """A video of the archive."""

  video: str
  title: str = Field(description='The name of its file, or its id.')
  folder: str = Field(description="The file's folder below the indexed one.")
  date: str = Field(description='The day of its file, such as 2024-05-31.')
  duration: Seconds
  file: File | None


class Hit(Entry):
  """A video that matches the query."""

  rank: int
  score: float
  moments: list[Moment]
  timeline: list[float] | None = Field(
    description='A value for each stretch of equal length of the video.'
  )
  others: list[str] = Field(description='Copies of it that fit, too.')
  strength: str = Field(
    description="How well it fits: 'strong', 'weak' or 'none'."
  )


class SearchAnswer(BaseModel):
  """The best videos for a query."""

  query: str = Field(description='The part of the text that was read.')
  notice: str = Field(description="What was left out of a long text, or ''.")
  videos: int = Field(description='How many were searched.')
  seconds: float = Field(description='Seconds from the request to the answer.')
  hits: list[Hit]


class Video(Entry):
  """The stored data of a video."""

  rows: int = Field(description='Parts of the video that the index stores.')
  clips: int = Field(description='Clip tokens.')
  frames: int = Field(description='Frame tokens, without padding.')
  registers: int = Field(description='Register tokens; 0 if none are stored.')
  width: int = Field(description='Numbers of a token.')
  tokens: str = Field(description='How tokens are stored.')


class Listing(BaseModel):
  """Some videos of the archive."""

  total: int = Field(description='How many videos there are with this filter.')
  folders: dict[str, int] = Field(
    description='All folders, with the number of videos in and below them.'
  )
  videos: list[Entry]


class Playing(BaseModel):
  """How a file can be played in a browser."""

  model_config = ConfigDict(from_attributes=True)

  plays: str = Field(
    description="'yes', 'no', or 'maybe' if it depends on the browser."
  )
  type: str = Field(description="Its media type with codecs, or ''.")
  start: float = Field(
    description="Time of the file's own clock, and most browsers, at second 0."
  )
  duration: float = Field(description='Seconds that it states, or 0.')
  copied: bool = Field(
    description='Whether it can be converted whole, by copying its pictures; '
    'if not, add ?piece=N to the address of the converted file.'
  )
  piece_seconds: float = Field(PIECE_SECONDS, description='Of a piece.')


class Similar(Entry):
  """A video that is similar to another."""

  rank: int
  similarity: float


class SimilarAnswer(BaseModel):
  """The videos that are most similar to one."""

  video: str
  by: str = Field(
    description="The vectors that are compared: 'registers' or 'clips'."
  )
  note: str
  hits: list[Similar]


class Health(BaseModel):
  """The state of the server."""

  status: str = Field(description="'ready', 'warming up' or 'stopping'.")
  videos: int
  files: int = Field(description='Video files that are served.')
  semantic: bool = Field(
    description='Whether the text encoder knows what words mean.'
  )
  reads: list[str] = Field(
    description="The kinds of queries that are answered: 'text', 'picture'."
  )
  damaged: list[str] = Field(
    description='Files of the index that are not as they were written.'
  )


class Error(BaseModel):
  """An error."""

  error: str


ERRORS: dict[int | str, dict[str, Any]] = {
  400: {'model': Error, 'description': 'The request cannot be read.'},
  404: {'model': Error, 'description': 'Nothing has that name.'},
  503: {'model': Error, 'description': 'Busy or warming up.'},
}


def described(kind: type[BaseModel]) -> dict[str, Any]:
  """Returns the OpenAPI description of a request body."""
  content = {'application/json': {'schema': kind.model_json_schema()}}
  return {'requestBody': {'content': content, 'required': True}}


async def read(request: Request, kind: type[Model]) -> Model:
  """Returns the body of a request.

  Raises:
    HTTPException: 415 if it is not sent as JSON, 400 if it is no JSON in UTF-8.
    RequestValidationError: If it does not fit the kind.
  """
  sent = request.headers.get('content-type', '')
  if sent.partition(';')[0].strip().lower() != 'application/json':
    raise HTTPException(
      415,
      f'the request has the content type {sent!r}; send JSON, with the header '
      'content-type: application/json',
    )
  raw = await request.body()
  if raw.startswith(b'\xef\xbb\xbf'):
    raise HTTPException(
      400, 'the request begins with a byte order mark; send JSON without one'
    )
  try:
    given = text.decode(raw, 'the request')
  except text.TextError as error:
    raise HTTPException(
      400, 'the request is no text in UTF-8; send JSON in UTF-8'
    ) from error
  try:
    found = text.parse_json(given, 'the request', strict=True)
    for key, value in found.items() if isinstance(found, dict) else ():
      text.check(key, 'a key of the request')
      if isinstance(value, str):
        text.check(value, key)
  except text.TextError as error:
    raise HTTPException(400, str(error)) from error
  try:
    return kind.model_validate(found)
  except ValidationError as error:
    places = [{**e, 'loc': ('body', *e['loc'])} for e in error.errors()]
    raise RequestValidationError(places) from error
