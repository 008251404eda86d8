"""The connections of a server: their number, and the time they may take.

Uvicorn waits for the rest of a request forever. Here, a request must be
complete in time. If there are too many connections, a new one replaces the one
that has waited longest for its client.
"""

import asyncio
import collections
import ipaddress
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from dreamprvr_jax.archive.serving.limits import Limits
from dreamprvr_jax.archive.serving.metrics import Metrics

_REASONS = {
  400: b'Bad Request',
  408: b'Request Timeout',
  503: b'Service Unavailable',
}

# Seconds that a client has to read the end of an answer.
_CLOSING = 30.0


def protocol_of(limits: Limits, metrics: Metrics) -> type[asyncio.Protocol]:
  """Returns the class of connections for uvicorn's `Config(http=...)`.

  All connections of the class share one `Pool`.
  """
  pool = Pool(limits, metrics)

  class Bounded(Connection):
    def __init__(self, *arguments: Any, **options: Any):
      super().__init__(pool, *arguments, **options)

  return Bounded


class Pool:
  """The open connections; all methods belong to one event loop."""

  def __init__(self, limits: Limits, metrics: Metrics):
    self.limits, self.metrics = limits, metrics
    self._addresses: dict[Connection, str] = {}
    self._counts: collections.Counter[str] = collections.Counter()
    # Connections that wait for their client; the longest wait comes first.
    self._waiting: dict[Connection, None] = {}

  def enter(self, connection: 'Connection') -> str:
    """Counts a new connection; returns which limit refuses it, or ''."""
    address = network_of(connection.client)
    if self._counts[address] >= self.limits.address_connections:
      near = (x for x in self._waiting if self._addresses[x] == address)
      if not self._make_way(next(near, None)):
        return 'address'
    if len(self._addresses) >= self.limits.connections and not self._make_way(
      next(iter(self._waiting), None)
    ):
      return 'all'
    self._addresses[connection] = address
    self._counts[address] += 1
    self.metrics.connections.set(len(self._addresses))
    return ''

  def leave(self, connection: 'Connection') -> None:
    """Forgets a connection that has ended."""
    self._waiting.pop(connection, None)
    address = self._addresses.pop(connection, None)
    if address is not None:
      self._counts[address] -= 1
      if not self._counts[address]:
        del self._counts[address]
    self.metrics.connections.set(len(self._addresses))

  def note(self, connection: 'Connection', *, waits: bool) -> None:
    """Notes whether a connection waits for its client."""
    self._waiting.pop(connection, None)
    if waits and connection in self._addresses:
      self._waiting[connection] = None

  def _make_way(self, connection: 'Connection | None') -> bool:
    """Ends a connection, if there is one; returns whether there was."""
    if connection:
      self.leave(connection)
      connection.give_way()
    return connection is not None


class Connection(H11Protocol):
  """A connection that ends if its client lets the server wait too long.

  It is always in one phase: 'header' or 'body' while a request arrives, 'idle'
  between two requests, 'reading' while the client is slow to read an answer,
  'closing' while it reads the end, and '' while the server works.
  """

  def __init__(self, pool: Pool, *arguments: Any, **options: Any):
    super().__init__(*arguments, **options)
    self._pool = pool
    self._seconds = {
      'header': pool.limits.header_seconds,
      'body': pool.limits.body_seconds,
      'idle': pool.limits.idle_seconds,
      'closing': _CLOSING,
    }
    self._seen: Any = None
    self._timer: asyncio.TimerHandle | None = None

  def connection_made(self, transport: asyncio.Transport) -> None:
    super().connection_made(transport)
    reason = self._pool.enter(self)
    if reason:
      self._count(reason)
      self._refuse(503, 'there are too many connections; try again')
    self._look()

  def connection_lost(self, exc: Exception | None) -> None:
    super().connection_lost(exc)
    self._pool.leave(self)
    if self._timer:
      self._timer.cancel()

  def data_received(self, data: bytes) -> None:
    super().data_received(data)
    self._look()

  def on_response_complete(self) -> None:
    super().on_response_complete()
    self._look()

  def pause_writing(self) -> None:
    super().pause_writing()
    self._look()

  def resume_writing(self) -> None:
    super().resume_writing()
    self._look()

  def send_400_response(self, msg: str) -> None:
    """Refuses invalid HTTP; the answer is JSON, as all others are."""
    del msg
    self._count('invalid')
    self._refuse(
      400, 'this is no valid HTTP request, or its header is too long'
    )

  def give_way(self) -> None:
    """Ends, because a new connection takes its place."""
    if self._is_asked():
      self._count('displaced')
    self._end('others needed the connection before this request was complete')

  def _look(self) -> None:
    """Starts the timer of a phase when it begins."""
    phase = self._phase()
    # A request has each phase once: data that trickles in adds no time.
    if (phase, self.cycle) == self._seen:
      return
    self._seen = phase, self.cycle
    if self._timer:
      self._timer.cancel()
    seconds = self._seconds.get(phase)
    self._timer = self.loop.call_later(seconds, self._late) if seconds else None
    self._pool.note(self, waits=bool(phase))

  def _phase(self) -> str:
    if self.transport.is_closing():
      return 'closing'
    if self.conn.their_state is h11.SEND_BODY:
      return 'body'
    if self.flow.write_paused:
      return 'reading'
    if self.conn.their_state is not h11.IDLE:
      return ''
    begun = self.cycle is None or self._has_begun()
    return 'header' if begun else 'idle'

  def _has_begun(self) -> bool:
    """Returns whether a part of the next header has arrived."""
    return bool(self.conn.trailing_data[0])

  def _is_asked(self) -> bool:
    """Returns whether a request has arrived in part."""
    phase = self._phase()
    return phase == 'body' or (phase == 'header' and self._has_begun())

  def _late(self) -> None:
    phase = self._phase()
    if self._is_asked():
      self._count(phase)
    self._end(
      f'the {phase} of the request was not complete within '
      f'{self._seconds.get(phase, 0):g} seconds'
    )

  def _end(self, sentence: str) -> None:
    """Ends the connection; says why if a request has begun."""
    if self._phase() in ('reading', 'closing'):
      # An answer would wait for the client, too.
      self.transport.abort()
    elif self._is_asked():
      self._refuse(408, sentence)
    else:
      self._close()

  def _count(self, reason: str) -> None:
    self._pool.metrics.refused_connections.labels(reason).inc()

  def _refuse(self, status: int, sentence: str) -> None:
    """Writes an answer itself, as h11 answers no partial request; closes."""
    if self.transport.is_closing():
      return
    # A request gets one answer, even if the rest of it never comes.
    begun = self.cycle is not None and self.cycle.response_started
    if not begun or (
      self.cycle.response_complete
      and self.conn.their_state is not h11.SEND_BODY
    ):
      content = json.dumps({'error': sentence}).encode()
      head = (
        b'HTTP/1.1 %d %s\r\ncontent-type: application/json\r\n'
        b'content-length: %d\r\nconnection: close\r\n\r\n'
      )
      self.transport.write(
        head % (status, _REASONS[status], len(content)) + content
      )
    self._close()

  def _close(self) -> None:
    self.transport.close()
    self._look()


def network_of(client: tuple[str, int] | None) -> str:
  """Returns what counts as one address: for IPv6, the whole /64 network."""
  try:
    address = ipaddress.ip_address((client or ('',))[0].partition('%')[0])
  except ValueError:
    return ''
  if isinstance(address, ipaddress.IPv4Address):
    return str(address)
  if address.ipv4_mapped:
    return str(address.ipv4_mapped)
  return str(ipaddress.ip_network((address, 64), strict=False))
