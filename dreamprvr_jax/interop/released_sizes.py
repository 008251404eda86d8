"""Sizes of a model, read from the tensors of a released checkpoint."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dreamprvr_jax.interop.layouts import LAYOUTS
from dreamprvr_jax.interop.official import counts_of_state, model_of_state
from dreamprvr_jax.interop.rules import WeightsError
from dreamprvr_jax.interop.wrappers import unwrapped
from dreamprvr_jax.models.registry import MODELS

# (Our section or None, key, theirs) of sizes that tensors show.
CHECKED = (
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
)
# Numbered blocks -> the field that has their widths, and the released widths:
# a checkpoint shows only how many there are.
_V2 = (0.0, 0.5, 1.0, 5.0, 10.0, 3.0, 0.1, 8.0)
_HLFORMER = (0.0, 2.0, 4.0, 8.0)
_HOLMES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_DREAMPRVR = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
BLOCKS = {
  'dreamprvr': {'clip_encoder.e_attns.': ('block_widths', _DREAMPRVR)},
  'gmmformer': {'clip_encoder.attn': ('block_widths', (0.0, 0.5, 1.0, 5.0))},
  'gmmformer_v2': {'clip_encoder.attn': ('block_widths', _V2)},
  'hlformer': {
    'clip_encoder.e_attns.': ('block_widths', _HLFORMER),
    'clip_encoder.h_attns.': ('lorentz_widths', _HLFORMER),
  },
  'holmes': {'clip_encoder.e_attns.': ('block_widths', _HOLMES)},
  'holmes_multi': {'clip_encoder.e_attns.': ('block_widths', _HOLMES)},
  'msc': {'clip_encoder.attn': ('block_widths', _V2)},
  'ral': {'clip_encoder.attn': ('block_widths', _V2)},
}
# Size -> (tensor that shows it, its axes, the axis).
SIZES = {
  'width': ('modular_vector_mapping.weight', 2, 1),
  'visual_width': ('clip_input_proj.net.1.weight', 2, 1),
  'text_width': ('query_input_proj.net.1.weight', 2, 1),
  'max_words': ('query_pos_embed.position_embeddings.weight', 2, 0),
  'max_frames': ('frame_pos_embed.position_embeddings.weight', 2, 0),
}
# DiffusionRet's state dict has no input maps: its features are CLIP's.
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
  'ral': CLIPS,
}


def sizes(state: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
  """Returns {section: {key: value}} of the sizes that tensors decide.

  Raises:
    WeightsError: If it is not a state dict of the family, or a tensor that
      shows a size is missing.
  """
  model = model_of_state(state)
  known = set(MODELS[model].__dataclass_fields__)
  shown = shown_by(model, state)
  found = {'model': {'name': model}, 'data': {}}
  for section, key, _ in CHECKED:
    if section == 'model' and key in shown and key in known:
      found['model'][key] = shown[key]
    elif section == 'data' and key in shown:
      found['data'][key] = shown[key]
  for prefix, (field, widths) in BLOCKS.get(model, {}).items():
    count = counts_of_state(LAYOUTS[model], state)[prefix]
    if not 1 <= count <= len(widths):
      raise WeightsError(
        f'the checkpoint has {count} parallel blocks; the released widths are '
        f'known for 1 to {len(widths)}'
      )
    found['model'][field] = widths[:count]
  return found


def feature_widths(state: Mapping[str, np.ndarray]) -> tuple[int, int]:
  """Returns (visual width, text width) that the tensors show."""
  shown = shown_by(model_of_state(state), state)
  return shown['visual_width'], shown['text_width']


def shown_by(model: str, state: Mapping[str, np.ndarray]) -> dict[str, int]:
  """Returns every size that the tensors of a model show, by its name.

  Raises:
    WeightsError: If a tensor that shows one is missing or has other axes.
  """
  found = {}
  names = unwrapped(state)
  known = OWN_SIZES.get(model, {**SIZES, **MORE_SIZES.get(model, {})})
  for size, (name, axes, axis) in known.items():
    tensor = names.get(name)
    if tensor is None or not hasattr(tensor, 'shape'):
      raise WeightsError(
        f'the checkpoint has no tensor {name}; is it a {model} checkpoint?'
      )
    if len(tensor.shape) != axes:
      raise WeightsError(
        f'{name} has shape {tuple(tensor.shape)}; {axes} axes were expected'
      )
    found[size] = int(tensor.shape[axis])
    if not found[size]:
      raise WeightsError(f'{name} has shape {tuple(tensor.shape)}; it is empty')
  counts = counts_of_state(LAYOUTS[model], state)
  if 'diffusion_mlp.layers.' in counts:
    found['diffusion_layers'] = counts['diffusion_mlp.layers.']
  if 'transformerClip.resblocks.' in counts:
    found['num_layers'] = counts['transformerClip.resblocks.']
  if BLOCKS.get(model):
    found['blocks'] = sum(counts[prefix] for prefix in BLOCKS[model])
  return found
