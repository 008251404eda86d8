"""Names of files that are not text."""

import os
import re

_BYTES = re.compile('[\udc80-\udcff]')


def shown(name: os.PathLike[str] | str) -> str:
  """Returns a name as text that can be printed, stored and used in an id.

  A file's name is bytes. Those that are not UTF-8, which Python holds as lone
  surrogates, become '%' and two hexadecimal digits, as in 'caf%E9'.
  """
  return _BYTES.sub(
    lambda found: f'%{ord(found[0]) & 0xFF:02X}', os.fspath(name)
  )
