"""Compiled programs that are kept on disk for the next start.

JAX keeps them if it is given a folder. `AUTO` is one in the cache folder of the
user, `XDG_CACHE_HOME` or ~/.cache (on macOS ~/Library/Caches):

  dreamprvr_jax/programs/KEY/   programs of one release of JAX and one CPU

A program in the folder is code that is run, so the folder must belong to the
user, and nobody else may write to it. JAX's own key covers the program, the
releases, flags and devices; ours adds the instructions of the CPU, since a home
folder may be shared by machines. JAX has a bound on the size, too, but it needs
a lock and a look at all programs for each new one, so ours is kept once, at the
start. JAX writes a file in place: what a killed process left half written is
found and removed at the next start.
"""

import contextlib
import hashlib
import importlib
import logging
import os
import pathlib
import platform
import stat
import sys
import time
import warnings
import zlib
from collections.abc import Iterator
from typing import Any

import jax
from jaxlib import version as jaxlib

_log = logging.getLogger(__name__)

AUTO = 'auto'
# Bytes on the disk, at most, and what is left when they are exceeded.
MOST_BYTES, LEFT_BYTES = 2**29, 2**28
# Settings of JAX -> what replaces JAX's own values. A small program is loaded
# several times faster than it is compiled, so that all are kept.
_SETTINGS = {
  'jax_persistent_cache_min_compile_time_secs': 0,
  'jax_persistent_cache_min_entry_size_bytes': -1,
}
# What /proc/cpuinfo says of the kind of a CPU and of its instructions.
_CPU = (
  'vendor_id',
  'cpu family',
  'model',
  'model name',
  'stepping',
  'flags',
  'CPU implementer',
  'CPU variant',
  'CPU part',
  'Features',
)
_CHECKED = '.checked'
_ZSTANDARD = b'\x28\xb5\x2f\xfd'
# Loading a large program kills the process on macOS before this release.
_SAFE_ON_MACOS = (0, 10)


# The folder that `keep` told JAX, once it has.
_place: pathlib.Path | None = None


class FolderError(OSError):
  """A folder for programs that cannot be used."""


def keep(folder: str) -> None:
  """Tells JAX where to keep compiled programs; call it before the first one.

  Nothing fails if they cannot be kept: a line is logged.

  Args:
    folder: A folder or bucket, which is used as it is; `AUTO`; or '' to leave
      JAX's own settings alone. With `AUTO` a folder that JAX's own setting
      names (JAX_COMPILATION_CACHE_DIR) comes first. Several processes that work
      together keep none then: only the first would, and wait for the others.
  """
  if not folder or not _setting('jax_enable_compilation_cache'):
    return
  if folder == AUTO:
    if _setting('jax_compilation_cache_dir') or not _is_reliable():
      return
    try:
      folder = str(_own_folder())
    except (OSError, RuntimeError) as error:
      _log.info(
        'compiled programs are not kept for the next start (%s); '
        '--config.compilation_cache=DIR names another folder, and an empty '
        'value none',
        error,
      )
      return
    # A program that cannot be read or written is compiled again.
    warnings.filterwarnings(
      'ignore', 'Error (reading|writing) persistent compilation cache entry'
    )
  for name, value in _SETTINGS.items():
    if name.upper() not in os.environ:
      jax.config.update(name, value)
  jax.config.update('jax_compilation_cache_dir', folder)
  global _place
  _place = None if '://' in folder else pathlib.Path(folder)


def place() -> pathlib.Path | None:
  """Returns the folder that `keep` chose in this process, for other programs
  that are trusted as much; None if there is none."""
  return _place


def _setting(name: str) -> Any:
  return getattr(jax.config, name)


def _is_reliable() -> bool:
  if jax.process_count() > 1:
    return False
  release = tuple(map(int, jaxlib.__version__.split('.')[:2]))
  return sys.platform != 'darwin' or release >= _SAFE_ON_MACOS


