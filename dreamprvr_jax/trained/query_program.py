"""The query encoder of a checkpoint as a traced program with its weights.

A search by one sentence needs no more of a checkpoint than this. Reading all
weights and tracing the model take longer than everything else together in a
small search, so the first search writes the program and the next ones load it.

The program is kept where compiled programs are (`devices.programs`), not in the
index: an index may come from somebody else, and a program is code that is run.
It is used by the same releases, sources, settings and kind of device, for the
same checkpoint and the same weights; otherwise it is made again.
"""

import dataclasses
import hashlib
import json
import logging
import os
import pathlib
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import flax
import jax
import jax.export
import numpy as np
from jaxtyping import Bool, Float

import dreamprvr_jax
from dreamprvr_jax import checkpoints, folders, text
from dreamprvr_jax.checkpoints import CheckpointError
from dreamprvr_jax.checkpoints.seal import SEAL
from dreamprvr_jax.devices import programs
from dreamprvr_jax.models.contract import Model

_log = logging.getLogger(__name__)

# Folders of the package whose files define what a model computes.
_SOURCES = ('layers', 'models')
# Settings of JAX that change what is traced.
_SETTINGS = ('jax_enable_x64', 'jax_default_matmul_precision')
_PROGRAM, _WEIGHT = 'program', 'weight.'

Encode = Callable[
  [Float[np.ndarray, '1 l e'], Bool[np.ndarray, '1 l']],
  Float[np.ndarray, '1 q'],
]


@dataclasses.dataclass(frozen=True)
class QueryProgram:
  """The place of the query encoder of a checkpoint; it need not exist.

  Attributes:
    path: The file.
    digest: The digest of the weights, see `trained.retriever.Retriever`.
  """

  path: pathlib.Path
  digest: str

  @classmethod
  def of(
    cls, checkpoint: os.PathLike[str] | str, digest: str
  ) -> 'QueryProgram | None':
    """Returns the place for a checkpoint; None if programs are not kept, or if
    there is no checkpoint that says which files it has.

    Args:
      checkpoint: Its folder.
      digest: The digest of its weights.
    """
    folder = programs.place()
    if folder is None:
      return None
    config = pathlib.Path(checkpoint) / checkpoints.CONFIG_FILE
    try:
      weights = checkpoints.locate_weights(checkpoint)
    except CheckpointError:
      return None
    seal = pathlib.Path(weights.parent) / SEAL
    if not (seal.is_file() and config.is_file()):
      return None
    device = jax.devices()[0]
    facts = [
      dreamprvr_jax.__version__,
      flax.__version__,
      programs.key(),
      device.platform,
      device.device_kind,
      digest,
      *(str(getattr(jax.config, name)) for name in _SETTINGS),
      *_sources(),
      text.read(config),
      text.read(seal),
    ]
    key = hashlib.sha256('\n'.join(facts).encode()).hexdigest()[:32]
    return cls(folder / f'query-encoder-{key}.safetensors', digest)

  def read(self) -> Encode | None:
    """Returns the query encoder for one query; None if there is none yet, or
    if it is damaged."""
    import safetensors

    if not self.path.is_file():
      return None
    try:
      with safetensors.safe_open(self.path, 'numpy') as file:
        names = file.keys()
        stored = {name: file.get_tensor(name) for name in names}
        metadata = file.metadata()
    except safetensors.SafetensorError as error:
      _log.debug('%s is not read: %s', self.path, error)
      return None
    if metadata != _metadata(stored):
      _log.debug('%s is not read: it is damaged', self.path)
      return None
    program = jax.export.deserialize(bytearray(stored.pop(_PROGRAM).tobytes()))
    weights = [stored[f'{_WEIGHT}{i}'] for i in range(len(stored))]
    call = jax.jit(program.call)
    return lambda words, mask: np.asarray(call(weights, words, mask))

  def write(
    self, model: Model, variables: Any, config: Mapping[str, Any], width: int
  ) -> None:
    """Writes the query encoder, if it can be written.

    Args:
      model: The model.
      variables: Its variables.
      config: The config that the model was built from.
      width: Width of word features.
    """
    from safetensors.numpy import save_file

    leaves, tree = jax.tree.flatten(variables)
    words = config['data']['max_words']
    inputs = (
      jax.ShapeDtypeStruct((1, words, width), np.float32),
      jax.ShapeDtypeStruct((1, words), np.bool_),
    )
    encode = lambda leaves, words, mask: model.apply(
      jax.tree.unflatten(tree, leaves), words, mask, method='encode_query'
    )
    whole = jax.export.export(jax.jit(encode))(leaves, *inputs)
    used = [i for i in whole.module_kept_var_idx if i < len(leaves)]
    # What the program does not use is not kept.
    blank = [np.zeros(leaf.shape, leaf.dtype) for leaf in leaves]

    def encode_by_few(few, words, mask):
      given = list(blank)
      for i, leaf in zip(used, few, strict=True):
        given[i] = leaf
      return encode(given, words, mask)

    few = [np.asarray(leaves[i]) for i in used]
    program = jax.export.export(jax.jit(encode_by_few))(few, *inputs)
    stored = {
      _PROGRAM: np.frombuffer(program.serialize(), np.uint8),
      **{f'{_WEIGHT}{i}': np.ascontiguousarray(w) for i, w in enumerate(few)},
    }
    try:
      with folders.replacing(self.path) as partial:
        save_file(stored, partial, _metadata(stored))
    except OSError as error:
      _log.debug('%s is not written: %s', self.path, error)


def _metadata(stored: Mapping[str, np.ndarray]) -> dict[str, str]:
  """Returns the checksum of what a file has, for its header."""
  checksum = 0
  for name in sorted(stored):
    facts = json.dumps([name, str(stored[name].dtype), stored[name].shape])
    checksum = zlib.crc32(facts.encode(), checksum)
    checksum = zlib.crc32(stored[name].tobytes(), checksum)
  return {'crc32': f'{checksum:08x}'}


def _sources() -> list[str]:
  """Returns names, sizes and times of the files that define the models."""
  root = pathlib.Path(dreamprvr_jax.__file__).parent
  found = []
  for folder in _SOURCES:
    for path in sorted((root / folder).glob('*.py')):
      facts = path.stat()
      found.append(f'{path.name} {facts.st_size} {facts.st_mtime_ns}')
  return found
