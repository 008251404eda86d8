"""The retriever of a command, on a mesh, and its encodings of a split."""

import dataclasses
import logging
import pathlib
import zlib
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from data_pipeline.corpus import Corpus, Split
from dreamprvr_jax.cli import data, encoder_identity, residency
from dreamprvr_jax.cli.training import make_evaluator
from dreamprvr_jax.devices import meshes
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.progress import Watch
from dreamprvr_jax.rerank.features import (
  RerankFeatures,
  encode,
  restore,
  save,
)
from dreamprvr_jax.trained.retriever import (
  FREE,
  Retriever,
  require_float32,
)

_log = logging.getLogger(__name__)


def load_placed(
  checkpoint: str, mesh: Mesh, config: Mapping[str, Any] | None = None
) -> Retriever:
  """Returns the retriever of a checkpoint, with its variables on every device.

  Args:
    checkpoint: Its folder.
    mesh: The device mesh.
    config: A plain config to build the model from instead of the stored one.
  """
  found = Retriever.load(checkpoint, config)
  return dataclasses.replace(
    found, variables=meshes.replicate(found.variables, mesh)
  )


def require_free(name: str) -> None:
  """Raises UserError unless a model needs no training, and so no checkpoint."""
  if name not in FREE:
    raise UserError(
      f'{name or "the model"} is trained: give its --checkpoint=DIR; only '
      f'{" and ".join(FREE)} need none (--config=configs/NAME.py:tf_prvr)'
    )


def free_of(config: ConfigDict, corpus: Corpus | Split) -> Retriever:
  """Returns the retriever without training that a config names, for the
  features of a corpus.

  Raises:
    UserError: If the config names a model that is trained, or a setting is
      impossible.
  """
  require_free(config.model.get('name', ''))
  require_float32(config.model.name, config.dtype)
  return Retriever.free(
    config.model.name,
    encoder_identity.identity_of(corpus),
    width=corpus.visual_width,
    **data.settings_of(config),
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
  """Returns the retriever's encodings of a split.

  They are read from `folder` if it has them, and otherwise kept there.
  """
  ids = zlib.crc32('\n'.join([*split.video_ids, *split.caption_ids]).encode())
  origin = f'{retriever.digest} {split.name} {ids} {tokens}'
  path = folder / f'encodings_{split.name}.npz' if folder else None
  found = restore(path, origin) if path else None
  if found is not None:
    _log.info('%s: reading the encodings of %s', path, split.name)
    return found
  settled = residency.with_pipeline(config, [split], mesh)
  evaluator = make_evaluator(settled, mesh, retriever.model, split)
  found = encode(evaluator, retriever.variables, tokens, Watch(show))
  if path and jax.process_index() == 0:
    save(path, found, origin)
  return found
