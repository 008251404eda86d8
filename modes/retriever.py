"""A trained retriever, and what it makes of a split."""

import dataclasses
import hashlib
import logging
import pathlib
import zlib
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from data_pipeline.corpus import Split
from dreamprvr_jax import checkpoints
from dreamprvr_jax.evaluation.encoder import Watch
from dreamprvr_jax.interop.inference import load
from dreamprvr_jax.rerank import features as features_room
from dreamprvr_jax.rerank.features import RerankFeatures
from modes import joins, residency
from modes.training import make_evaluator

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Retriever:
  """A trained retriever.

  Attributes:
    checkpoint: Where it is.
    model: The Flax module.
    variables: Its variables, replicated over the mesh.
    digest: Of the variables.
    stored: Its config.json.
  """

  checkpoint: str
  model: Any
  variables: Any
  digest: str
  stored: dict[str, Any]

  @classmethod
  def load(cls, checkpoint: str, mesh: Mesh) -> 'Retriever':
    """Returns the retriever of a checkpoint."""
    model, variables = load(checkpoint)
    hashed = hashlib.sha256()
    for leaf in jax.tree.leaves(variables):
      hashed.update(np.ascontiguousarray(leaf).data)
    return cls(
      checkpoint,
      model,
      joins.place(variables, mesh),
      hashed.hexdigest()[:16],
      checkpoints.read_config(checkpoint),
    )


def split_features(
  config: ConfigDict,
  mesh: Mesh,
  retriever: Retriever,
  split: Split,
  folder: pathlib.Path | None,
  *,
  tokens: str,
  show: bool,
) -> RerankFeatures:
  """Returns the retriever's encodings of a split; those in `folder` if they
  are from there, else they are kept there."""
  ids = zlib.crc32('\n'.join([*split.video_ids, *split.caption_ids]).encode())
  origin = f'{retriever.digest} {split.name} {ids} {tokens}'
  path = folder / f'encodings_{split.name}.npz' if folder else None
  found = features_room.restore(path, origin) if path else None
  if found is not None:
    _log.info('%s: encodings of %s are there', path, split.name)
    return found
  settled = residency.with_pipeline(config, [split], mesh)
  evaluator = make_evaluator(settled, mesh, retriever.model, split)
  found = features_room.encode(
    evaluator, retriever.variables, tokens, Watch(show)
  )
  if path and jax.process_index() == 0:
    features_room.save(path, found, origin)
  return found
