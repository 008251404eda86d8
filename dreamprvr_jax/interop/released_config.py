"""The config that a released checkpoint carries, in our terms."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dreamprvr_jax.interop.official import WeightsError, sizes
from dreamprvr_jax.models.dreamprvr import WIDTHS

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
LISTS = {
  'loss_factor': (
    'clip_nce',
    'frame_nce',
    'diversity',
    'structure',
    'variational',
    'diffusion',
  ),
  'neg_factor': ('diversity_delta', 'diversity_alpha', 'diversity_power'),
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
    WeightsError: If a tensor that shows a size is missing, or the tensors
      contradict the config.
  """
  found: dict[str, dict[str, Any]] = {}

  def put(section: str, key: str, value: Any) -> None:
    found.setdefault(section, {})[key] = value

  for (section, key), theirs in KEYS.items():
    if released.get(theirs) is not None:
      put(section, key, released[theirs])
  for theirs, names in LISTS.items():
    for name, value in zip(names, released.get(theirs) or (), strict=False):
      put('loss', name, float(value))

  shown = _shown(state)
  for section, key, theirs, value in (
    ('model', 'width', 'hidden_size', shown['width']),
    ('model', 'num_registers', 'num_registers', shown['registers']),
    ('model', 'diffusion_steps', 'timesteps', shown['steps']),
    ('model', 'diffusion_layers', 'num_diffusion_layers', shown['layers']),
    (None, None, 'attention_num', shown['blocks']),
    (None, None, 'visual_feat_dim', shown['visual_width']),
    (None, None, 'q_feat_size', shown['text_width']),
    ('data', 'max_frames', 'max_ctx_l', shown['frames']),
    ('data', 'max_words', 'max_desc_l', shown['words']),
    ('data', 'num_clips', 'map_size', shown['clips']),
  ):
    if released.get(theirs) not in (None, value):
      raise WeightsError(
        f"the checkpoint's config says {theirs} = {released[theirs]!r}, but "
        f'its tensors show {value}; the file is not consistent'
      )
    if section and key:
      put(section, key, value)
  if not 1 <= shown['blocks'] <= len(WIDTHS):
    raise WeightsError(
      f'the checkpoint has {shown["blocks"]} parallel blocks; the released '
      f'widths are known for 1 to {len(WIDTHS)}'
    )
  put('model', 'block_widths', WIDTHS[: shown['blocks']])
  return found


def feature_widths(state: Mapping[str, np.ndarray]) -> tuple[int, int]:
  """Returns (visual width, text width) that the tensors show."""
  shown = _shown(state)
  return shown['visual_width'], shown['text_width']


def _shown(state: Mapping[str, np.ndarray]) -> dict[str, int]:
  def shape(name: str, axes: int) -> tuple[int, ...]:
    tensor = state.get(name, state.get(f'module.{name}'))
    if tensor is None or not hasattr(tensor, 'shape'):
      raise WeightsError(
        f'the checkpoint has no tensor {name}; is it a DreamPRVR checkpoint?'
      )
    if len(tensor.shape) != axes:
      raise WeightsError(
        f'{name} has shape {tuple(tensor.shape)}; {axes} axes were expected'
      )
    return tuple(tensor.shape)

  clean = {name.removeprefix('module.') for name in state}
  counted = sizes(dict.fromkeys(clean))  # pyright: ignore[reportArgumentType]
  time_table = shape('diffusion_mlp.time_embedding.timembedding.0.weight', 2)
  return {
    'width': time_table[1],
    'steps': time_table[0],
    'registers': shape('video_qformer.query_tokens', 3)[1],
    'visual_width': shape('clip_input_proj.net.1.weight', 2)[1],
    'text_width': shape('query_input_proj.net.1.weight', 2)[1],
    'words': shape('query_pos_embed.position_embeddings.weight', 2)[0],
    'frames': shape('frame_pos_embed.position_embeddings.weight', 2)[0],
    'clips': shape('clip_encoder.layer2.weight', 2)[0],
    'blocks': counted['num_blocks'],
    'layers': counted['num_layers'],
  }
