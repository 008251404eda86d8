"""Keys that models of the family share, each once, and how numbers are set."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from configs.keys import Keys, key

Numbers = Mapping[str, Mapping[str, Any]]


def model_keys(name: str) -> Keys:
  """Returns the keys of `config.model` that every model has."""
  model = Keys('model')
  model.name = key('', 'Which model')
  model.width = key(384, 'D, width of all tokens')
  model.num_heads = key(4, 'Attention heads')
  model.input_dropout = key(0.2, 'Dropout on inputs and positions')
  model.dropout = key(0.2, 'Dropout inside the blocks')
  model.query_encodings = key(
    2, 'Encodings of the queries in a training step: 2 (released) or 1'
  )
  model.clip_weight = key(0.7, "Weight of the clip branch's score")
  model.frame_weight = key(0.3, "Weight of the frame branch's score")
  model.name = name
  return model


def block_keys(model: Keys) -> None:
  """Adds the keys of models with parallel blocks."""
  model.block_widths = key(
    (0.0, 0.5, 1.0, 5.0), 'Gaussian width of each parallel block; 0: none'
  )
  model.parallel_execution = key(
    'auto',
    "How the parallel blocks are computed: 'batched', 'unrolled' (on a "
    "CPU faster, but longer to compile), 'scan', or 'auto': 'unrolled' on "
    "a CPU, else 'batched'; the numbers differ by float rounding",
  )
  model.remat = key(
    False,
    'Recompute the insides of the blocks in the backward pass instead of '
    'keeping them: a third of the memory for a quarter more work',
  )


def merger_keys(model: Keys) -> None:
  """Adds the keys of models with a learned aggregation of the blocks."""
  model.merge_temperature = key(
    0.6, 'Softmax temperature of the learned aggregation (sft_factor)'
  )
  model.alignment = key(
    False,
    'Add the map into the space where loss.alignment compares the branches',
  )
  model.proportional_attention = key(
    False,
    "Merged clips count by their size in attention; needs data.clips='merged'",
  )


def lorentz_keys(model: Keys) -> None:
  """Adds the keys of models that may have blocks in the Lorentz model."""
  model.lorentz_widths = key(
    (), 'Gaussian width of each block in the Lorentz model; 0: none'
  )
  model.lorentz_dim = key(127, "Dimension of the Lorentz blocks' tangent space")
  model.lorentz_window = key(
    'distances',
    "What the Gaussian multiplies in a Lorentz block: 'distances' "
    "(released: far keys come nearer) or 'weights' (far keys fade, as it "
    'was meant)',
  )


def trace_keys(model: Keys) -> None:
  """Adds the keys of models with registers that may add TRACE's score."""
  model.trace = key(
    'none',
    "TRACE, a score that is added: 'query' (the method), 'none', or one of its "
    "controls: 'uniform', 'shuffled', 'shuffled_frames', 'best_frame'",
  )
  model.trace_weight = key(0.03, "Lambda, weight of TRACE's score")
  model.trace_temperature = key(0.07, 'Tau of TRACE, at least 0.05')
  model.trace_route = key(
    0.3, "Gamma of TRACE, weight of the registers in a frame's score"
  )
  model.trace_soft = key(0.2, 'Eta of TRACE, weight of the pooled evidence')
  model.trace_bias = key(False, "Whether TRACE's four maps have biases")
  model.trace_start = key(
    'identity', "Initial values of its maps: 'identity', or 'normal', N(0, .02)"
  )


def sentence_keys(model: Keys) -> None:
  """Adds the keys of models that may add the best frame's cosine."""
  model.sentence_weight = key(
    0.0,
    'Weight of the largest cosine of the sentence vector with the features of '
    'a frame, which is added to the score; 0: none',
  )
  model.sentence_training = key(
    False, 'Whether the triplet losses see the cosines with that addition'
  )