def _own_folder() -> pathlib.Path:
  """Returns the folder of this user, release and machine, which is made, and
  removes programs that have not been used for long, or are not whole.

  Raises:
    OSError: If it cannot be made or is not safe.
    RuntimeError: If the home of the user is unknown.
  """
  root = cache_folder() / 'dreamprvr_jax'
  folder = root / 'programs' / key()
  folder.parent.parent.parent.mkdir(parents=True, exist_ok=True)
  for place in (root, root / 'programs', folder):
    place.mkdir(mode=0o700, exist_ok=True)
    _check_owner(place)
  if not os.access(folder, os.W_OK | os.X_OK):
    raise FolderError(f'{folder} is read-only')
  tidy(root / 'programs')
  return folder


def cache_folder() -> pathlib.Path:
  """Returns the folder for files of this user that can be made again.

  Raises:
    RuntimeError: If the home of the user is unknown.
  """
  named = os.environ.get('XDG_CACHE_HOME', '')
  # The standard says to ignore relative paths.
  if os.path.isabs(named):
    return pathlib.Path(named)
  home = pathlib.Path.home()
  return home / ('Library/Caches' if sys.platform == 'darwin' else '.cache')


def key() -> str:
  """Returns a name for this release of JAX on this kind of CPU."""
  facts = [jax.__version__, jaxlib.__version__, sys.platform]
  facts += [platform.machine(), platform.processor(), *_cpu()]
  digest = hashlib.sha256('\n'.join(facts).encode()).hexdigest()[:16]
  return f'{jaxlib.__version__}-{digest}'


def _cpu() -> Iterator[str]:
  """Yields what Linux knows of the kind of the first CPU."""
  try:
    text = pathlib.Path('/proc/cpuinfo').read_text(errors='replace')
  except OSError:
    # Another system.
    return
  for line in text.partition('\n\n')[0].splitlines():
    if line.partition(':')[0].strip() in _CPU:
      yield ' '.join(line.split())


def _check_owner(folder: pathlib.Path) -> None:
  """Raises FolderError unless a folder belongs to this user, and only this user
  may write to it."""
  found = folder.stat()
  if found.st_uid != os.geteuid():
    raise FolderError(
      f'{folder} belongs to the user with the number {found.st_uid}, who could '
      'put any code there'
    )
  if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
    raise FolderError(
      f'other users may write to {folder}, and so put any code there; take the '
      'right away: chmod 700'
    )


def tidy(
  folder: pathlib.Path,
  most: int = MOST_BYTES,
  left: int = LEFT_BYTES,
) -> None:
  """Removes files that are not whole, and if all together are too large, those
  that have not been used for longest.

  Other processes may read and write there: a program that vanishes is compiled
  again.

  Args:
    folder: The folder; it may have folders in it.
    most: Bytes on the disk from which on files are removed.
    left: Bytes that may stay then.
  """
  began = time.time()
  stamp = folder / _CHECKED
  checked = stamp.stat().st_mtime if stamp.exists() else 0.0
  found, total = [], 0
  for path in folder.rglob('*'):
    try:
      facts = path.stat()
    except OSError:
      continue
    if path == stamp or not stat.S_ISREG(facts.st_mode):
      continue
    if facts.st_mtime >= checked and not _is_whole(path):
      _remove(path)
      continue
    size = facts.st_blocks * 512
    # Most systems note the time of reading once a day, or after each change.
    found.append((max(facts.st_atime, facts.st_mtime), size, path))
    total += size
  if total > most:
    for _, size, path in sorted(found):
      if total <= left:
        break
      _remove(path)
      total -= size
  stamp.touch()
  # Files that are written meanwhile are looked at the next time.
  os.utime(stamp, (began, began))


def _remove(path: pathlib.Path) -> None:
  with contextlib.suppress(FileNotFoundError):
    path.unlink()


def _is_whole(path: pathlib.Path) -> bool:
  """Returns whether a compressed program can be read to its end."""
  if not path.name.endswith('-cache'):
    return True
  try:
    data = path.read_bytes()
  except FileNotFoundError:
    return True
  if not data.startswith(_ZSTANDARD):
    try:
      zlib.decompress(data)
    except zlib.error:
      return False
    return True
  # JAX takes the first of them that it finds.
  for name in ('compression.zstd', 'zstandard'):
    try:
      library = importlib.import_module(name)
    except ImportError:
      continue
    try:
      library.decompress(data)
    except library.ZstdError:
      return False
    return True
  return True
