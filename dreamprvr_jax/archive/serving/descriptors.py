"""Open files that the system lets this process have."""

import dataclasses
import logging

from dreamprvr_jax.archive.serving.limits import Limits

try:
  import resource
except ModuleNotFoundError:  # Windows, where sockets count for themselves.
  resource = None

_log = logging.getLogger(__name__)

# Those of the index, of the interpreter and of its libraries, at most.
_OTHERS = 200


def within_descriptors(limits: Limits, backlog: int) -> Limits:
  """Returns limits whose connections there are descriptors for.

  A connection has one, and one more while it sends a file. The process asks
  the system for as many as are wanted, and takes fewer connections if it may
  not have them.

  Args:
    limits: What is wanted.
    backlog: Connections that are taken at once before one is refused.
  """
  if not resource:
    return limits
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  wanted = 2 * limits.connections + backlog + _OTHERS
  if soft == resource.RLIM_INFINITY or soft >= wanted:
    return limits
  most = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
  if most > soft:
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
  room = max((most - backlog - _OTHERS) // 2, 1)
  if room >= limits.connections:
    return limits
  _log.warning(
    'the system lets this process open %d files, enough for %d connections '
    'where %d were asked for; raise that limit (ulimit -Hn) for more',
    most,
    room,
    limits.connections,
  )
  return dataclasses.replace(limits, connections=room)
