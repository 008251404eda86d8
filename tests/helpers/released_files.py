"""Complete released files, as each program's own training writes them."""

import argparse
import collections
import pathlib
from typing import Any

import h5py
import numpy as np

from data_pipeline import simulated
from data_pipeline.options import SENTENCES
from tests.helpers.torch_archives import (
  Call,
  Name,
  opcodes,
  state_dict,
  storage,
  tensor,
  write,
)

VISUAL, TEXT = 24, 20
_METRICS = [10.5, 20.25, 30.0, 40.0, 100.75]
# The results of the programs' validation.
MODEL_VAL: dict[str, Any] = {
  'dreamprvr': [*_METRICS, [1.0, 2.0, 3.0, 4.0, 10.0]],
  'holmes': [*_METRICS, None],
  'holmes_multi': [*_METRICS, None],
  'gmmformer': [np.float64(x) for x in _METRICS],
  'hlformer': np.array(_METRICS),
}
COMMON: dict[str, Any] = {
  'dataset_name': 'charades',
  'collection': 'charades',
  'visual_feature': 'i3d_rgb_lgi',
  'hidden_size': 32,
  'n_heads': 4,
  'max_ctx_l': 128,
  'max_desc_l': 30,
  'map_size': 32,
  'input_drop': 0.25,
  'drop': 0.25,
  'lr': 2e-4,
  'margin': 0.2,
  'wd': 0.01,
  'loss_factor': [0.02, 0.04, 0.003, 0.11, 1e-4, 1e-3],
  'neg_factor': [0.2, 32, 1],
  'clip_scale_w': 0.6,
  'frame_scale_w': 0.4,
  'sft_factor': 0.09,
  'num_workers': 16,
  'seed': 0,
  'root': '/home/who/prvr',
  'device_ids': [0],
  'stop': None,
}
# Settings of the programs whose files differ from the common ones.
OWN: dict[str, dict[str, Any]] = {
  'dreamprvr': {'num_registers': 3, 'timesteps': 10},
  'hlformer': {'lorentz_dim': 27, 'attention_num': 8, 'curv_init': 1.0},
  'msc': {
    'visual_feature': 'clip',
    'max_desc_l': 77,
    'map_size': 128,
    'sim_thr': 0.85,
    'rkd_d_coef': 12.0,
    'rkd_a_coef': 24.0,
    'vl_coef': 0.2,
  },
}


def config_of(name: str) -> dict[str, Any]:
  """Returns the settings that a program's file holds."""
  config = {**COMMON, **OWN.get(name, {})}
  if name == 'gmmformer':
    del config['sft_factor']
  if name == 'ms_sl':
    kept = ('hidden_size', 'n_heads', 'max_ctx_l', 'max_desc_l', 'map_size')
    config = {
      **{key: config[key] for key in (*kept, 'input_drop', 'drop', 'margin')},
      'visual_input_size': VISUAL,
      'query_input_size': TEXT,
      'use_hard_negative': False,
      'hard_pool_size': 20,
    }
  return config


def easy_dict(values: dict[str, Any]) -> Call:
  """Returns an EasyDict, which also has its items as attributes."""
  name = Name('easydict', 'EasyDict')
  return Call(name, (), state=values, items=tuple(values.items()))


def optimizer(state: dict[str, np.ndarray]) -> dict[str, Any]:
  """Returns torch's state of BertAdam; its schedule is an object of the
  program."""
  schedule = Call(
    Name('copyreg', '_reconstructor'),
    (
      Name('Opts.optimization', 'WarmupLinearSchedule'),
      Name('builtins', 'object'),
      None,
    ),
    state={'warmup': 0.01, 't_total': 4200.0},
  )
  moments = tensor(
    storage(0, numel=next(iter(state.values())).size), (1,), (1,)
  )
  return {
    'state': {i: {'step': 7, 'next_m': moments} for i in range(2)},
    'param_groups': [{'schedule': schedule, 'params': [0, 1], 'lr': 2e-4}],
  }


def write_file(
  path: pathlib.Path,
  name: str,
  state: dict[str, np.ndarray],
  **changes: Any,
) -> pathlib.Path:
  """Writes a file as the program `name` does.

  Args:
    path: Path of the file.
    name: Name of the model.
    state: {name: float32 array}.
    **changes: Entries that replace or extend the program's own.
  """
  tensors, members = state_dict(state)
  config: Any = config_of(name)
  value: dict[str, Any]
  if name == 'diffusionret':
    value = {**tensors, **changes}
  elif name == 'ms_sl':
    config['device'] = Call(Name('torch', 'device'), ('cuda', 0))
    value = {'model': tensors, 'model_cfg': easy_dict(config), 'epoch': 41}
    value |= changes
  else:
    if name == 'gmmformer':
      config = easy_dict(config)
    elif name == 'msc':
      config['result_dir'] = pathlib.PurePosixPath('/out/msc')
      config['history'] = collections.deque([1, 2], 3)
      config = argparse.Namespace(**config)
    elif name == 'holmes':
      config = collections.OrderedDict(config)
    ordered = Call(
      Name('collections', 'OrderedDict'),
      state={'_metadata': {}},
      items=tuple(tensors.items()),
    )
    value = {
      'config': config,
      'epoch': np.int64(34) if name == 'holmes' else 34,
      'model_val': MODEL_VAL.get(name, _METRICS),
      'state_dict': ordered,
      'optimizer': optimizer(state),
      **changes,
    }
  return write(path, opcodes(value), members)


def write_corpus(root: pathlib.Path, name: str) -> pathlib.Path:
  """Writes a release of the dataset in `config_of`, in the layout of a program.
  MSC's layout has one file of frames and one of words."""
  widths = {'visual_width': VISUAL, 'text_width': TEXT}
  if name == 'diffusionret':
    widths = {'visual_width': 32, 'text_width': 32}
  collection = 'activitynet' if name == 'diffusionret' else 'charades'
  folder = simulated.write_corpus(
    root,
    collection,
    feature='i3d_rgb_lgi',
    layout='hdf5',
    train_videos=2,
    val_videos=6,
    test_videos=2,
    **widths,
  )
  if name in ('msc', 'diffusionret'):
    clip = f'{collection}_clip_L14.h5'
    frames = folder / 'FeatureData'
    (frames / 'i3d_rgb_lgi' / 'feature.hdf5').rename(frames / clip)
    files = (folder / 'TextData').glob('*.hdf5')
    (words,) = (path for path in files if path.name != SENTENCES)
    words.rename(words.with_name(clip))
  return folder


def lengthen(folder: pathlib.Path, frames: int) -> None:
  """Cuts the videos of a release to at most `frames`."""
  path = next((folder / 'FeatureData').rglob('feature.hdf5'))
  with h5py.File(path, 'r+') as file:
    for video in list(file):
      kept = file[video][:frames]
      del file[video]
      file[video] = kept
