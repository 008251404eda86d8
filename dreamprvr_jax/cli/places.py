"""The folders and files that --videos names, and the ids of other flags."""

import os
import pathlib
from collections.abc import Iterable

from dreamprvr_jax import text
from dreamprvr_jax.archive.videos.files import shown
from dreamprvr_jax.errors import UserError


def places(flag: str, known: Iterable[str] = ()) -> list[pathlib.Path]:
  """Returns the absolute paths of --videos, each once.

  Args:
    flag: 'a,b', or '@FILE' with one path on each line. A path that exists as
      it is written may have commas.
    known: Paths that an index follows already; these may be missing.

  Raises:
    UserError: If one does not exist, or the file is not UTF-8 text or names
      none.
  """
  if not flag:
    return []
  if flag.startswith('@'):
    lines = text.read_rows(flag[1:])
  elif pathlib.Path(flag).exists():
    lines = [flag]
  else:
    lines = flag.split(',')
  named = [line.strip() for line in lines if not text.is_blank(line)]
  found = [_whole(name) for name in named]
  if not found:
    raise UserError(f'--videos={shown(flag)} names no folder; give one or more')
  there = set(known)
  for path in found:
    if not path.exists() and str(path) not in there:
      raise UserError(
        f'--videos={shown(flag)}: {shown(path)} does not exist; give folders '
        'of videos or video files'
      )
  return list(dict.fromkeys(found))


def _whole(name: str) -> pathlib.Path:
  """Returns the absolute path of a name, without `..`."""
  path = pathlib.Path(name).expanduser()
  plain = pathlib.Path(os.path.abspath(path))
  # Behind a link, `..` is another folder than the one before it.
  same = not path.exists() or (plain.exists() and plain.samefile(path))
  return plain if same else path.resolve()


def ids_in(name: str, flag: str, there: Iterable[str]) -> list[str]:
  """Returns the ids of --remove or --restore in the spelling of the index.

  Args:
    name: The flag's name.
    flag: 'a,b', or '@FILE' with one id per line. An id that exists as it is
      written may have commas.
    there: The ids of the index; older ones may be decomposed.

  Raises:
    UserError: If the file is not UTF-8 text, or names no video.
  """
  where = f'--{name}={flag}'
  stored = {text.normal(one): one for one in there}
  if flag.startswith('@'):
    lines = text.read_rows(flag[1:])
  elif text.normal(flag) in stored:
    lines = [flag]
  else:
    lines = flag.split(',')
  names = [
    text.check(line.strip(), where) for line in lines if not text.is_blank(line)
  ]
  if not names:
    raise UserError(f'{where} names no video; give one id or more')
  return [stored.get(one, one) for one in names]
