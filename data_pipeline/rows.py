"""Values of JSON rows in files of annotations, checked by type.

In every row a null is the same as a missing key.
"""

import math
import reprlib
from typing import Any

from data_pipeline.errors import DataError
from dreamprvr_jax import text

NO_SPAN = (math.nan, math.nan)
# The most characters of a text in an error.
_SHOWN = 60
_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _SHOWN


class RowError(DataError):
  """What is wrong with a row; the caller adds the file and the line."""


def parse(line: str) -> dict[str, Any]:
  """Returns the object in a row of JSON, without its nulls.

  Raises:
    TextError: If it is not JSON.
    RowError: If it is not an object.
  """
  return given(text.parse_json(line, 'the row'), 'the row')


def given(value: Any, what: str) -> dict[str, Any]:
  """Returns an object without its nulls.

  Raises:
    RowError: If it is not an object.
  """
  if not isinstance(value, dict):
    raise RowError(f'{what} is {shown(value)}, expected an object {{...}}')
  return {key: item for key, item in value.items() if item is not None}


def name(value: Any, what: str) -> str:
  """Returns an id, which is text or a whole number, as text in NFC.

  Raises:
    RowError, TextError: If it is not one.
  """
  if isinstance(value, float) and value.is_integer():
    # Tables turn the numbers of a column with gaps into floats.
    value = int(value)
  if isinstance(value, bool) or not isinstance(value, str | int):
    raise RowError(f'the {what} is {shown(value)}, expected a name')
  found = text.check(str(value), f'the {what}')
  if text.is_blank(found):
    raise RowError(f'the {what} is empty')
  return found


def sentence(value: Any) -> str:
  """Returns a text in NFC.

  Raises:
    RowError, TextError: If it is not text.
  """
  if not isinstance(value, str):
    raise RowError(f'{shown(value)} is not a sentence')
  return text.check(value, f'the sentence {value[:_SHOWN]!r}')


def items(value: Any, what: str) -> list[Any]:
  """Returns a list.

  Raises:
    RowError: If it is not a list.
  """
  if not isinstance(value, list):
    raise RowError(f'"{what}" is {shown(value)}, not a list')
  return value


def number(value: Any, what: str) -> float:
  """Returns a number, which may be written as text.

  Raises:
    RowError: If it is not a number, or infinite.
  """
  if isinstance(value, int | float | str) and not isinstance(value, bool):
    try:
      found = float(value)
    except (ValueError, OverflowError):  # not a number, or too many digits
      found = math.inf
    if not math.isinf(found):
      return found
  raise RowError(f'the {what} is {shown(value)}, expected a number')


def seconds(value: Any) -> float:
  """Returns a duration, nan if it is None or NaN.

  Raises:
    RowError: If it is not a number above 0.
  """
  found = math.nan if value is None else number(value, 'duration')
  if found <= 0:
    raise RowError(f'the duration {shown(value)} is not above 0 seconds')
  return found


def span(value: Any) -> tuple[float, float]:
  """Returns the start and end of a span [start, end] in seconds; nans if it
  is None, or both times are.

  Raises:
    RowError: If it is not such a list.
  """
  if value is None or value == [None, None]:
    return NO_SPAN
  if isinstance(value, list) and len(value) == 2:
    start, end = (number(x, 'time in a span') for x in value)
    if not math.isnan(start) and not math.isnan(end):
      return start, end
  raise RowError(f'{shown(value)} is not [start, end] in seconds')


def shown(value: Any) -> str:
  """Returns a value as text for an error, cut to fit into a sentence."""
  return _repr.repr(value)
