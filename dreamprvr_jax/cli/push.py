"""`dreamprvr push`: a trained model goes to the Hugging Face hub."""

import dataclasses

from ml_collections import ConfigDict

from dreamprvr_jax.cli import console
from dreamprvr_jax.trained import hub


@dataclasses.dataclass(frozen=True)
class Arguments:
  """What the command line gives.

  Attributes:
    checkpoint: A run's workdir, an import or an export.
    repo: Name on the hub, 'user/name'.
    private: Whether only the owner can see a new repository.
    license: Licence of the weights, in the words of the hub.
  """

  checkpoint: str
  repo: str
  private: bool = False
  license: str = 'apache-2.0'


def run(config: ConfigDict, arguments: Arguments) -> int:
  """Uploads weights, config and model card; prints the address.

  Raises:
    UserError: If there is no checkpoint, or the hub refuses it.
  """
  del config
  address = hub.push(
    arguments.checkpoint,
    arguments.repo,
    private=arguments.private,
    license=arguments.license,
  )
  console.say(f'{arguments.checkpoint} is at {address}')
  console.say(f"load it: dreamprvr_jax.load('{arguments.repo}')")
  return 0
