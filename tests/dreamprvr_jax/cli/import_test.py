"""--mode=import of a released file of each model, and its results."""

import json

import jax
import numpy as np
import pytest

import dreamprvr_jax
import main
from dreamprvr_jax import checkpoints
from dreamprvr_jax.interop import official
from dreamprvr_jax.interop.layouts import LAYOUTS
from dreamprvr_jax.rerank.networks import build_reranker
from dreamprvr_jax.rerank.trained import read_fusion
from tests.dreamprvr_jax.interop.official_test import FILES, released
from tests.helpers import models
from tests.helpers.torch_archives import (
  state_dict,
  write,
  write_checkpoint,
)

CONFIG = {
  'collection': 'tvr',
  'hidden_size': 32,
  'n_heads': 4,
  'clip_scale_w': 0.5,
  'frame_scale_w': 0.5,
}


def imported(path, folder):
  code = main.main(
    ['main.py', '--mode=import', f'--official={path}', f'--workdir={folder}']
  )
  assert code == 0
  return json.loads((folder / 'config.json').read_text())['config']


@pytest.mark.parametrize('name', FILES)
def test_a_file_of_each_model(name, tmp_path):
  state = released(name)
  path = tmp_path / 'best.ckpt'
  if name == 'ms_sl':
    # This file has other names for the same entries.
    tensors, members = state_dict(state)
    write(path, {'model': tensors, 'model_cfg': CONFIG}, members)
  elif name == 'diffusionret':
    # This file is the state dict itself, without a config.
    tensors, members = state_dict(state)
    write(path, tensors, members)
  else:
    write_checkpoint(path, state, CONFIG)
  config = imported(path, tmp_path / 'ours')
  assert config['model']['name'] == name
  collection = 'activitynet' if name == 'diffusionret' else 'tvr'
  assert config['data']['collection'] == collection
  assert config['model']['clip_weight'] == 0.5
  model, variables = dreamprvr_jax.load(tmp_path / 'ours')
  back = official.to_official(variables, name)
  ignored = LAYOUTS[name].ignored
  kept = {k for k in state if not any(part in k for part in ignored)}
  assert set(back) == kept
  for key in kept:
    np.testing.assert_array_equal(back[key], state[key], err_msg=key)
  words = np.ones((1, model.max_words, 20), np.float32)
  if name == 'diffusionret':
    words = np.ones((1, model.max_words, 32), np.float32)
  mask = np.ones((1, model.max_words), bool)
  query = models.apply(model, variables, words, mask, method='encode_query')
  assert np.isfinite(query).all()


def test_a_generator_becomes_a_reranker(tmp_path):
  state = released('diffusionret')
  tensors, members = state_dict(state)
  path = write(tmp_path / 'best.pth', tensors, members)
  imported(path, tmp_path / 'ours')
  folder = tmp_path / 'ours' / 'reranker'
  stored = json.loads((folder / 'config.json').read_text())
  settings = stored['config']['rerank']
  assert settings['mask_mode'] == 'after'
  assert settings['tokens'] == 'frame'
  chosen = read_fusion(str(folder))
  assert (chosen['temperature'], chosen['weight']) == (1.0, 1.0)
  assert chosen['sampling_steps'] == 50
  model = build_reranker(settings, 32)
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), 2, 32))
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  placed = jax.tree.map(
    lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=device), shapes
  )
  variables = checkpoints.load_weights(folder, placed)
  back = official.to_official(variables, 'text_to_video')
  for key, value in back.items():
    np.testing.assert_array_equal(value, state[key], err_msg=key)
