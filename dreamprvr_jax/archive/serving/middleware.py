"""ASGI apps around the server's own: the guard, and HEAD."""

import ipaddress
from collections.abc import Mapping
from typing import Any

from fastapi import HTTPException

from dreamprvr_jax.archive.serving.refusals import refusal

# In the scope of a request: whether it was a HEAD.
HEAD = 'dreamprvr.head'
HEADERS = {
  # Pages and answers load nothing from other servers and send nothing there.
  b'content-security-policy': b"default-src 'self'; img-src 'self' data: "
  b"blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
  b'x-content-type-options': b'nosniff',
  b'referrer-policy': b'no-referrer',
}


def is_local(host: str) -> bool:
  """Returns whether a host name or address means this machine alone."""
  try:
    return ipaddress.ip_address(host.strip('[]')).is_loopback
  except ValueError:
    return host.lower() == 'localhost'


class Guard:
  """An ASGI app that refuses requests that are too large, or for another host.

  A foreign web page can let its own domain name point to this machine and then
  send requests here (DNS rebinding). Such requests have that name in the header
  `host`, so only requests for this machine's own names are accepted.
  """

  def __init__(
    self,
    app: Any,
    *,
    body_bytes: int,
    local: bool,
    uploads: Mapping[str, int] | None = None,
  ):
    """Args:
    app: Answers the other requests.
    body_bytes: Bytes of a request's body, at most.
    local: Whether only requests to this machine's own names are accepted.
    uploads: {path: bytes} of paths whose bodies may be larger.
    """
    self._app, self._bytes, self._local = app, body_bytes, local
    self._uploads = dict(uploads or {})

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
    most = self._uploads.get(scope['path'], self._bytes)
    if not length.isdigit() or int(length) > most:
      error = _too_large(most)
      await refusal(413, error.detail)(scope, receive, answer)
      return
    read = 0

    async def count() -> Any:
      # A request that comes in chunks does not say its length.
      nonlocal read
      message = await receive()
      read += len(message.get('body', b''))
      if read > most:
        raise _too_large(most)
      return message

    await self._app(scope, count, answer)


def _too_large(most: int) -> HTTPException:
  return HTTPException(
    413, f'a request may have {most:,} bytes; this one has more'
  )


def _without_port(host: str) -> str:
  name, colon, port = host.rpartition(':')
  return name if colon and port.isdigit() else host


class Heads:
  """An ASGI app that answers HEAD as GET, without the body."""

  def __init__(self, app: Any):
    """Args:
    app: Answers GET.
    """
    self._app = app

  async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
    if scope['type'] != 'http' or scope['method'] != 'HEAD':
      await self._app(scope, receive, send)
      return

    async def bare(message: Any) -> None:
      if message['type'] == 'http.response.body':
        message = {**message, 'body': b''}
      await send(message)

    await self._app({**scope, 'method': 'GET', HEAD: True}, receive, bare)
