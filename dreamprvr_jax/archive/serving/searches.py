"""The paths that answer searches."""

import dataclasses
import math
import time
from typing import Annotated, Any

import anyio.to_thread
import numpy as np
from fastapi import FastAPI, HTTPException, Query, Request
from jaxtyping import UInt8
from PIL import Image

from dreamprvr_jax.archive.search.filters import Filters
from dreamprvr_jax.archive.serving import answers, catalogue, media, schema
from dreamprvr_jax.archive.serving.answers import DEPTHS, BadQuery
from dreamprvr_jax.archive.serving.limits import Busy
from dreamprvr_jax.archive.serving.service import Service
from dreamprvr_jax.archive.serving.thumbnails import picture_of
from dreamprvr_jax.archive.videos.stills import read_still
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.text import TextError, sentence

PICTURE = '/api/search/picture'

# Kinds of pictures that are read, and their pixels: decoding needs up to 16
# bytes for each.
_KINDS = ('JPEG', 'PNG', 'WEBP', 'GIF')
_PIXELS = 24_000_000
# A picture is scaled to this many pixels a side while it waits.
_SIDE = 1024
_OF_SEARCH: dict[int | str, dict[str, Any]] = {
  **{status: schema.ERRORS[status] for status in (400, 503)},
  413: {'model': schema.Error, 'description': 'The request is too large.'},
  422: {'model': schema.Error, 'description': 'The request does not fit.'},
  504: {'model': schema.Error, 'description': 'No answer in time.'},
}
_OF_TEXT: dict[int | str, dict[str, Any]] = {
  **_OF_SEARCH,
  404: schema.ERRORS[404],
  415: {'model': schema.Error, 'description': 'The request is not JSON.'},
}


_Seconds = Annotated[float, Query(ge=0, allow_inf_nan=False)]


def add_to(app: FastAPI, service: Service) -> None:
  """Adds the paths to an app."""
  most = min(service.limits.hits, DEPTHS[-1])
  uploads = _Uploads(service.limits.uploads)

  @app.post(
    '/api/search',
    responses=_OF_TEXT,
    openapi_extra=schema.described(schema.SearchRequest),
  )
  async def search(sent: Request) -> schema.SearchAnswer:
    """The best videos for a sentence or a picture of a video, and the moments
    in them."""
    began = time.perf_counter()
    request = await schema.read(sent, schema.SearchRequest)
    if request.like:
      file = media.playable(service.contents, request.like.video)
      with service.thumbnails.turn():
        picture = await media.decoded(sent, picture_of, file, request.like.at)
      asked = answers.Query(picture=_small(picture))
    else:
      asked = answers.Query(_sentence(request.query))
    filters = _filters(
      request.folder,
      request.after,
      request.before,
      request.min_seconds,
      request.max_seconds,
    )
    query = dataclasses.replace(
      asked,
      k=request.k,
      moments=request.moments,
      filters=filters,
      duplicates=request.duplicates,
    )
    return await _found(service, query, began, request.timeline)

  @app.post(
    PICTURE,
    responses=_OF_SEARCH,
    openapi_extra={
      'requestBody': {
        'content': {
          f'image/{kind.lower()}': {
            'schema': {'type': 'string', 'format': 'binary'}
          }
          for kind in _KINDS
        },
        'required': True,
      }
    },
  )
  async def picture(
    sent: Request,
    k: Annotated[int, Query(ge=1, le=most)] = 10,
    moments: Annotated[int, Query(ge=1, le=service.limits.moments)] = 3,
    timeline: bool = True,
    folder: str = '',
    after: str = '',
    before: str = '',
    min_seconds: _Seconds = 0.0,
    max_seconds: _Seconds | None = None,
    duplicates: bool = False,
  ) -> schema.SearchAnswer:
    """The best videos for a picture that is sent, and the moments in them."""
    began = time.perf_counter()
    _check_kind(sent)
    filters = _filters(folder, after, before, min_seconds, max_seconds)
    with uploads:
      content = await sent.body()
      limiter = sent.app.state.pictures
      made = await anyio.to_thread.run_sync(_read, content, limiter=limiter)
    query = answers.Query('', made, k, moments, filters, duplicates)
    return await _found(service, query, began, timeline)


class _Uploads:
  """Counts the pictures that are being received or decoded."""

  def __init__(self, most: int):
    self._most, self._count = most, 0

  def __enter__(self) -> None:
    if self._count >= self._most:
      raise Busy('too many pictures are being received')
    self._count += 1

  def __exit__(self, *_: Any) -> None:
    self._count -= 1


async def _found(
  service: Service, query: answers.Query, began: float, timeline: bool
) -> schema.SearchAnswer:
  """Returns the answer to a query."""
  contents, answer = await service.search(query)
  hits = []
  for rank, hit in enumerate(answer.hits, 1):
    content = hit.to_json(rank)
    if not timeline:
      content['timeline'] = None
    facts = catalogue.facts_of(contents, hit.video_id)
    hits.append(schema.Hit(**{**content, **facts}))
  return schema.SearchAnswer(
    query=answer.text,
    notice=answer.notice,
    videos=len(contents),
    seconds=time.perf_counter() - began,
    hits=hits,
  )


def _filters(
  folder: str,
  after: str,
  before: str,
  min_seconds: float,
  max_seconds: float | None,
) -> Filters:
  """Returns conditions; raises HTTPException 422 if they are impossible."""
  most = math.inf if max_seconds is None else max_seconds
  # An absolute folder is one of the machine, which is not the client's matter.
  try:
    return Filters(folder.strip('/'), after, before, min_seconds, most)
  except UserError as error:
    raise HTTPException(422, str(error)) from error


def _sentence(query: str) -> str:
  """Returns a query in NFC; raises HTTPException 400 if it has no word."""
  try:
    return sentence(query, 'query')
  except TextError as error:
    raise HTTPException(400, str(error)) from error


def _check_kind(sent: Request) -> None:
  """Raises HTTPException 415 unless a request says that it is a picture, which
  no page of another server may send without being asked."""
  kind = sent.headers.get('content-type', '').partition(';')[0].strip().lower()
  if kind != 'application/octet-stream' and not kind.startswith('image/'):
    raise HTTPException(
      415,
      f'the request has the content type {kind!r}; send the picture itself, '
      'with a header such as content-type: image/jpeg',
    )


def _read(content: bytes) -> UInt8[np.ndarray, 'h w 3']:
  """Returns a picture that was sent.

  Raises:
    BadQuery: If it cannot be read.
  """
  try:
    return _small(
      read_still(content, 'the picture', kinds=_KINDS, most=_PIXELS)
    )
  except UserError as error:
    raise BadQuery(str(error)) from None


def _small(pixels: UInt8[np.ndarray, 'h w 3']) -> UInt8[np.ndarray, 'h w 3']:
  """Returns a picture with at most `_SIDE` pixels a side."""
  if max(pixels.shape[:2]) <= _SIDE:
    return pixels
  image = Image.fromarray(pixels)
  image.thumbnail((_SIDE, _SIDE))
  return np.asarray(image)
