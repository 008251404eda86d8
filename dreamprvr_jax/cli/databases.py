"""--mode=export --index: writes an index to a vector database."""

from dreamprvr_jax.archive.index import database
from dreamprvr_jax.archive.index.store import open_index
from dreamprvr_jax.cli import joins
from dreamprvr_jax.cli.joins import Arguments
from dreamprvr_jax.errors import UserError


def run(arguments: Arguments) -> int:
  """Writes the videos of an index to a database."""
  store, retriever = open_index(arguments.index, arguments.checkpoint)
  if not retriever.is_plain:
    raise UserError(
      'a vector database finds the best cosines with tokens, but the score of '
      f'{type(retriever.model).__name__} is computed otherwise; search its '
      'index without a database'
    )
  count = database.export(arguments.out, store, show=arguments.progress)
  joins.say(
    f'{arguments.out}: {count:,} videos; search them with --mode=search '
    f'--index={arguments.index} --database={arguments.out}'
  )
  return 0
