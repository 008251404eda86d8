"""--mode=export --index: an index goes into a vector database."""

import dataclasses

from dreamprvr_jax.archive.index import database
from dreamprvr_jax.archive.index.manifest import Manifest
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.cli import console
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.trained.retriever import Retriever


@dataclasses.dataclass(frozen=True)
class Arguments:
  """The flags of export, with --index; `options.py` says what each is."""

  index: str
  checkpoint: str
  out: str
  progress: bool


def run(arguments: Arguments) -> int:
  """Writes the videos of an index to a database."""
  checkpoint = arguments.checkpoint or Manifest.read(arguments.index).checkpoint
  retriever = Retriever.load(checkpoint)
  if not retriever.is_plain:
    raise UserError(
      'a vector database finds best cosines with tokens; the score of '
      f'{type(retriever.model).__name__} is more than that: search its index '
      'without one'
    )
  count = database.export(
    arguments.out, Store(arguments.index), show=arguments.progress
  )
  console.say(
    f'{arguments.out}: {count:,} videos; search them with --mode=search '
    f'--index={arguments.index} --database={arguments.out}'
  )
  return 0
