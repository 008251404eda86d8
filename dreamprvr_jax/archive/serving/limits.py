"""Limits of a server, and the errors of requests beyond them."""

import dataclasses
import logging
import os

from dreamprvr_jax.archive.index.files import allow_files, resource

_log = logging.getLogger(__name__)

# Files that the interpreter and its libraries may open later, at most.
_OTHERS = 100


class Busy(RuntimeError):
  """Too many requests wait; the same one may succeed later."""


class Gone(RuntimeError):
  """The client has left before its request was answered."""


class Late(RuntimeError):
  """A request was given up, because it took too long."""


@dataclasses.dataclass(frozen=True)
class Limits:
  """Limits of a server's memory and time.

  Attributes:
    body_bytes: Bytes of a request's body.
    hits: Hits of a query.
    moments: Moments of a hit.
    waiting: Queries that wait for the device.
    seconds: Seconds until a query without an answer is given up.
    pictures: Thumbnails that wait to be made.
    picture_bytes: Bytes of the thumbnails that are kept.
    upload_bytes: Bytes of a picture that is sent as a query.
    uploads: Pictures that are received or decoded at a time.
    conversions: Videos that are converted for browsers at a time.
    waiting_conversions: Conversions that run or wait.
    converted_bytes: Bytes of the converted videos that are kept on the disk.
    saved_seconds: Seconds of a stretch that is saved.
    ranges: Parts of a file that one request may ask for.
    connections: Open connections.
    address_connections: Open connections of one address.
    header_seconds: Seconds until the header of a request must be complete.
    body_seconds: Seconds from then until its body must be complete.
    idle_seconds: Seconds that a connection stays open between two requests.
  """

  body_bytes: int = 2**16
  hits: int = 100
  moments: int = 10
  waiting: int = 256
  seconds: float = 30.0
  pictures: int = 64
  picture_bytes: int = 2**26
  upload_bytes: int = 2**24
  uploads: int = 8
  conversions: int = 2
  waiting_conversions: int = 16
  converted_bytes: float = 2.0**31
  saved_seconds: float = 600.0
  ranges: int = 32
  connections: int = 1000
  address_connections: int = 256
  header_seconds: float = 10.0
  body_seconds: float = 10.0
  idle_seconds: float = 5.0


def _open_files() -> int:
  """Returns how many files the process has open; 0 if the system cannot say."""
  try:
    return len(os.listdir('/dev/fd'))
  except OSError:
    return 0


def within_descriptors(limits: Limits, backlog: int) -> Limits:
  """Returns limits whose connections do not exceed the file descriptors.

  A connection needs one descriptor, and one more while it sends a file. The
  process asks the system for enough; if it gets fewer, it accepts fewer
  connections.

  Args:
    limits: The wanted limits.
    backlog: Connections that the system keeps until the server accepts them.
  """
  if not resource:
    return limits
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  others = _open_files() + _OTHERS
  wanted = 2 * limits.connections + backlog + others
  if soft == resource.RLIM_INFINITY or soft >= wanted:
    return limits
  most = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
  if not allow_files(most):
    most = soft
  fitting = max((most - backlog - others) // 2, 1)
  if fitting >= limits.connections:
    return limits
  _log.warning(
    'the system lets this process open %d files, enough for %d connections '
    'where %d were requested; raise that limit (ulimit -Hn) for more',
    most,
    fitting,
    limits.connections,
  )
  return dataclasses.replace(limits, connections=fitting)
