"""Functions for the workers of an engine, which import them by name."""

import os
import pathlib
import time
import uuid

from dreamprvr_jax.errors import UserError


def touch(element: tuple[str, int]) -> None:
  """Writes a file named after the element and the process."""
  folder, number = element
  time.sleep(0.2)
  name = f'{number}-{os.getpid()}-{uuid.uuid4().hex}'
  (pathlib.Path(folder) / name).touch()


def refuse(element: object) -> None:
  raise UserError(f'{element} is refused')


def blunder(element: object) -> None:
  """Fails with an error."""
  raise TypeError(f'a mistake at {element}')


def die(element: object) -> None:
  del element
  os._exit(1)
