"""Metrics of a server, in the text format of Prometheus."""

import time
from typing import Any

from prometheus_client import (
  CollectorRegistry,
  Counter,
  Gauge,
  Histogram,
  ProcessCollector,
  generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from dreamprvr_jax.archive.serving.middleware import HEAD

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
  """The metrics of one server.

  Attributes:
    batch: Histogram of queries answered together.
    device: Histogram of the seconds that a batch took.
    waiting: Gauge of queries that wait.
    damaged: Gauge of damaged files of the index.
    verified: Gauge of the bytes of the index that were read to find them.
    refused: Counter of searches without an answer by `reason`: busy, late,
      failed.
    connections: Gauge of open connections.
    refused_connections: Counter of connections that were refused, or ended
      before their request was complete, by `reason`: all, address (too many),
      displaced, header, body (too slow), invalid.
  """

  def __init__(self):
    self._registry = CollectorRegistry()
    within: dict[str, Any] = {'registry': self._registry}
    self._requests = Counter(
      'dreamprvr_requests_total',
      'Requests by path, method and status.',
      ['path', 'method', 'status'],
      **within,
    )
    self._seconds = Histogram(
      'dreamprvr_request_seconds',
      'Seconds from a request to the end of its answer.',
      ['path'],
      buckets=_SECONDS,
      **within,
    )
    self.batch = Histogram(
      'dreamprvr_batch_queries',
      'Queries answered together.',
      buckets=(1, 2, 4, 8, 16, 32),
      **within,
    )
    self.device = Histogram(
      'dreamprvr_batch_seconds',
      'Seconds that the queries answered together took.',
      buckets=_SECONDS,
      **within,
    )
    self.waiting = Gauge(
      'dreamprvr_waiting_queries', 'Queries that wait for the device.', **within
    )
    self.damaged = Gauge(
      'dreamprvr_damaged_files',
      'Files of the index that are not as they were written.',
      **within,
    )
    self.verified = Gauge(
      'dreamprvr_verified_bytes',
      'Bytes of the index that were compared with checksums.',
      **within,
    )
    self.refused = Counter(
      'dreamprvr_refused_total',
      'Searches without an answer: busy, late, failed.',
      ['reason'],
      **within,
    )
    self.connections = Gauge(
      'dreamprvr_connections', 'Connections that are open.', **within
    )
    self.refused_connections = Counter(
      'dreamprvr_refused_connections_total',
      'Connections without a complete request: all, address (too many), '
      'displaced, header, body (too slow), invalid.',
      ['reason'],
      **within,
    )
    ProcessCollector(registry=self._registry)

  def text(self) -> bytes:
    """Returns all metrics as text."""
    return generate_latest(self._registry)

  def watched(self, app: Any) -> Any:
    """Returns an ASGI app that counts its requests."""

    async def call(scope: Any, receive: Any, send: Any) -> None:
      if scope['type'] != 'http':
        await app(scope, receive, send)
        return
      status, began = 500, time.perf_counter()

      async def watch(message: Any) -> None:
        nonlocal status
        if message['type'] == 'http.response.start':
          status = message['status']
        await send(message)

      try:
        await app(scope, receive, watch)
      finally:
        # The template, not the path: each id would become a series.
        path = getattr(scope.get('route'), 'path', 'other')
        known = path != 'other' and status != 405
        method = 'HEAD' if scope.get(HEAD) else scope['method']
        method = method if known else 'any'
        self._requests.labels(path, method, status).inc()
        self._seconds.labels(path).observe(time.perf_counter() - began)

    return call
