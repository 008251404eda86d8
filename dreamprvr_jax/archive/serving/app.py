"""The server as an ASGI app: its paths, and what stands around them."""

import contextlib
import importlib.resources
import pathlib
from collections.abc import AsyncIterator
from typing import Any

import anyio
from fastapi import FastAPI, HTTPException, Request, Response

from dreamprvr_jax import __version__
from dreamprvr_jax.archive.serving import (
  catalogue,
  media,
  refusals,
  schema,
  searches,
)
from dreamprvr_jax.archive.serving.gate import Gate
from dreamprvr_jax.archive.serving.metrics import CONTENT_TYPE
from dreamprvr_jax.archive.serving.middleware import Guard, Heads
from dreamprvr_jax.archive.serving.service import Service

# Threads that decode video files, and uploaded pictures.
_DECODERS, _PICTURES = 4, 1
_PAGE = 'index.html'
_KINDS = {
  '.html': 'text/html',
  '.css': 'text/css',
  '.js': 'text/javascript',
  '.svg': 'image/svg+xml',
}
# A browser asks each time whether its copy of the page is the latest.
_FRESH = {'Cache-Control': 'no-cache'}


def make_app(service: Service, *, local: bool = True, token: str = '') -> Any:
  """Returns the ASGI app.

  Args:
    service: Answers the requests; it starts and stops with the app.
    local: Whether only requests to this machine's own names are accepted.
    token: What a client must know; see `Gate`.
  """

  @contextlib.asynccontextmanager
  async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # Decoding may take long; other requests keep their own threads.
    app.state.decoders = anyio.CapacityLimiter(_DECODERS)
    app.state.pictures = anyio.CapacityLimiter(_PICTURES)
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
  searches.add_to(app, service)
  _add_state(app, service)
  catalogue.add_to(app, service)
  media.add_to(app, service)
  catalogue.add_facts_to(app, service)
  _add_page(app)
  guarded = Guard(
    Gate(app, token),
    body_bytes=service.limits.body_bytes,
    local=local,
    uploads={searches.PICTURE: service.limits.upload_bytes},
  )
  return Heads(service.metrics.watched(guarded))


def _add_state(app: FastAPI, service: Service) -> None:
  @app.get(
    '/api/health',
    responses={503: {'model': schema.Health, 'description': 'Not ready.'}},
  )
  async def health(response: Response) -> schema.Health:
    """Whether searches are answered: 200 if so, else 503."""
    contents = service.contents
    if service.status != 'ready':
      response.status_code = 503
    return schema.Health(
      status=service.status,
      videos=len(contents),
      files=len(contents.files),
      semantic=contents.answers.semantic,
      reads=contents.answers.reads,
      damaged=service.verification.damaged,
    )

  @app.get('/metrics', include_in_schema=False)
  async def metrics() -> Response:
    service.metrics.waiting.set(service.waiting)
    service.metrics.damaged.set(len(service.verification.damaged))
    service.metrics.verified.set(service.verification.read)
    return Response(service.metrics.text(), media_type=CONTENT_TYPE)


def _add_page(app: FastAPI) -> None:
  folder = importlib.resources.files('dreamprvr_jax.archive.serving') / 'page'
  parts = {
    part.name: (part.read_bytes(), _KINDS[kind])
    for part in folder.iterdir()
    if (kind := pathlib.PurePath(part.name).suffix) in _KINDS
  }

  @app.get('/', include_in_schema=False)
  async def start() -> Response:
    content, kind = parts[_PAGE]
    return Response(content, headers=_FRESH, media_type=kind)

  @app.get('/page/{name}', include_in_schema=False)
  async def part(name: str, request: Request) -> Response:
    if name not in parts or name.endswith('.html'):
      raise HTTPException(404, f'{request.url.path} is no part of the page')
    content, kind = parts[name]
    return Response(content, headers=_FRESH, media_type=kind)
