"""The process that listens."""

import socket
from collections.abc import Callable
from typing import Any

import uvicorn

from dreamprvr_jax.errors import UserError
from serving.app import make_app
from serving.guard import is_local
from serving.service import Service

# Requests and idle connections at a time.
_CONNECTIONS = 1000
# Seconds that running answers have when the server is stopped.
_GRACE = 10


def listen(host: str, port: int) -> socket.socket:
  """Returns the socket of an address; port 0 is a free one.

  Raises:
    UserError: If it cannot be had.
  """
  family = socket.AF_INET6 if ':' in host else socket.AF_INET
  try:
    return socket.create_server((host, port), family=family)
  except (OSError, OverflowError) as error:
    reason = getattr(error, 'strerror', None) or error
    raise UserError(
      f'--host={host} --port={port} cannot be listened on ({reason}); choose '
      'another port, or an address of this machine'
    ) from error


def serve(
  make_service: Callable[[Callable[[], None]], Service],
  *,
  host: str,
  port: int,
  say: Callable[[str], Any],
) -> None:
  """Serves until a signal ends it; whoever handled the signal before gets it
  when all is closed.

  Args:
    make_service: Makes the service from what ends the server.
    host: An address of this machine; others reach it only if it is not
      127.0.0.1, ::1 or localhost.
    port: The port; 0 is a free one.
    say: Tells the user the address.

  Raises:
    UserError: If the address is taken, or the service cannot become ready.
  """
  with listen(host, port) as place:
    server: uvicorn.Server

    def stop() -> None:
      server.should_exit = True

    service = make_service(stop)
    server = uvicorn.Server(
      uvicorn.Config(
        make_app(service, local=is_local(host)),
        lifespan='on',
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE,
      )
    )
    name = f'[{host}]' if ':' in host else host
    say(f'serving on http://{name}:{place.getsockname()[1]}')
    server.run(sockets=[place])
  if service.failure:
    raise service.failure
