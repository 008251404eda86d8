"""Retrievers of which only the query encoder is read."""

import functools
from typing import Any

import jax

from dreamprvr_jax import checkpoints
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.models.contract import Model
from dreamprvr_jax.trained.inference import model_of
from dreamprvr_jax.trained.query_program import Encode, QueryProgram
from dreamprvr_jax.trained.retriever import Retriever


class KeptRetriever(Retriever):
  """A trained retriever that encodes one query with a kept program; its
  variables are read from the checkpoint when they are first needed."""

  def __init__(
    self,
    checkpoint: str,
    model: Model,
    digest: str,
    stored: dict[str, Any],
    encode: Encode,
    **known: Any,
  ):
    """Takes fields of `Retriever`, and what encodes one query; `variables` only
    if they are known."""
    values = {
      'checkpoint': checkpoint,
      'model': model,
      'digest': digest,
      'stored': stored,
      '_encode': encode,
      **known,
    }
    for name, value in values.items():
      object.__setattr__(self, name, value)

  @property
  def encode_one(self) -> Encode:
    """Encodes one query."""
    return self._encode  # pyright: ignore[reportAttributeAccessIssue]

  @functools.cached_property
  def variables(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
    """The variables.

    Raises:
      CheckpointError: If they cannot be read.
      UserError: If they have changed since the query encoder was read.
    """
    whole = Retriever.load(self.checkpoint)
    if whole.digest != self.digest:
      raise UserError(
        f'the weights of {self.checkpoint} are now {whole.digest}, and were '
        f'{self.digest} when this command began; give the command again'
      )
    return whole.variables


def find(checkpoint: str, digest: str) -> Retriever | None:
  """Returns the retriever of a checkpoint if its query encoder was kept.

  Args:
    checkpoint: The folder.
    digest: The digest that its weights have to have.

  Raises:
    CheckpointError: If the config cannot be read.
  """
  program = QueryProgram.of(checkpoint, digest)
  encode = program and program.read()
  if encode is None:
    return None
  stored = checkpoints.read_config(checkpoint)
  model = model_of(stored['config'])
  return KeptRetriever(str(checkpoint), model, digest, stored, encode)


def keep(retriever: Retriever) -> Retriever:
  """Keeps the query encoder of a loaded checkpoint for `find`.

  Returns the retriever that encodes one query with it, so that it is compiled
  once; the same retriever where no programs are kept, or several devices
  encode.
  """
  is_known = isinstance(retriever, KeptRetriever)
  if is_known or not retriever.variables or jax.device_count() > 1:
    return retriever
  program = QueryProgram.of(retriever.checkpoint, retriever.digest)
  if program is None:
    return retriever
  stored, variables = retriever.stored, retriever.variables
  encode = program.read()
  if encode is None:
    program.write(
      retriever.model, variables, stored['config'], stored['text_width']
    )
    encode = program.read()
  if encode is None:
    return retriever
  return KeptRetriever(
    retriever.checkpoint,
    retriever.model,
    retriever.digest,
    stored,
    encode,
    variables=variables,
  )
