"""Listening on an address, and serving until a signal."""

import ipaddress
import logging
import socket
from collections.abc import Callable
from typing import Any

import uvicorn

from dreamprvr_jax.archive.serving.app import make_app
from dreamprvr_jax.archive.serving.connections import protocol_of
from dreamprvr_jax.archive.serving.limits import within_descriptors
from dreamprvr_jax.archive.serving.middleware import is_local
from dreamprvr_jax.archive.serving.service import Service
from dreamprvr_jax.errors import UserError

_log = logging.getLogger(__name__)

# New connections that the system keeps until the server accepts them.
_BACKLOG = 256
# Seconds that running answers have to finish when the server stops.
_GRACE = 10
_NEVER = 24 * 3600


def listen(host: str, port: int) -> socket.socket:
  """Returns a socket that listens on an address; port 0 means any free port.

  Raises:
    UserError: If the address cannot be used.
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


def _warning(host: str, address: str, port: int) -> str:
  """Returns the warning about a server that other machines can reach."""
  all_of_them = ipaddress.ip_address(address.partition('%')[0]).is_unspecified
  place = f'port {port} of {"this machine" if all_of_them else address}'
  return (
    f'--host={host}: everyone who can reach {place} may search this index and '
    'watch its videos, without a password; see Security in docs/serving.md'
  )


def serve(
  make_service: Callable[[Callable[[], None]], Service],
  *,
  host: str,
  port: int,
  token: str = '',
  say: Callable[[str], Any],
) -> None:
  """Serves until a signal stops it; then passes the signal to its former
  handler.

  Args:
    make_service: Makes the service from a function that stops the server.
    host: An address of this machine. Unless it is 127.0.0.1, ::1 or localhost,
      other machines can reach it, and without a token a warning says so.
    port: The port; 0 for any free port.
    token: What clients must know; '' to answer all.
    say: Tells the user the address.

  Raises:
    UserError: If the address is taken, or the service cannot become ready.
  """
  with listen(host, port) as place:
    server: uvicorn.Server

    def stop() -> None:
      server.should_exit = True

    service = make_service(stop)
    limits = within_descriptors(service.limits, _BACKLOG)
    server = uvicorn.Server(
      uvicorn.Config(
        make_app(service, local=is_local(host), token=token),
        lifespan='on',
        log_config=None,
        access_log=False,
        server_header=False,
        http=protocol_of(limits, service.metrics),
        ws='none',
        backlog=_BACKLOG,
        # `Connection` closes idle connections itself.
        timeout_keep_alive=_NEVER,
        timeout_graceful_shutdown=_GRACE,
      )
    )
    name = f'[{host}]' if ':' in host else host
    address, number = place.getsockname()[:2]
    loopback = ipaddress.ip_address(address.partition('%')[0]).is_loopback
    if not loopback and not token:
      _log.warning('%s', _warning(host, address, number))
    say(f'serving on http://{name}:{number}')
    server.run(sockets=[place])
  if service.failure:
    raise service.failure
