"""The paths of the server: a page, an API and files."""

import contextlib
import importlib.resources
import time
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

import anyio
import anyio.to_thread
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse

from dreamprvr_jax import __version__
from dreamprvr_jax.archive.serving import (
  answers,
  downloads,
  refusals,
  schema,
)
from dreamprvr_jax.archive.serving.files import VideoFile
from dreamprvr_jax.archive.serving.metrics import CONTENT_TYPE
from dreamprvr_jax.archive.serving.middleware import HEAD, Guard, Heads
from dreamprvr_jax.archive.serving.service import Service
from dreamprvr_jax.archive.serving.thumbnails import start_of_file
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.text import TextError, sentence

T = TypeVar('T')

# Threads that decode video files.
_DECODERS = 4
_NOTES = {
  'registers': 'the videos whose register tokens are nearest',
  'clips': 'this index stores no registers: the videos whose mean clip tokens '
  'are nearest',
}
_ERRORS: dict[int | str, dict[str, Any]] = {
  400: {'model': schema.Error, 'description': 'The request cannot be read.'},
  404: {'model': schema.Error, 'description': 'Nothing has that name.'},
  503: {'model': schema.Error, 'description': 'Busy or warming up.'},
}
_OF_FILES: dict[int | str, dict[str, Any]] = {
  404: _ERRORS[404],
  206: {'description': 'The parts that `Range` names.'},
  304: {'description': 'The client has this file already.'},
  412: {'model': schema.Error, 'description': 'The file has changed.'},
  416: {'model': schema.Error, 'description': 'The file has no such part.'},
}
_OF_SEARCH: dict[int | str, dict[str, Any]] = {
  **{status: _ERRORS[status] for status in (400, 503)},
  413: {'model': schema.Error, 'description': 'The request is too large.'},
  415: {'model': schema.Error, 'description': 'The request is not JSON.'},
  422: {'model': schema.Error, 'description': 'The request does not fit.'},
  504: {'model': schema.Error, 'description': 'No answer in time.'},
}


def make_app(service: Service, *, local: bool = True) -> Any:
  """Returns the ASGI app.

  Args:
    service: Answers the requests; it starts and stops with the app.
    local: Whether only requests to this machine's own names are accepted.
  """

  @contextlib.asynccontextmanager
  async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # Decoding may take long; other requests keep their own threads.
    app.state.decoders = anyio.CapacityLimiter(_DECODERS)
    async with service.running():
      yield

  app = FastAPI(
    title='dreamprvr_jax',
    version=__version__,
    summary='Finds the video, and the moment in it, that a sentence is about.',
    lifespan=lifespan,
    # These pages load scripts from other servers.
    docs_url=None,
    redoc_url=None,
  )
  refusals.add_to(app)
  _add_search(app, service)
  _add_state(app, service)
  _add_videos(app, service)
  _add_files(app, service)
  _add_page(app, service)
  guarded = Guard(app, body_bytes=service.limits.body_bytes, local=local)
  return Heads(service.metrics.watched(guarded))


def _file_of(service: Service, video: str) -> schema.File | None:
  found = service.files.get(video)
  if found is None:
    return None
  name = quote(video, safe='')
  return schema.File(
    url=f'/videos/{name}',
    media_type=found.media_type,
    thumbnail=f'/thumbnails/{name}',
  )


def _known(service: Service, video: str) -> str:
  """Returns the id of a video of the index; raises HTTPException 404 if there
  is none."""
  found = service.named(video)
  if found is None:
    raise HTTPException(404, f'the index has no video {video!r}')
  return found


def _no_file(video: str) -> HTTPException:
  return HTTPException(404, f'there is no file of the video {video!r}')


def _playable(service: Service, video: str) -> VideoFile:
  """Returns the file of a video; raises HTTPException 404 if it has none."""
  found = service.files.get(_known(service, video))
  if not found:
    raise _no_file(video)
  return found


def _add_search(app: FastAPI, service: Service) -> None:
  @app.post(
    '/api/search',
    responses=_OF_SEARCH,
    openapi_extra=schema.described(schema.SearchRequest),
  )
  async def search(sent: Request) -> schema.SearchAnswer:
    """The best videos for a sentence, and the moments in them."""
    began = time.perf_counter()
    request = await schema.read(sent, schema.SearchRequest)
    text = _sentence(request.query, service.limits.words)
    query = answers.Query(text, request.k, request.moments)
    found = []
    for rank, hit in enumerate(await service.search(query), 1):
      content = hit.to_json(rank)
      if not request.timeline:
        content['timeline'] = None
      found.append(schema.Hit(**content, file=_file_of(service, hit.video_id)))
    return schema.SearchAnswer(
      query=text,
      videos=service.index.manifest.num_videos,
      seconds=time.perf_counter() - began,
      hits=found,
    )


