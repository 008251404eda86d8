"""HEAD: what GET would answer, without the body."""

from typing import Any

# In the scope of a request: whether it was a HEAD.
HEAD = 'dreamprvr.head'


class Heads:
  """An ASGI app that makes a HEAD of every GET."""

  def __init__(self, app: Any):
    """Args:
    app: What answers GET.
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
