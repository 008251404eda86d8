"""The config that a released checkpoint carries, in our terms."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dreamprvr_jax.interop.layouts import LAYOUTS
from dreamprvr_jax.interop.official import counts_of_state, model_of_state
from dreamprvr_jax.interop.rules import WeightsError
from dreamprvr_jax.models.registry import MODELS

# Ours (section, key) -> theirs.
KEYS = {
  ('data', 'collection'): 'collection',
  ('data', 'feature'): 'visual_feature',
  ('data', 'batch_size'): 'batchsize',
  ('data', 'num_clips'): 'map_size',
  ('data', 'max_frames'): 'max_ctx_l',
  ('data', 'max_words'): 'max_desc_l',
  ('model', 'num_heads'): 'n_heads',
  ('model', 'input_dropout'): 'input_drop',
  ('model', 'dropout'): 'drop',
  ('model', 'merge_temperature'): 'sft_factor',
  ('model', 'perturbation_scale'): 'perturbation_scale',
  ('model', 'clip_weight'): 'clip_scale_w',
  ('model', 'frame_weight'): 'frame_scale_w',
  ('loss', 'margin'): 'margin',
  ('loss', 'structure_temperature'): 'deterministic_tau',
  ('loss', 'hard_pool'): 'hard_pool_size',
  ('optimizer', 'lr'): 'lr',
  ('optimizer', 'warmup'): 'lr_warmup_proportion',
  ('train', 'epochs'): 'n_epoch',
  ('train', 'patience'): 'max_es_cnt',
  ('train', 'hard_negative_epoch'): 'hard_negative_start_epoch',
}
# What `loss_factor` and `neg_factor` hold, in order, by model.
LOSS_FACTORS = {
  'dreamprvr': (
    'clip_nce',
    'frame_nce',
    'diversity',
    'structure',
    'variational',
    'diffusion',
  ),
  'gmmformer': ('clip_nce', 'frame_nce', 'diversity'),
  'gmmformer_v2': ('clip_nce', 'frame_nce', 'diversity', 'matching'),
  'hlformer': ('clip_nce', 'frame_nce', 'diversity', 'cone'),
  'holmes': (
    'clip_nce',
    'frame_nce',
    'diversity',
    'intra_evidence',
    'inter_evidence',
  ),
  'holmes_multi': (
    'clip_nce',
    'frame_nce',
    'diversity',
    'intra_evidence',
    'inter_evidence',
  ),
  # The others are written there and not used.
  'msc': ('clip_nce', 'frame_nce'),
}
NEG_FACTORS = ('diversity_delta', 'diversity_alpha', 'diversity_power')
HOLMES_KEYS = {
  ('loss', 'inter_temperature'): 'edl_tau',
  ('loss', 'intra_temperature'): 'edl_intra_video_tau',
  ('loss', 'doubt_margin'): 'division_beta',
  ('loss', 'label_smoothing'): 'smooth_beta',
  ('loss', 'transport_quantile'): 'pot_prompt_ratio',
  ('loss', 'transport_scale'): 'pot_scale',
}


def overrides(
  released: Mapping[str, Any], state: Mapping[str, np.ndarray]
) -> dict[str, dict[str, Any]]:
  """Returns {section: {key: value}} of our config for a released checkpoint.

  Sizes that the tensors show are taken from them; the rest from the file's
  own config. A key that the file lacks is left to our defaults.

  Args:
    released: The `config` dict of the file.
    state: Its state dict.

  Raises:
    WeightsError: If it is no state dict of the family, a tensor that shows a
      size is missing, or the tensors contradict the config.
  """
  model = model_of_state(state)
  known = set(MODELS[model].__dataclass_fields__)
  found: dict[str, dict[str, Any]] = {'model': {'name': model}}

  def put(section: str, key: str, value: Any) -> None:
    if section != 'model' or key in known:
      found.setdefault(section, {})[key] = value

  keys = {**KEYS, **(HOLMES_KEYS if model.startswith('holmes') else {})}
  for (section, key), theirs in keys.items():
    if released.get(theirs) is not None:
      put(section, key, released[theirs])
  for theirs, names in (
    ('loss_factor', LOSS_FACTORS.get(model, ())),
    ('neg_factor', NEG_FACTORS),
  ):
    for name, value in zip(names, released.get(theirs) or (), strict=False):
      put('loss', name, float(value))

  shown = _shown(model, state)
  for section, key, theirs in (
    ('model', 'width', 'hidden_size'),
    ('model', 'num_registers', 'num_registers'),
    ('model', 'diffusion_steps', 'timesteps'),
    ('model', 'diffusion_layers', 'num_diffusion_layers'),
    ('model', 'lorentz_dim', 'lorentz_dim'),
    ('model', 'num_layers', 'num_hidden_layers'),
    ('model', 'num_positions', 'num_positions'),
    (None, 'blocks', 'attention_num'),
    (None, 'visual_width', 'visual_feat_dim'),
    (None, 'text_width', 'q_feat_size'),
    ('data', 'max_frames', 'max_ctx_l'),
    ('data', 'max_words', 'max_desc_l'),
    ('data', 'num_clips', 'map_size'),
  ):
    value = shown.get(key)
    # MSC's `map_size` is the number of frames that clips are merged from.
    if value is None or (model == 'msc' and key == 'num_clips'):
      continue
    if released.get(theirs) not in (None, value):
      raise WeightsError(
        f"the checkpoint's config says {theirs} = {released[theirs]!r}, but "
        f'its tensors show {value}; the file is not consistent'
      )
    if section:
      put(section, key, value)
  for prefix, field in BLOCKS.get(model, {}).items():
    count = counts_of_state(LAYOUTS[model], state)[prefix]
    widths = getattr(MODELS[model], field)
    if not 1 <= count <= len(widths):
      raise WeightsError(
        f'the checkpoint has {count} parallel blocks; the released widths are '
        f'known for 1 to {len(widths)}'
      )
    put('model', field, widths[:count])
  if model == 'msc':
    put('data', 'num_clips', shown['num_clips'])
  return found


# Numbered blocks -> the field that holds their widths.
BLOCKS = {
  'dreamprvr': {'clip_encoder.e_attns.': 'block_widths'},
  'gmmformer': {'clip_encoder.attn': 'block_widths'},
  'gmmformer_v2': {'clip_encoder.attn': 'block_widths'},
  'hlformer': {
    'clip_encoder.e_attns.': 'block_widths',
    'clip_encoder.h_attns.': 'lorentz_widths',
  },
  'holmes': {'clip_encoder.e_attns.': 'block_widths'},
  'holmes_multi': {'clip_encoder.e_attns.': 'block_widths'},
  'msc': {'clip_encoder.attn': 'block_widths'},
}
# Size -> (tensor that shows it, its axes, the axis).
SIZES = {
  'width': ('modular_vector_mapping.weight', 2, 1),
  'visual_width': ('clip_input_proj.net.1.weight', 2, 1),
  'text_width': ('query_input_proj.net.1.weight', 2, 1),
  'max_words': ('query_pos_embed.position_embeddings.weight', 2, 0),
  'max_frames': ('frame_pos_embed.position_embeddings.weight', 2, 0),
}
# DiffusionRet's state dict holds no input maps: its features are CLIP's.
OWN_SIZES = {
  'diffusionret': {
    name: ('frame_position_embeddings.weight', 2, axis)
    for name, axis in (
      ('width', 1),
      ('visual_width', 1),
      ('text_width', 1),
      ('num_positions', 0),
    )
  },
}
CLIPS = {'num_clips': ('clip_encoder.layer2.weight', 2, 0)}
MORE_SIZES = {
  'dreamprvr': {
    **CLIPS,
    'diffusion_steps': (
      'diffusion_mlp.time_embedding.timembedding.0.weight',
      2,
      0,
    ),
    'num_registers': ('video_qformer.query_tokens', 3, 1),
  },
  'gmmformer_v2': CLIPS,
  'hlformer': {
    **CLIPS,
    'lorentz_dim': (
      'clip_encoder.h_attns.0.self.input_proj.net.1.weight',
      2,
      0,
    ),
  },
  'holmes': CLIPS,
  'holmes_multi': CLIPS,
  'msc': CLIPS,
}


def feature_widths(state: Mapping[str, np.ndarray]) -> tuple[int, int]:
  """Returns (visual width, text width) that the tensors show."""
  shown = _shown(model_of_state(state), state)
  return shown['visual_width'], shown['text_width']


def _shown(model: str, state: Mapping[str, np.ndarray]) -> dict[str, int]:
  sizes = {}
  known = OWN_SIZES.get(model, {**SIZES, **MORE_SIZES.get(model, {})})
  for size, (name, axes, axis) in known.items():
    tensor = state.get(name, state.get(f'module.{name}'))
    if tensor is None or not hasattr(tensor, 'shape'):
      raise WeightsError(
        f'the checkpoint has no tensor {name}; is it a {model} checkpoint?'
      )
    if len(tensor.shape) != axes:
      raise WeightsError(
        f'{name} has shape {tuple(tensor.shape)}; {axes} axes were expected'
      )
    sizes[size] = int(tensor.shape[axis])
  counts = counts_of_state(LAYOUTS[model], state)
  if 'diffusion_mlp.layers.' in counts:
    sizes['diffusion_layers'] = counts['diffusion_mlp.layers.']
  if 'transformerClip.resblocks.' in counts:
    sizes['num_layers'] = counts['transformerClip.resblocks.']
  if BLOCKS.get(model):
    sizes['blocks'] = sum(counts[prefix] for prefix in BLOCKS[model])
  return sizes