def _sentence(query: str, most: int) -> str:
  """Returns a query in NFC; raises HTTPException if it has no word (400) or
  too many (422)."""
  try:
    text = sentence(query, 'query')
  except TextError as error:
    raise HTTPException(400, str(error)) from error
  words = text.count(' ') + 1
  if words > most:
    raise HTTPException(
      422, f'query: it has {words} words; at most {most} are read'
    )
  return text


def _add_state(app: FastAPI, service: Service) -> None:
  @app.get(
    '/api/health',
    responses={503: {'model': schema.Health, 'description': 'Not ready.'}},
  )
  async def health(response: Response) -> schema.Health:
    """Whether searches are answered: 200 if so, else 503."""
    if service.status != 'ready':
      response.status_code = 503
    return schema.Health(
      status=service.status,
      videos=service.index.manifest.num_videos,
      files=len(service.files),
      semantic=service.semantic,
    )

  @app.get('/metrics', include_in_schema=False)
  async def metrics() -> Response:
    service.metrics.waiting.set(service.waiting)
    return Response(service.metrics.text(), media_type=CONTENT_TYPE)


def _add_videos(app: FastAPI, service: Service) -> None:
  # Before the path below, which would take it for a part of the id.
  @app.get('/api/videos/{video:path}/similar', responses=_ERRORS)
  def similar(
    video: str, k: Annotated[int, Query(ge=1, le=service.limits.hits)] = 10
  ) -> schema.SimilarAnswer:
    """The videos that are most like one, whatever the query."""
    video = _known(service, video)
    neighbours = service.neighbours
    hits = [
      schema.Similar(
        rank=rank,
        video=other,
        similarity=likeness,
        duration=service.duration(other),
        file=_file_of(service, other),
      )
      for rank, (other, likeness) in enumerate(neighbours.nearest(video, k), 1)
    ]
    note = _NOTES[neighbours.kind]
    return schema.SimilarAnswer(
      video=video, by=neighbours.kind, note=note, hits=hits
    )

  @app.get('/api/videos/{video:path}/start', responses=_ERRORS)
  async def start(video: str, request: Request) -> schema.Start:
    """Where the clock of a video's file begins."""
    found = _playable(service, video)
    with service.thumbnails.turn():
      return schema.Start(start=await _decoded(request, start_of_file, found))

  @app.get('/api/videos/{video:path}', responses=_ERRORS)
  def facts(video: str) -> schema.Video:
    """What the index stores of a video."""
    video = _known(service, video)
    index = service.index
    row, manifest = service.row_of[video], index.manifest
    return schema.Video(
      video=video,
      duration=service.duration(video),
      clips=manifest.clips,
      frames=int(index.store.read('frame_mask', row, row + 1).sum()),
      registers=manifest.registers,
      width=manifest.width,
      tokens=manifest.tokens,
      file=_file_of(service, video),
    )


async def _decoded(
  request: Request, function: Callable[..., T], *args: Any
) -> T:
  """Returns what a function makes of a video file, in a thread for decoding;
  raises HTTPException 404 if it cannot."""
  decoders = request.app.state.decoders
  try:
    return await anyio.to_thread.run_sync(function, *args, limiter=decoders)
  except UserError as error:
    raise HTTPException(404, str(error)) from error


def _add_files(app: FastAPI, service: Service) -> None:
  @app.get('/videos/{video:path}', responses=_OF_FILES)
  def file(video: str, request: Request) -> Response:
    """A video's file, or with a header `Range` parts of it."""
    found = service.files.open(_known(service, video))
    if not found:
      raise _no_file(video)
    about, opened = found
    return downloads.answer(
      opened,
      about.media_type,
      request.headers,
      most=service.limits.ranges,
      head=HEAD in request.scope,
    )

  @app.get('/thumbnails/{video:path}', responses=_ERRORS)
  async def thumbnail(
    video: str,
    request: Request,
    t: Annotated[float, Query(ge=0, le=1e6, allow_inf_nan=False)] = 0.0,
  ) -> Response:
    """A small JPEG of the frame at a time."""
    found = _playable(service, video)
    with service.thumbnails.turn():
      picture = await _decoded(request, service.thumbnails.picture, found, t)
    return Response(
      picture,
      media_type='image/jpeg',
      headers={'Cache-Control': 'private, max-age=3600'},
    )


def _add_page(app: FastAPI, service: Service) -> None:
  page = (
    importlib.resources.files('dreamprvr_jax.archive.serving')
    / 'page'
    / 'index.html'
  )
  content = page.read_text(encoding='utf-8')

  @app.get('/', include_in_schema=False)
  async def start() -> HTMLResponse:
    return HTMLResponse(content)
