"""The paths of files: videos, pictures of them, and what is made from them."""

from collections.abc import Callable
from typing import Annotated, Any, BinaryIO, TypeVar
from urllib.parse import quote

import anyio.to_thread
from fastapi import FastAPI, HTTPException, Query, Request, Response

from dreamprvr_jax.archive.serving import downloads, schema
from dreamprvr_jax.archive.serving.catalogue import known
from dreamprvr_jax.archive.serving.contents import Contents
from dreamprvr_jax.archive.serving.conversions import NotConvertedError
from dreamprvr_jax.archive.serving.files import VideoFile
from dreamprvr_jax.archive.serving.middleware import HEAD
from dreamprvr_jax.archive.serving.playable import playing_of
from dreamprvr_jax.archive.serving.service import Service
from dreamprvr_jax.errors import UserError

T = TypeVar('T')
# A second of a video, in an address.
Second = Annotated[float, Query(ge=0, le=1e6, allow_inf_nan=False)]

# Share of the kept bytes that one file, converted whole, may have.
_SHARE = 0.25
# Pictures of a strip, at most.
_PICTURES = 32
_KEPT = {'Cache-Control': 'private, max-age=3600'}
_MP4 = 'video/mp4'
_OF_FILES: dict[int | str, dict[str, Any]] = {
  404: schema.ERRORS[404],
  206: {'description': 'The parts that `Range` names.'},
  304: {'description': 'The client has this file already.'},
  412: {'model': schema.Error, 'description': 'The file has changed.'},
  416: {'model': schema.Error, 'description': 'The file has no such part.'},
}


def playable(contents: Contents, video: str) -> VideoFile:
  """Returns the file of a video; raises HTTPException 404 if it has none."""
  found = contents.files.get(known(contents, video))
  if not found:
    raise _no_file(video)
  return found


async def decoded(
  request: Request, function: Callable[..., T], *args: Any
) -> T:
  """Returns what a function makes of a video file, in a thread for decoding;
  raises HTTPException 404 if it cannot."""
  decoders = request.app.state.decoders
  try:
    return await anyio.to_thread.run_sync(function, *args, limiter=decoders)
  except UserError as error:
    raise HTTPException(404, str(error)) from error


def add_to(app: FastAPI, service: Service) -> None:
  """Adds the paths to an app."""
  _add_playing(app, service)
  _add_files(app, service)
  _add_pictures(app, service)
  _add_made(app, service)


def _no_file(video: str) -> HTTPException:
  return HTTPException(404, f'there is no file of the video {video!r}')


def _add_playing(app: FastAPI, service: Service) -> None:
  @app.get('/api/videos/{video:path}/playing', responses=schema.ERRORS)
  async def playing(video: str, request: Request) -> schema.Playing:
    """How a video's file can be played in a browser."""
    found = playable(service.contents, video)
    most = _SHARE * service.limits.converted_bytes
    with service.thumbnails.turn():
      facts = await decoded(request, playing_of, found, most)
    return schema.Playing.model_validate(facts)


def _add_files(app: FastAPI, service: Service) -> None:
  @app.get('/videos/{video:path}', responses=_OF_FILES)
  def file(video: str, request: Request) -> Response:
    """A video's file, or with a header `Range` parts of it."""
    contents = service.contents
    found = contents.files.open(known(contents, video))
    if not found:
      raise _no_file(video)
    about, opened = found
    return _sent(service, request, opened, about.media_type)


def _sent(
  service: Service, request: Request, opened: BinaryIO, media_type: str
) -> Response:
  return downloads.answer(
    opened,
    media_type,
    request.headers,
    most=service.limits.ranges,
    head=HEAD in request.scope,
  )


def _add_pictures(app: FastAPI, service: Service) -> None:
  @app.get('/thumbnails/{video:path}', responses=schema.ERRORS)
  async def thumbnail(
    video: str, request: Request, t: Second = 0.0
  ) -> Response:
    """A small JPEG of the frame at a time."""
    found = playable(service.contents, video)
    with service.thumbnails.turn():
      picture = await decoded(request, service.thumbnails.picture, found, t)
    return Response(picture, media_type='image/jpeg', headers=_KEPT)

  @app.get('/strips/{video:path}', responses=schema.ERRORS)
  async def strip(
    video: str,
    request: Request,
    start: Second,
    end: Second,
    count: Annotated[int, Query(ge=1, le=_PICTURES)] = 12,
  ) -> Response:
    """A JPEG with frames of a stretch side by side, each 192 x 108 pixels."""
    if end <= start:
      raise HTTPException(400, f'end: it is {end:g}, expected more than start')
    found = playable(service.contents, video)
    with service.thumbnails.turn():
      picture = await decoded(
        request, service.thumbnails.strip, found, start, end, count
      )
    return Response(picture, media_type='image/jpeg', headers=_KEPT)


def _add_made(app: FastAPI, service: Service) -> None:
  @app.get('/converted/{video:path}', responses={**_OF_FILES, **schema.ERRORS})
  async def converted(
    video: str,
    request: Request,
    piece: Annotated[int | None, Query(ge=0, le=100_000)] = None,
  ) -> Response:
    """A video as MP4 for browsers: whole, with its pictures copied, or a piece
    of it, encoded again."""
    found = playable(service.contents, video)
    if piece is None:
      most = _SHARE * service.limits.converted_bytes
      facts = await decoded(request, playing_of, found, most)
      if not facts.copied:
        raise HTTPException(
          404, 'this video is converted in pieces: add ?piece=0'
        )
      make = service.conversions.whole(found, request.is_disconnected)
    else:
      make = service.conversions.piece(found, piece, request.is_disconnected)
    try:
      opened = await make
    except NotConvertedError as error:
      raise HTTPException(404, str(error)) from error
    return _sent(service, request, opened, _MP4)

  @app.get('/clips/{video:path}', responses={**_OF_FILES, **schema.ERRORS})
  async def clip(
    video: str, request: Request, start: Second, end: Second
  ) -> Response:
    """A stretch of a video, as an MP4 file to save."""
    most = service.limits.saved_seconds
    if not start < end <= start + most:
      raise HTTPException(
        400,
        f'end: it is {end:g}; expected more than start, by at most {most:g} '
        'seconds',
      )
    found = playable(service.contents, video)
    try:
      opened = await service.conversions.clip(
        found, start, end, request.is_disconnected
      )
    except NotConvertedError as error:
      raise HTTPException(404, str(error)) from error
    answer = _sent(service, request, opened, _MP4)
    name = quote(f'{_stem(found.title)}_{start:.1f}-{end:.1f}s.mp4', safe='')
    answer.headers['content-disposition'] = (
      f"attachment; filename*=UTF-8''{name}"
    )
    return answer


def _stem(title: str) -> str:
  return title.rpartition('.')[0] or title
