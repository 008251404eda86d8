"""Names of a workdir's files, its config, and orbax's errors."""

import errno
import logging
import os
import pathlib
import re
import shutil
import sys
from typing import Any

from dreamprvr_jax import text
from dreamprvr_jax.errors import UserError

CONFIG_FILE = 'config.json'
WEIGHTS = 'weights'
LATEST = 'checkpoints/latest'
BEST = 'checkpoints/best'
DAMAGED = 'checkpoints/damaged'


class CheckpointError(UserError):
  """A checkpoint that is missing, damaged, of another model, or that cannot
  be written."""


def read_config(directory: os.PathLike[str] | str) -> dict[str, Any]:
  """Returns the config that is stored beside weights or in a workdir.

  Raises:
    CheckpointError: If it is missing or not JSON.
  """
  path = pathlib.Path(directory) / CONFIG_FILE
  if not path.exists():
    raise CheckpointError(
      f'{directory} holds no {CONFIG_FILE}; give the workdir of a run, or a '
      'folder that import or export wrote'
    )
  try:
    found = text.parse_json(text.read(path), str(path))
  except text.TextError as error:
    raise CheckpointError(
      f'{path} is not valid JSON ({error}); restore it from a backup or make '
      'the checkpoint again'
    ) from error
  if not isinstance(found, dict):
    raise CheckpointError(
      f'{path} holds a {type(found).__name__} where the settings of a '
      'checkpoint were expected; restore it from a backup or make the '
      'checkpoint again'
    )
  return found


def not_written(
  folder: os.PathLike[str] | str, needed: int, error: Exception, advice: str
) -> CheckpointError:
  """Returns the error for arrays that could not be written.

  Args:
    folder: The folder that they were written to.
    needed: Bytes of the arrays.
    error: The error that orbax raised.
    advice: What to do once there is enough disk space.
  """
  free = shutil.disk_usage(folder).free
  return CheckpointError(
    f'a checkpoint could not be written to {folder} ({_reason(error)}): about '
    f'{needed / 2**20:,.1f} MiB are needed, {free / 2**20:,.1f} MiB are free; '
    f'{advice}'
  )


def is_not_written(error: Exception) -> bool:
  """Returns whether an error says that a file could not be written.

  It is an error of the system, or a ValueError of TensorStore that begins with
  a status code, such as 'RESOURCE_EXHAUSTED: Error writing'.
  """
  return isinstance(error, OSError) or (
    isinstance(error, ValueError)
    and re.match('[A-Z]+(_[A-Z]+)*: ', str(error)) is not None
  )


def is_of_files(error: Exception) -> bool:
  """Returns whether an error is about files that orbax cannot read or write.

  The other errors are mistakes of a program. TensorStore raises ValueError; an
  array that cannot be read raises a bare Exception.
  """
  kinds = (OSError, ValueError, KeyError)
  return isinstance(error, kinds) or type(error) is Exception


def hush_orbax() -> None:
  """Silences what orbax prints beside the errors that it raises.

  These are logs with tracebacks, and warnings of the work that an error ended.
  """
  logs, former = map(logging.getLogger, ('absl', 'asyncio')), sys.unraisablehook

  def report(unraisable: Any) -> None:
    text = str(unraisable.exc_value)
    if text != 'Event loop is closed' and 'TensorStore' not in text:
      former(unraisable)

  for log in logs:
    if _is_ours not in log.filters:
      log.addFilter(_is_ours)
      sys.unraisablehook = report


def _is_ours(record: logging.LogRecord) -> bool:
  """Returns whether a log record is not one that `hush_orbax` silences."""
  lost = record.name == 'asyncio' and 'never retrieved' in record.getMessage()
  return record.levelno < logging.ERROR or not (
    lost or 'orbax' in record.pathname
  )


def first_line(error: BaseException) -> str:
  """Returns the first line of an error's message, or its kind."""
  lines = str(error).strip().splitlines()
  return lines[0][:200] if lines else type(error).__name__


def _reason(error: Exception) -> str:
  """Returns the system's words for an error that TensorStore has wrapped."""
  for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES):
    if os.strerror(code) in str(error):
      return os.strerror(code)
  return first_line(error)
