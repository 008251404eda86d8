"""The connections of a server: how many, and how long they may take.

Uvicorn waits for the rest of a request as long as the client likes. Here a
request must be complete in time, and where there is no room for a connection
that is new, the one that waits longest for its client gives way.
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

# Seconds that a client has to take the last of an answer.
_CLOSING = 30.0


def protocol_of(limits: Limits, metrics: Metrics) -> type[asyncio.Protocol]:
  """Returns what uvicorn makes a connection of, as its `Config(http=...)`.

  All connections of the class share one `Room`.
  """
  room = Room(limits, metrics)

  class Bounded(Connection):
    def __init__(self, *arguments: Any, **options: Any):
      super().__init__(room, *arguments, **options)

  return Bounded


class Room:
  """The connections there are; all methods are for one event loop."""

  def __init__(self, limits: Limits, metrics: Metrics):
    self.limits, self.metrics = limits, metrics
    self._addresses: dict[Connection, str] = {}
    self._counts: collections.Counter[str] = collections.Counter()
    # Those that wait for their client, the longest first.
    self._waiting: dict[Connection, None] = {}

  def enter(self, connection: 'Connection') -> str:
    """Counts a new connection; returns why there is no room for it, or ''."""
    address = _network(connection.client)
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
    """Counts it no more."""
    self._waiting.pop(connection, None)
    address = self._addresses.pop(connection, None)
    if address is not None:
      self._counts[address] -= 1
      if not self._counts[address]:
        del self._counts[address]
    self.metrics.connections.set(len(self._addresses))

  def note(self, connection: 'Connection', *, waits: bool) -> None:
    """Notes whether it waits for its client from now on."""
    self._waiting.pop(connection, None)
    if waits and connection in self._addresses:
      self._waiting[connection] = None

  def _make_way(self, connection: 'Connection | None') -> bool:
    if connection:
      self.leave(connection)
      connection.give_way()
    return connection is not None


class Connection(H11Protocol):
  """A connection whose client must not let the server wait.

  It is always in one phase: 'header' and 'body' while a request arrives,
  'idle' between two, 'reading' while the client takes no more of an answer,
  'closing' while it takes the last of it, '' while the server is at work.
  """

  def __init__(self, room: Room, *arguments: Any, **options: Any):
    super().__init__(*arguments, **options)
    self._room = room
    self._seconds = {
      'header': room.limits.header_seconds,
      'body': room.limits.body_seconds,
      'idle': room.limits.idle_seconds,
      'closing': _CLOSING,
    }
    self._seen: Any = None
    self._timer: asyncio.TimerHandle | None = None

  def connection_made(self, transport: asyncio.Transport) -> None:
    super().connection_made(transport)
    reason = self._room.enter(self)
    if reason:
      self._count(reason)
      self._refuse(503, 'there are too many connections; try again')
    self._look()

  def connection_lost(self, exc: Exception | None) -> None:
    super().connection_lost(exc)
    self._room.leave(self)
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
    """Refuses what is no HTTP, in JSON as everything else."""
    del msg
    self._count('invalid')
    self._refuse(
      400, 'this is no valid HTTP request, or its header is too long'
    )

  def give_way(self) -> None:
    """Ends while its client is waited for, to make room."""
    if self._is_asked():
      self._count('displaced')
    self._end('others needed the connection before this request was complete')

  def _look(self) -> None:
    """Starts the clock of a phase when it begins."""
    phase = self._phase()
    # Of one request a phase comes once: what trickles in gives no new time.
    if (phase, self.cycle) == self._seen:
      return
    self._seen = phase, self.cycle
    if self._timer:
      self._timer.cancel()
    seconds = self._seconds.get(phase)
    self._timer = self.loop.call_later(seconds, self._late) if seconds else None
    self._room.note(self, waits=bool(phase))

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
    """Returns whether a part of the next header is there."""
    return bool(self.conn.trailing_data[0])

  def _is_asked(self) -> bool:
    """Returns whether a part of a request is there, and a part is not."""
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
    """Ends the connection, with a word if a request has begun."""
    if self._phase() in ('reading', 'closing'):
      # What is written would wait for the client, too.
      self.transport.abort()
    elif self._is_asked():
      self._refuse(408, sentence)
    else:
      self._close()

  def _count(self, reason: str) -> None:
    self._room.metrics.refused_connections.labels(reason).inc()

  def _refuse(self, status: int, sentence: str) -> None:
    """Answers past h11, which answers no half request, and hangs up."""
    if self.transport.is_closing():
      return
    # A request is answered once, even if the rest of it never comes.
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


def _network(client: tuple[str, int] | None) -> str:
  """Returns what counts as one address: of IPv6 all that a network has."""
  try:
    address = ipaddress.ip_address((client or ('',))[0].partition('%')[0])
  except ValueError:
    return ''
  if isinstance(address, ipaddress.IPv4Address):
    return str(address)
  if address.ipv4_mapped:
    return str(address.ipv4_mapped)
  return str(ipaddress.ip_network((address, 64), strict=False))
