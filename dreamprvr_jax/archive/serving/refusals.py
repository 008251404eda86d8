"""Errors as answers: one sentence, as JSON."""

import http
import logging

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from dreamprvr_jax.archive.serving.answers import BadQuery
from dreamprvr_jax.archive.serving.limits import Busy, Gone, Late
from dreamprvr_jax.errors import UserError

_log = logging.getLogger(__name__)

_FAILED = 'the server failed at this; its log says more'


def refusal(status: int, sentence: str, **headers: str) -> JSONResponse:
  """Returns an error as an answer."""
  # A request can contain half characters, which cannot be sent back.
  safe = sentence.encode('utf-8', 'backslashreplace').decode()
  return JSONResponse({'error': safe}, status, headers)


def add_to(app: FastAPI) -> None:
  """Makes an app answer each error with one sentence, as JSON."""

  @app.exception_handler(RequestValidationError)
  async def unfit(_: Request, error: RequestValidationError) -> Response:
    found = error.errors()[0]
    place, *rest = found['loc']
    where = '.'.join(map(str, rest)) or 'the request'
    what = found['msg'][:1].lower() + found['msg'][1:]
    # 422 for a body that can be read and asks for something impossible; 400 for
    # anything else.
    return refusal(422 if place == 'body' else 400, f'{where}: {what}')

  @app.exception_handler(HTTPException)
  async def refused(request: Request, error: HTTPException) -> Response:
    sentence, headers = str(error.detail), dict(error.headers or {})
    if sentence == http.HTTPStatus(error.status_code).phrase:
      path = request.scope['path']
      sentence = f'{request.method} {path}: {sentence.lower()}'
    if headers.get('Allow') == 'GET':
      headers['Allow'] = 'GET, HEAD'
    return refusal(error.status_code, sentence, **headers)

  @app.exception_handler(BadQuery)
  async def bad(_: Request, error: BadQuery) -> Response:
    return refusal(400, str(error))

  @app.exception_handler(Busy)
  async def busy(_: Request, error: Busy) -> Response:
    return refusal(503, f'{error}; try again', **{'Retry-After': '1'})

  @app.exception_handler(Late)
  async def late(_: Request, error: Late) -> Response:
    return refusal(504, str(error))

  @app.exception_handler(ClientDisconnect)
  @app.exception_handler(Gone)
  async def gone(_: Request, error: Exception) -> Response:
    del error
    return refusal(408, 'the connection ended before the request was complete')

  @app.exception_handler(UserError)
  async def misled(_: Request, error: UserError) -> Response:
    # It is about the served data, such as a damaged index. The client cannot
    # mend that; the owner of the server reads the log.
    _log.error('a request failed', exc_info=error)
    return refusal(500, _FAILED)

  @app.exception_handler(Exception)
  async def failed(_: Request, error: Exception) -> Response:
    # After this answer the error is raised again; uvicorn logs its traceback
    # and closes the connection, so the client is told.
    del error
    return refusal(500, _FAILED, Connection='close')
