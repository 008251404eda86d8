"""The boxes that MP4 files are made of."""

import os

_HEADER = 8


def is_torn(path: str) -> bool:
  """Returns whether an MP4 file ends inside one of its outermost boxes."""
  size = os.path.getsize(path)
  with open(path, 'rb') as file:
    place = 0
    while place < size:
      file.seek(place)
      header = file.read(2 * _HEADER)
      length = int.from_bytes(header[:4], 'big')
      if length == 1:
        # It is in the next eight bytes.
        length = int.from_bytes(header[_HEADER:], 'big')
      if length == 0:
        return False  # up to the end, wherever that is
      if length < _HEADER:
        return True  # what is there is no box
      place += length
  return place > size
