"""Reads the bodies of requests."""

from typing import Any, TypeVar

from fastapi import HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from dreamprvr_jax import text

Model = TypeVar('Model', bound=BaseModel)


def described(kind: type[BaseModel]) -> dict[str, Any]:
  """Returns what OpenAPI says of a body of a kind."""
  content = {'application/json': {'schema': kind.model_json_schema()}}
  return {'requestBody': {'content': content, 'required': True}}


async def read(request: Request, kind: type[Model]) -> Model:
  """Returns the body of a request.

  Raises:
    HTTPException: 415 if it is not sent as JSON, 400 if it is no JSON in UTF-8.
    RequestValidationError: If it is not of its kind.
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
