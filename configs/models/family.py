"""Keys that models of the family share, each once, and how numbers are set."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

Numbers = Mapping[str, Mapping[str, Any]]


def model_keys(name: str) -> ConfigDict:
  """Returns the keys of `config.model` that every model has."""
  model = ConfigDict()
  # Which model
  model.name = ''
  # D, width of all tokens
  model.width = 384
  # Attention heads
  model.num_heads = 4
  # Dropout on inputs and positions
  model.input_dropout = 0.2
  # Dropout inside the blocks
  model.dropout = 0.2
  # Encodings of the queries in a training step: 2 (released) or 1
  model.query_encodings = 2
  # Weight of the clip branch's score
  model.clip_weight = 0.7
  # Weight of the frame branch's score
  model.frame_weight = 0.3
  model.name = name
  return model


def block_keys(model: ConfigDict) -> None:
  """Adds the keys of models with parallel blocks."""
  # Gaussian width of each parallel block; 0: none
  model.block_widths = (0.0, 0.5, 1.0, 5.0)
  # How the parallel blocks are computed: 'batched', 'unrolled' (on a CPU
  # faster, but longer to compile), 'scan', or 'auto': 'unrolled' on a CPU,
  # else 'batched'; the numbers differ by float rounding
  model.parallel_execution = 'auto'
  # Compute the blocks' insides again for the gradient instead of keeping
  # them: a third of the memory for a quarter more work
  model.remat = False


def merger_keys(model: ConfigDict) -> None:
  """Adds the keys of models with a learned aggregation of the blocks."""
  # Softmax temperature of the learned aggregation (sft_factor)
  model.merge_temperature = 0.6
  # Add the map into the space where loss.alignment compares the branches
  model.alignment = False
  # Merged clips count by their size in attention; needs data.clips='merged'
  model.proportional_attention = False


def lorentz_keys(model: ConfigDict) -> None:
  """Adds the keys of models that may have blocks in the Lorentz model."""
  # Gaussian width of each block in the Lorentz model; 0: none
  model.lorentz_widths = ()
  # Dimension of the Lorentz blocks' tangent space
  model.lorentz_dim = 127
  # What the Gaussian multiplies in a Lorentz block: 'distances' (released: far
  # keys come nearer) or 'weights' (far keys fade, as it was meant)
  model.lorentz_window = 'distances'


def loss_keys() -> ConfigDict:
  """Returns `config.loss`: factors of all losses of the family, 0 for those
  that a model does not use, and their constants."""
  loss = ConfigDict()
  # Factor of the NCE on clip scores
  loss.clip_nce = 0.02
  # Factor of the NCE on frame scores
  loss.frame_nce = 0.04
  # Factor of the triplet loss on clip scores
  loss.clip_triplet = 1.0
  # Factor of the triplet loss on frame scores
  loss.frame_triplet = 1.0
  # Factor of MS-SL's NCE between captions and the frames they are guided to
  loss.guided_nce = 0.0
  # Factor of MS-SL's triplet loss on the same scores
  loss.guided_triplet = 0.0
  # Factor of the query diversity L_div; with structure, DreamPRVR's L_tssl
  loss.diversity = 0.0
  # Factor of the query structure preservation L_qsp (DreamPRVR)
  loss.structure = 0.0
  # Factor of the variational term L_pvs (DreamPRVR)
  loss.variational = 0.0
  # Factor of the diffusion estimator's L_dre (DreamPRVR)
  loss.diffusion = 0.0
  # Factor of the optimal matching of captions and clips (GMMFormer v2)
  loss.matching = 0.0
  # Factor of the cone loss (HLFormer)
  loss.cone = 0.0
  # Factor of the evidential loss between videos (Holmes)
  loss.inter_evidence = 0.0
  # Factor of the evidential loss inside a video (Holmes)
  loss.intra_evidence = 0.0
  # Factor of text correlation preservation, distances (MSC); the teacher is
  # the last word vector, which of CLIP is the end of text
  loss.distances = 0.0
  # Factor of text correlation preservation, angles (MSC)
  loss.angles = 0.0
  # Factor of the cross-branch alignment (MSC); needs clips of merged frames
  loss.alignment = 0.0
  # Factor of the two-way cross-entropy of DiffusionRet's retriever
  loss.interaction = 0.0
  # Margin of the triplet losses
  loss.margin = 0.2
  # Hard negatives are drawn from this many
  loss.hard_pool = 20
  # Version of L_div: 2, or 1 (the first GMMFormer)
  loss.diversity_version = 2
  # Delta of L_div
  loss.diversity_delta = 0.2
  # Alpha of L_div
  loss.diversity_alpha = 32.0
  # Lambda of L_div, version 2
  loss.diversity_power = 1.0
  # Tau of L_qsp
  loss.structure_temperature = 0.08
  # Captions of a video, at most, that matching and intra_evidence see
  loss.max_captions = 32
  # Tau of inter_evidence
  loss.inter_temperature = 0.04
  # Tau of intra_evidence
  loss.intra_temperature = 0.08
  # Limit of the thresholds of doubt and consistency (division_beta)
  loss.doubt_margin = 0.3
  # Share of a polysemous caption's label that is smoothed (smooth_beta)
  loss.label_smoothing = 0.2
  # Quantile of the dustbin's value in the transport (pot_prompt_ratio)
  loss.transport_quantile = 0.3
  # Softness of the transport (pot_scale)
  loss.transport_scale = 0.1
  # Rounds of the transport
  loss.transport_iterations = 50
  return loss


def with_numbers(
  model: ConfigDict,
  loss: ConfigDict,
  datasets: Mapping[str, Numbers],
  collection: str,
) -> dict[str, ConfigDict]:
  """Returns {section: values} with a dataset's numbers.

  A collection without published numbers gets those of ActivityNet.
  """
  numbers = datasets.get(collection, datasets['activitynet'])
  model.update(numbers.get('model', {}))
  loss.update(numbers.get('loss', {}))
  return {
    'model': model,
    'loss': loss,
    'optimizer': ConfigDict(dict(numbers.get('optimizer', {}))),
    'train': ConfigDict(dict(numbers.get('train', {}))),
    'data': ConfigDict(dict(numbers.get('data', {}))),
  }
