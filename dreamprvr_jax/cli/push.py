"""`dreamprvr push`: uploads a trained model to the Hugging Face hub."""

import dataclasses

from dreamprvr_jax.cli import console
from dreamprvr_jax.trained import hub


@dataclasses.dataclass(frozen=True)
class Arguments:
  """The flags of push; see `options.py`."""

  checkpoint: str
  repo: str
  private: bool
  license: str


def run(arguments: Arguments) -> int:
  """Uploads weights, config and model card; prints the address.

  Raises:
    UserError: If there is no checkpoint, or the hub refuses it.
  """
  address = hub.push(
    arguments.checkpoint,
    arguments.repo,
    private=arguments.private,
    license=arguments.license,
  )
  console.say(f'{arguments.checkpoint} is at {address}')
  console.say(f"load it: dreamprvr_jax.load('{arguments.repo}')")
  return 0
