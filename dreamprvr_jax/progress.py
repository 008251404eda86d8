"""Progress bars and stop requests while a program works through items."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
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
    show: False for no bar. Only the first process ever shows one.
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


class Stopped(Exception):
  """Raised between two items when the caller asks to stop."""


@dataclasses.dataclass(frozen=True)
class Watch:
  """Shows the progress of long work and passes on a request to stop it.

  Attributes:
    show: Whether progress bars are shown.
    should_stop: Called before each item; True stops the work.
  """

  show: bool = True
  should_stop: Callable[[], bool] = lambda: False

  def __call__(
    self, items: Iterable[T], what: str, total: int | None = None
  ) -> Iterator[T]:
    """Yields the items under a progress bar.

    Args:
      items: What is iterated.
      what: The bar's label.
      total: Number of items, if `items` has no length.

    Raises:
      Stopped: If `should_stop` returns True.
    """
    for item in bar(items, what, total=total, show=self.show):
      if self.should_stop():
        raise Stopped(what)
      yield item
