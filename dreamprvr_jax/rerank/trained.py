"""A trained re-ranker: its weights, and what was chosen with it."""

import dataclasses
import json
import os
import pathlib
from typing import Any

import jax
from jax.sharding import Mesh

from dreamprvr_jax import checkpoints
from dreamprvr_jax.devices import meshes
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.rerank.features import RerankFeatures
from dreamprvr_jax.rerank.fusion import Fusion
from dreamprvr_jax.rerank.networks import RerankModel, build_reranker
from dreamprvr_jax.trained.retriever import Retriever

FUSION = 'fusion.json'


@dataclasses.dataclass(frozen=True)
class TrainedReranker:
  """A trained re-ranker.

  Attributes:
    directory: Its workdir.
    model: The network and its diffusion process.
    variables: Its variables, on every device of a mesh.
    settings: `config.rerank` of its training.
    fusion: How its scores are fused with the retriever's.
    sampling_steps: Steps of DDIM.
  """

  directory: str
  model: RerankModel
  variables: Any
  settings: dict[str, Any]
  fusion: Fusion
  sampling_steps: int

  @classmethod
  def load(
    cls,
    directory: str,
    retriever: Retriever,
    features: RerankFeatures,
    mesh: Mesh,
  ) -> 'TrainedReranker':
    """Returns the re-ranker of a workdir.

    Args:
      directory: The workdir.
      retriever: The retriever whose candidates it re-ranks.
      features: Encodings of that retriever; only their shapes matter.
      mesh: The device mesh.

    Raises:
      UserError: If the folder has no re-ranker, its training has not ended, or
        it was trained with another retriever.
    """
    stored = checkpoints.read_config(directory)
    if 'reranker' not in stored:
      raise UserError(
        f'{directory} has no re-ranker; give a folder that rerank-train or an '
        "import of DiffusionRet's generators wrote"
      )
    width = features.queries.shape[1]
    _check_retriever(directory, stored['reranker'], retriever, width)
    settings = stored['config']['rerank']
    model = build_reranker(settings, width)
    shapes = jax.eval_shape(
      lambda: model.init(jax.random.key(0), features.tokens.shape[1], width)
    )
    whole = meshes.replicated(mesh)
    placed = jax.tree.map(
      lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=whole), shapes
    )
    variables = checkpoints.load_weights(directory, placed)
    chosen = read_fusion(directory)
    return cls(
      directory,
      model,
      variables,
      settings,
      Fusion(chosen['temperature'], chosen['weight']),
      chosen['sampling_steps'],
    )

  @property
  def num_candidates(self) -> int:
    """Candidates of a list."""
    return self.settings['used_candidates'] or self.settings['candidates']


def _check_retriever(
  directory: str, facts: dict[str, Any], retriever: Retriever, width: int
) -> None:
  """Raises UserError if a re-ranker was trained with another retriever."""
  digest = facts['retriever_digest']
  if digest and digest != retriever.digest:
    raise UserError(
      f'{directory} was trained with the retriever {facts["retriever"]}, whose '
      f'weights differ from those of {retriever.checkpoint}; give that '
      '--checkpoint, or train a re-ranker with this one'
    )
  if facts['width'] != width:
    raise UserError(
      f'{directory} re-ranks encodings of width {facts["width"]}, but those of '
      f'{retriever.checkpoint} are {width} wide; train a re-ranker with it'
    )


def read_fusion(directory: os.PathLike[str] | str) -> dict[str, Any]:
  """Returns the choices of a training, as it wrote them.

  Raises:
    UserError: If the training has not ended.
  """
  path = pathlib.Path(directory) / FUSION
  if not path.exists():
    raise UserError(
      f'{path} is missing: the training of the re-ranker has not ended; give '
      'the rerank-train command again'
    )
  return json.loads(path.read_text(encoding='utf-8'))
