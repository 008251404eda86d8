"""Progress bars on the process that speaks for the run."""

from collections.abc import Iterable
from typing import Any, TypeVar

import jax
from tqdm import tqdm

T = TypeVar('T')


def bar(
  items: Iterable[T], what: str, *, show: bool = True, **options: Any
) -> 'tqdm[T]':
  """Returns `items` under a progress bar that vanishes when done.

  Args:
    items: What is iterated.
    what: The bar's label.
    show: False for no bar; other processes than the first never show one.
    **options: Further options of tqdm, such as total or unit.
  """
  silent = not show or jax.process_index() != 0
  return tqdm(
    items,
    desc=what,
    disable=silent,
    leave=False,
    dynamic_ncols=True,
    mininterval=0.5,
    **options,
  )
