"""The config of a released checkpoint, under our keys."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from dreamprvr_jax.interop.official import model_of_state
from dreamprvr_jax.interop.released_sizes import (
  CHECKED,
  feature_widths,
  shown_by,
  sizes,
)
from dreamprvr_jax.interop.rules import WeightsError
from dreamprvr_jax.models.registry import MODELS

__all__ = ['SCORING', 'feature_widths', 'overrides', 'sizes']

# Our (section, key) -> (the authors' key, kind of value).
KEYS = {
  ('data', 'collection'): ('collection', 'name'),
  ('data', 'feature'): ('visual_feature', 'name'),
  ('data', 'batch_size'): ('batchsize', 'count'),
  ('data', 'num_clips'): ('map_size', 'count'),
  ('data', 'max_frames'): ('max_ctx_l', 'count'),
  ('data', 'max_words'): ('max_desc_l', 'count'),
  ('model', 'num_heads'): ('n_heads', 'count'),
  ('model', 'input_dropout'): ('input_drop', 'share'),
  ('model', 'dropout'): ('drop', 'share'),
  ('model', 'merge_temperature'): ('sft_factor', 'positive'),
  ('model', 'perturbation_scale'): ('perturbation_scale', 'number'),
  ('model', 'clip_weight'): ('clip_scale_w', 'number'),
  ('model', 'frame_weight'): ('frame_scale_w', 'number'),
  ('loss', 'margin'): ('margin', 'number'),
  ('loss', 'structure_temperature'): ('deterministic_tau', 'positive'),
  ('loss', 'hard_pool'): ('hard_pool_size', 'count'),
  ('optimizer', 'lr'): ('lr', 'number'),
  ('optimizer', 'warmup'): ('lr_warmup_proportion', 'number'),
  ('train', 'epochs'): ('n_epoch', 'count'),
  ('train', 'patience'): ('max_es_cnt', 'count'),
  ('train', 'hard_negative_epoch'): ('hard_negative_start_epoch', 'whole'),
}
HOLMES_KEYS = {
  ('loss', 'inter_temperature'): ('edl_tau', 'positive'),
  ('loss', 'intra_temperature'): ('edl_intra_video_tau', 'positive'),
  ('loss', 'doubt_margin'): ('division_beta', 'number'),
  ('loss', 'label_smoothing'): ('smooth_beta', 'number'),
  ('loss', 'transport_quantile'): ('pot_prompt_ratio', 'number'),
  ('loss', 'transport_scale'): ('pot_scale', 'positive'),
}
MSC_KEYS = {
  ('data', 'merge_threshold'): ('sim_thr', 'share'),
  ('loss', 'distances'): ('rkd_d_coef', 'number'),
  ('loss', 'angles'): ('rkd_a_coef', 'number'),
  ('loss', 'alignment'): ('vl_coef', 'number'),
}
MORE_KEYS = {
  'holmes': HOLMES_KEYS,
  'holmes_multi': HOLMES_KEYS,
  'msc': MSC_KEYS,
}
# Keys that decide scores or files, and that no tensor shows.
SCORING = (
  ('data', 'collection'),
  ('data', 'feature'),
  ('model', 'num_heads'),
  ('model', 'clip_weight'),
  ('model', 'frame_weight'),
  ('model', 'merge_temperature'),
)
# MSC's names of its features -> the files of its layout: frames, words.
MSC_FILES = {
  'clip': ('{}_clip_L14.h5', '{}_clip_L14.h5'),
  'clipsf': ('{}_slowfast_clip.h5', '{}_slowfast_clip_text.h5'),
}
# The names that programs take for a collection on their command line.
SHORT_NAMES = {'act': 'activitynet', 'cha': 'charades'}
# GMMFormer's tables are as long as the longest of this many videos.
GMMFORMER_BATCH = 100
# The entries of `loss_factor` and `neg_factor`, in order, by model.
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
  'ral': ('clip_nce', 'frame_nce', 'diversity', 'matching'),
  # The others are written there and not used.
  'msc': ('clip_nce', 'frame_nce'),
}
NEG_FACTORS = ('diversity_delta', 'diversity_alpha', 'diversity_power')


def overrides(
  released: Mapping[str, Any], state: Mapping[str, np.ndarray]
) -> dict[str, dict[str, Any]]:
  """Returns {section: {key: value}} of our config for a released checkpoint.

  Sizes that the tensors show are taken from them; the rest from the file's
  own config. A key that is missing in the file, or has a value of another kind,
  keeps our default.

  Args:
    released: The config of the file.
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

  keys = {**KEYS, **MORE_KEYS.get(model, {})}
  for (section, key), (theirs, kind) in keys.items():
    value = _of_kind(released.get(theirs), kind)
    if value is not None:
      put(section, key, value)
  for theirs, names in (
    ('loss_factor', LOSS_FACTORS.get(model, ())),
    ('neg_factor', NEG_FACTORS),
  ):
    factors = released.get(theirs)
    factors = factors if isinstance(factors, list | tuple) else ()
    for name, value in zip(names, factors, strict=False):
      value = _of_kind(value, 'number')
      if value is not None:
        put('loss', name, float(value))
  _place_features(model, found)
  for section, values in _checked_sizes(model, released, state).items():
    for key, value in values.items():
      put(section, key, value)
  _drop_misfits(found)
  if model == 'gmmformer':
    put('model', 'frame_length', 'batch')
    put('data', 'eval_video_batch', GMMFORMER_BATCH)
  return found


