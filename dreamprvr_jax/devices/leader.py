"""Process 0 of a run: what it alone does, and how the others learn of it."""

import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from dreamprvr_jax.errors import UserError

# The longest sentence that is passed on, in bytes.
_MOST = 4000


def alone(function: Callable[[], Any]) -> bool:
  """Calls a function on process 0 only; the others wait for its end.

  Every process must call it at the same point. What process 0 cannot do ends
  all processes, with the same sentence.

  Returns:
    On every process, whether the function returned something true.

  Raises:
    UserError: On every process, if it is raised on process 0; so is OSError,
      as UserError on the others.
  """
  if jax.process_count() == 1:
    return bool(function())
  result, sentence = False, None
  failure: BaseException | None = None
  if jax.process_index() == 0:
    try:
      result = bool(function())
    except BaseException as error:
      # Whatever it is, the others must not wait for ever.
      failure, sentence = error, _sentence(error)
  result, sentence = _passed_on(result, sentence)
  if failure is not None:
    raise failure
  if sentence is not None:
    raise UserError(sentence)
  return result


def _sentence(error: BaseException) -> str:
  """Returns what the other processes say of an error of process 0."""
  if isinstance(error, UserError):
    return str(error)
  if isinstance(error, OSError):
    name = pathlib.Path(str(error.filename)) if error.filename else 'a file'
    return f'process 0: {name}: {error.strerror or error}'
  return f'process 0 ended ({type(error).__name__}); its output says more'


def _passed_on(result: bool, sentence: str | None) -> tuple[bool, str | None]:
  """Returns on every process what process 0 has given."""
  from jax.experimental import multihost_utils

  block = np.zeros(_MOST + 2, np.uint8)
  block[:2] = result, sentence is not None
  text = (sentence or '').encode('utf-8', 'replace')[:_MOST]
  block[2 : 2 + len(text)] = np.frombuffer(text, np.uint8)
  block = np.asarray(multihost_utils.broadcast_one_to_all(block))
  found = block[2:].tobytes().rstrip(b'\0').decode('utf-8', 'replace')
  return bool(block[0]), found if block[1] else None
