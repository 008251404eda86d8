"""--mode=export --index: writes an index to a vector database."""

import dataclasses

from dreamprvr_jax.archive.index import database
from dreamprvr_jax.archive.index.store import open_index
from dreamprvr_jax.cli import console
from dreamprvr_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Arguments:
  """The flags of export, with --index; see `options.py`."""

  index: str
  checkpoint: str
  out: str
  progress: bool


def run(arguments: Arguments) -> int:
  """Writes the videos of an index to a database."""
  store, retriever = open_index(arguments.index, arguments.checkpoint)
  if retriever.model.token_score != 'cosine':
    raise UserError(
      'a vector database finds the best cosines with tokens, but the score of '
      f'{type(retriever.model).__name__} is computed otherwise; search its '
      'index without a database'
    )
  count = database.export(arguments.out, store, show=arguments.progress)
  console.say(
    f'{arguments.out}: {count:,} videos; search them with --mode=search '
    f'--index={arguments.index} --database={arguments.out}'
  )
  return 0