def _checked_sizes(
  model: str, released: Mapping[str, Any], state: Mapping[str, np.ndarray]
) -> dict[str, dict[str, Any]]:
  """Returns `sizes`, which the file's config must not contradict."""
  shown = shown_by(model, state)
  for _, key, theirs in CHECKED:
    # MSC's `map_size` is the number of frames that clips are merged from.
    if key not in shown or (model == 'msc' and key == 'num_clips'):
      continue
    said = _of_kind(released.get(theirs), 'count')
    if said not in (None, shown[key]):
      raise WeightsError(
        f"the checkpoint's config says {theirs} = {said!r}, but its tensors "
        f'show {shown[key]}; the file is not consistent'
      )
  return sizes(state)


def _drop_misfits(found: dict[str, dict[str, Any]]) -> None:
  """Removes numbers of the config that do not fit the tensors."""
  model, data = found['model'], found['data']
  if model['width'] % model.get('num_heads', 1):
    del model['num_heads']
  if data.get('max_frames', 0) > model.get('num_positions', 2**31):
    del data['max_frames']
  if data.get('num_clips', 0) > data.get('max_frames', 2**31):
    del data['num_clips']


def _place_features(model: str, found: dict[str, dict[str, Any]]) -> None:
  """Turns the file's names of collection and features into ours."""
  data = found.setdefault('data', {})
  name = data.get('collection', '')
  if name in SHORT_NAMES:
    data['collection'] = name = SHORT_NAMES[name]
  if model != 'msc':
    return
  files = MSC_FILES.get(data.pop('feature', ''))
  if files and name:
    data['feature'], data['text_feature'] = (f.format(name) for f in files)


def _of_kind(value: Any, kind: str) -> Any:
  """Returns a value of a file's config, None if it is not of a kind."""
  if kind == 'name':
    good = isinstance(value, str) and re.fullmatch(r'[\w.+ -]{1,200}', value)
    return value if good and value.strip('. ') else None
  if isinstance(value, bool) or not isinstance(value, int | float):
    return None
  if not -1e30 < value < 1e30:
    return None
  good = {
    'count': 1 <= value <= 2**31 and value == int(value),
    'whole': 0 <= value <= 2**31 and value == int(value),
    'share': 0 <= value < 1,
    'positive': value > 0,
    'number': True,
  }[kind]
  if not good:
    return None
  return int(value) if kind in ('count', 'whole') else value
