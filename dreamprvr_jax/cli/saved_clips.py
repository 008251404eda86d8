"""--save_clips=DIR: the best moments of hits as files of their own."""

import logging
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dreamprvr_jax.archive.videos.cutting import EARLY, ENDING, save_clip
from dreamprvr_jax.archive.videos.files import import_av, shown
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.progress import bar

_log = logging.getLogger(__name__)

# What file systems and shells do not like in a name.
_ODD = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]+')
# Bytes of a title in a name, at most. A name has up to 255, and a temporary one
# is longer.
_LENGTH = 120


def save_clips(
  queries: Sequence[Mapping[str, Any]],
  folder: str,
  file_of: Callable[[Mapping[str, Any]], str],
  *,
  progress: bool,
) -> int:
  """Saves the best moment of each hit; returns how many were saved.

  A hit whose moment has no seconds, or whose file is missing or cannot be cut,
  is named in the log. `clip` of the others becomes the path of the clip. The
  clips of several queries are in a folder for each.

  Args:
    queries: The queries with their hits, see `Hit.to_json`.
    folder: Where clips are written.
    file_of: Returns the file of a hit, '' if it is unknown.
    progress: Whether a progress bar is shown.

  Raises:
    UserError: If PyAV is not installed.
    OSError: If a clip cannot be written.
  """
  # Once, not for each hit.
  import_av()
  root = pathlib.Path(folder)
  wanted = []
  for number, query in enumerate(queries, 1):
    # The number makes names differ.
    name = f'{number:03d} {_plain(str(query["id"]))}'
    place = root if len(queries) == 1 else root / name
    wanted += [(place, hit) for hit in query['hits']]
  saved = 0
  for place, hit in bar(wanted, 'clips', total=len(wanted), show=progress):
    moment, file = hit['moments'][0], file_of(hit)
    if not file or not np.isfinite(moment['start']):
      why = 'its length is not known' if file else 'its file is not known'
      _log.warning('no clip of %s: %s', hit['video'], why)
      continue
    target = place / name_of(hit['rank'], hit['video'], moment)
    try:
      save_clip(file, moment['start'], moment['end'], target, early=EARLY)
    except UserError as error:
      _log.warning('no clip of %s: %s', hit['video'], error)
      continue
    hit['clip'] = str(target)
    saved += 1
  return saved


def name_of(rank: int, title: str, moment: Mapping[str, Any]) -> str:
  """Returns the name of a clip, such as '01 dog_run 12.5-18.0.mp4'."""
  stem = pathlib.PurePosixPath(title).stem
  seconds = f'{moment["start"]:.1f}-{moment["end"]:.1f}'
  return f'{rank:02d} {_plain(stem)} {seconds}{ENDING}'


def _plain(name: str) -> str:
  """Returns a name that every file system takes."""
  found = _ODD.sub('_', shown(name)).strip(' .')
  return found.encode()[:_LENGTH].decode(errors='ignore') or '_'
