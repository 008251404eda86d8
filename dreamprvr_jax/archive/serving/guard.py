"""What is refused before anything reads it."""

import ipaddress
from typing import Any

from fastapi import HTTPException

from dreamprvr_jax.archive.serving.refusals import refusal

HEADERS = {
  # Nothing of a page or an answer comes from, or goes to, another place.
  b'content-security-policy': b"default-src 'self' 'unsafe-inline'; "
  b"img-src 'self' data:; frame-ancestors 'none'",
  b'x-content-type-options': b'nosniff',
  b'referrer-policy': b'no-referrer',
}


def is_local(host: str) -> bool:
  """Returns whether a host is this machine alone."""
  try:
    return ipaddress.ip_address(host.strip('[]')).is_loopback
  except ValueError:
    return host.lower() == 'localhost'


class Guard:
  """An ASGI app that refuses what is too large, or meant for another host.

  A web page of anywhere can have its own name lead to this machine; the name
  then stands in the header `host`. Who asks for 127.0.0.1 does so himself.
  """

  def __init__(self, app: Any, *, body_bytes: int, local: bool):
    """Args:
    app: What answers the others.
    body_bytes: Of a request, at most.
    local: Whether only requests to this machine by its own names are meant.
    """
    self._app, self._bytes, self._local = app, body_bytes, local

  async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
    if scope['type'] != 'http':
      await self._app(scope, receive, send)
      return
    given = dict(scope['headers'])

    async def answer(message: Any) -> None:
      if message['type'] == 'http.response.start':
        message['headers'] = [*message['headers'], *HEADERS.items()]
      await send(message)

    host = given.get(b'host', b'').decode('latin-1')
    if self._local and not is_local(_without_port(host)):
      sentence = (
        f'this server is for its own machine, not for {host!r}; start it with '
        '--host to serve others'
      )
      await refusal(421, sentence)(scope, receive, answer)
      return
    length = given.get(b'content-length', b'0')
    if not length.isdigit() or int(length) > self._bytes:
      error = self._too_large()
      await refusal(413, error.detail)(scope, receive, answer)
      return
    read = 0

    async def count() -> Any:
      # A request that comes in pieces does not say how long it is.
      nonlocal read
      message = await receive()
      read += len(message.get('body', b''))
      if read > self._bytes:
        raise self._too_large()
      return message

    await self._app(scope, count, answer)

  def _too_large(self) -> HTTPException:
    return HTTPException(
      413, f'a request may have {self._bytes:,} bytes; this one has more'
    )


def _without_port(host: str) -> str:
  name, colon, port = host.rpartition(':')
  return name if colon and port.isdigit() else host
