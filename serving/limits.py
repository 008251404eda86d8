"""What a request may ask for."""

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
