"""A released checkpoint, matching releases, and commands on them."""

import functools
import pathlib
import zlib
from typing import Any

import jax
import numpy as np

from data_pipeline import simulated
from dreamprvr_jax.interop import official
from dreamprvr_jax.models.template import blank_batch, variable_shapes
from tests.helpers import models
from tests.helpers.commands import answer
from tests.helpers.torch_archives import write_checkpoint

VISUAL, TEXT = 12, 10
RELEASED: dict[str, Any] = {
  'collection': 'activitynet',
  'dataset_name': 'activitynet',
  'visual_feature': 'i3d',
  'hidden_size': 16,
  'n_heads': 2,
  'num_registers': 3,
  'timesteps': 4,
  'num_diffusion_layers': 2,
  'attention_num': 8,
  'map_size': 32,
  'max_ctx_l': 128,
  'max_desc_l': 30,
  'visual_feat_dim': VISUAL,
  'q_feat_size': TEXT,
  'sft_factor': 0.09,
  'clip_scale_w': 0.7,
  'frame_scale_w': 0.3,
  'input_drop': 0.2,
  'drop': 0.2,
  'lr': 3e-4,
  'margin': 0.1,
  'loss_factor': [0.05, 0.04, 8e-5, 0.01, 1e-4, 1e-3],
  'neg_factor': [0.15, 32, 1],
  'deterministic_tau': 0.09,
}
MODEL = models.make(
  'dreamprvr',
  width=16,
  num_heads=2,
  num_registers=3,
  diffusion_steps=4,
  merge_temperature=0.09,
)


@functools.cache
def shapes():
  """Returns the shapes of the model's variables."""
  batch = blank_batch(VISUAL, TEXT, num_clips=32, max_frames=128, max_words=30)
  return variable_shapes(MODEL, batch)


def state_dict():
  """Returns the tensors of the checkpoint by their released names."""
  zeros = jax.tree.map(lambda s: np.zeros(s.shape, np.float32), shapes())
  return {
    name: np.random.default_rng(zlib.crc32(name.encode()))
    .normal(0, 0.15, value.shape)
    .astype(np.float32)
    for name, value in official.to_official(zeros).items()
  }


def write_place(folder: pathlib.Path):
  """Writes a release in both layouts, a released checkpoint, and its import."""
  for layout in ('bigfile', 'hdf5'):
    simulated.write_corpus(
      folder / layout,
      'activitynet',
      layout=layout,
      train_videos=4,
      val_videos=9,
      test_videos=5,
      visual_width=VISUAL,
      text_width=TEXT,
    )
  write_checkpoint(folder / 'best.ckpt', state_dict(), RELEASED)
  code, out, err = answer(
    '--mode=import',
    f'--official={folder}/best.ckpt',
    f'--workdir={folder}/imported',
  )
  assert code == 0, err
  assert '--mode=evaluate' in out
  return folder


def evaluate(folder, *arguments, layout='hdf5', checkpoint='imported'):
  """Evaluates a checkpoint of the folder on one of its releases."""
  return answer(
    '--mode=evaluate',
    f'--checkpoint={folder}/{checkpoint}',
    f'--config.data.root={folder}/{layout}',
    '--config.data.workers=1',
    '--config.data.eval_video_batch=4',
    '--config.num_devices=1',
    # It compiles in less time.
    '--config.model.parallel_execution=batched',
    *arguments,
  )
