"""What a request, and who asks, may ask for."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Limits:
  """Bounds that keep a server's memory and time bounded.

  Attributes:
    body_bytes: Of a request.
    characters: Of a query.
    words: Of a query.
    hits: Of a query.
    moments: Of a hit.
    waiting: Queries that wait for the device.
    seconds: Until a query that was not answered is given up.
    pictures: Thumbnails that wait to be made.
    picture_bytes: Of the thumbnails that are kept.
    ranges: Parts of a file that one request may ask for.
    connections: At a time, in all.
    address_connections: At a time, of one address.
    header_seconds: Until the header of a request must be complete.
    body_seconds: From then until its body must be complete.
    idle_seconds: That a connection stays open between two requests.
  """

  body_bytes: int = 2**16
  characters: int = 1000
  words: int = 100
  hits: int = 100
  moments: int = 10
  waiting: int = 256
  seconds: float = 30.0
  pictures: int = 64
  picture_bytes: int = 2**26
  ranges: int = 32
  connections: int = 1000
  address_connections: int = 256
  header_seconds: float = 10.0
  body_seconds: float = 10.0
  idle_seconds: float = 5.0