def loss_keys() -> Keys:
  """Returns `config.loss`: factors of all losses of the family, 0 for those
  that a model does not use, and their constants."""
  loss = Keys('loss')
  loss.clip_nce = key(0.02, 'Factor of the NCE on clip scores')
  loss.frame_nce = key(0.04, 'Factor of the NCE on frame scores')
  loss.clip_triplet = key(1.0, 'Factor of the triplet loss on clip scores')
  loss.frame_triplet = key(1.0, 'Factor of the triplet loss on frame scores')
  loss.guided_nce = key(
    0.0,
    "Factor of MS-SL's NCE between captions and the frames they are guided to",
  )
  loss.guided_triplet = key(
    0.0, "Factor of MS-SL's triplet loss on the same scores"
  )
  loss.diversity = key(
    0.0,
    "Factor of the query diversity L_div; with structure, DreamPRVR's L_tssl",
  )
  loss.structure = key(
    0.0, 'Factor of the query structure preservation L_qsp (DreamPRVR)'
  )
  loss.variational = key(
    0.0, 'Factor of the variational term L_pvs (DreamPRVR)'
  )
  loss.diffusion = key(
    0.0, "Factor of the diffusion estimator's L_dre (DreamPRVR)"
  )
  loss.matching = key(
    0.0, 'Factor of the optimal matching of captions and clips (GMMFormer v2)'
  )
  loss.cone = key(0.0, 'Factor of the cone loss (HLFormer)')
  loss.inter_evidence = key(
    0.0, 'Factor of the evidential loss between videos (Holmes)'
  )
  loss.intra_evidence = key(
    0.0, 'Factor of the evidential loss inside a video (Holmes)'
  )
  loss.distances = key(
    0.0,
    'Factor of text correlation preservation, distances (MSC); the '
    'teacher is the last word vector, which of CLIP is the end of text',
  )
  loss.angles = key(
    0.0, 'Factor of text correlation preservation, angles (MSC)'
  )
  loss.alignment = key(
    0.0,
    'Factor of the cross-branch alignment (MSC); needs clips of merged frames',
  )
  loss.interaction = key(
    0.0, "Factor of the two-way cross-entropy of DiffusionRet's retriever"
  )
  loss.proxy_matching = key(
    0.0, 'Factor of the matching of proxies of videos and captions (RAL)'
  )
  loss.proxy_divergence = key(
    0.0, 'Factor of the divergences of their Gaussians (RAL)'
  )
  loss.trace_nce = key(
    0.0, "Factor of the InfoNCE from captions to videos on TRACE's scores"
  )
  loss.trace_triplet = key(
    0.0, "Factor of the triplet loss on TRACE's scores, both directions"
  )
  _parameter_keys(loss)
  return loss


def _parameter_keys(loss: Keys) -> None:
  """Adds the keys of the losses beside their factors."""
  loss.margin = key(0.2, 'Margin of the triplet losses')
  loss.hard_pool = key(20, 'Hard negatives are drawn from this many')
  loss.diversity_version = key(
    2, 'Version of L_div: 2, or 1 (the first GMMFormer)'
  )
  loss.diversity_delta = key(0.2, 'Delta of L_div')
  loss.diversity_alpha = key(32.0, 'Alpha of L_div')
  loss.diversity_power = key(1.0, 'Lambda of L_div, version 2')
  loss.structure_temperature = key(0.08, 'Tau of L_qsp')
  loss.max_captions = key(
    32, 'Captions of a video, at most, that matching and intra_evidence see'
  )
  loss.inter_temperature = key(0.04, 'Tau of inter_evidence')
  loss.intra_temperature = key(0.08, 'Tau of intra_evidence')
  loss.doubt_margin = key(
    0.3, 'Limit of the thresholds of doubt and consistency (division_beta)'
  )
  loss.label_smoothing = key(
    0.2, "Share of a polysemous caption's label that is smoothed (smooth_beta)"
  )
  loss.transport_quantile = key(
    0.3, "Quantile of the dustbin's value in the transport (pot_prompt_ratio)"
  )
  loss.transport_scale = key(0.1, 'Softness of the transport (pot_scale)')
  loss.transport_iterations = key(50, 'Rounds of the transport')
  loss.sampled_means = key(
    True,
    'proxy_divergence takes the mean of the proxies, which is random, for the '
    "mean of a Gaussian (released); False: the Gaussian's own",
  )
  loss.spread_as_variance = key(
    True,
    'The divergence from N(0, 1) in proxy_divergence reads the spread as the '
    'logarithm of the variance (released); False: of the deviation, as the '
    'proxies do',
  )
  loss.trace_temperature = key(0.07, 'Temperature of trace_nce')


def with_numbers(
  model: Keys,
  loss: Keys,
  datasets: Mapping[str, Numbers],
  collection: str,
) -> dict[str, ConfigDict]:
  """Returns {section: values} with a dataset's numbers.

  A collection without published numbers gets those of ActivityNet.
  """
  numbers = datasets.get(collection, datasets['activitynet'])
  model.config.update(numbers.get('model', {}))
  loss.config.update(numbers.get('loss', {}))
  return {
    'model': model.config,
    'loss': loss.config,
    'optimizer': ConfigDict(dict(numbers.get('optimizer', {}))),
    'train': ConfigDict(dict(numbers.get('train', {}))),
    'data': ConfigDict(dict(numbers.get('data', {}))),
  }
