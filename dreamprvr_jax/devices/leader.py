"""Work of process 0 alone, and its outcome on all processes."""

import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from dreamprvr_jax.devices.gathering import gather
from dreamprvr_jax.errors import UserError

# Bytes of the longest sentence that is passed on.
_MOST = 4000


def alone(function: Callable[[], Any]) -> bool:
  """Calls a function on process 0 only; the others wait for its end.

  Every process must call it at the same point. If it fails on process 0, all
  processes end with the same sentence.

  Returns:
    On every process, whether the function returned something true.

  Raises:
    UserError: On every process, if process 0 raises it. If process 0 raises
      OSError, the others raise UserError.
  """
  if jax.process_count() == 1:
    return bool(function())
  result, sentence = False, None
  failure: BaseException | None = None
  if jax.process_index() == 0:
    try:
      result = bool(function())
    except BaseException as error:
      # Whatever the error, the others must not wait for ever.
      failure, sentence = error, _sentence(error)
  result, sentence = _passed_on(result, sentence)
  if failure is not None:
    raise failure
  if sentence is not None:
    raise UserError(sentence)
  return result


def _sentence(error: BaseException) -> str:
  """Returns the sentence of the other processes for an error of process 0."""
  if isinstance(error, UserError):
    return str(error)
  if isinstance(error, OSError):
    name = pathlib.Path(str(error.filename)) if error.filename else 'a file'
    return f'process 0: {name}: {error.strerror or error}'
  return f'process 0 ended ({type(error).__name__}); its output says more'


def _passed_on(result: bool, sentence: str | None) -> tuple[bool, str | None]:
  """Returns the arguments of process 0 on every process."""
  block = np.zeros(_MOST + 2, np.uint8)
  block[:2] = result, sentence is not None
  text = (sentence or '').encode('utf-8', 'replace')[:_MOST]
  block[2 : 2 + len(text)] = np.frombuffer(text, np.uint8)
  block = gather(block)[0]
  found = block[2:].tobytes().rstrip(b'\0').decode('utf-8', 'replace')
  return bool(block[0]), found if block[1] else None
