"""Evaluate, import, export, prepare, inspect, and what they refuse."""

import json
import pathlib
import shutil
import subprocess
import sys
import zlib

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

import dreamprvr_jax
from data_pipeline import simulated
from data_pipeline.corpus import DataOptions, open_corpus
from dreamprvr_jax.interop import official
from dreamprvr_jax.models.dreamprvr import DreamPRVR
from dreamprvr_jax.models.template import blank_batch, variable_shapes
from tests.helpers import runs
from tests.helpers.torch_archives import write_checkpoint

VISUAL, TEXT = 12, 10
RELEASED = {
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
MODEL = DreamPRVR(
  width=16,
  num_heads=2,
  num_registers=3,
  diffusion_steps=4,
  merge_temperature=0.09,
)


def state_dict():
  shapes = variable_shapes(
    MODEL, blank_batch(VISUAL, TEXT, num_clips=32, max_frames=128, max_words=30)
  )
  zeros = jax.tree.map(lambda s: np.zeros(s.shape, np.float32), shapes)
  return {
    name: np.random.default_rng(zlib.crc32(name.encode()))
    .normal(0, 0.15, value.shape)
    .astype(np.float32)
    for name, value in official.to_official(zeros).items()
  }


@pytest.fixture(scope='module')
def place(tmp_path_factory):
  """A release in both layouts, a released checkpoint, and its import."""
  folder = tmp_path_factory.mktemp('commands')
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
  code, out, err = call(
    folder,
    '--mode=import',
    f'--official={folder}/best.ckpt',
    f'--workdir={folder}/imported',
  )
  assert code == 0, err
  assert '--mode=evaluate' in out
  return folder


def call(folder, *arguments):
  return runs.call([*arguments, '--noprogress'], folder / 'cache')


def evaluate(folder, *arguments, layout='hdf5', checkpoint='imported'):
  return call(
    folder,
    '--mode=evaluate',
    f'--checkpoint={folder}/{checkpoint}',
    f'--config.data.root={folder}/{layout}',
    '--config.data.workers=1',
    *arguments,
  )


def expected_scores(folder):
  """The scores, straight from the model on one video at a time."""
  options = DataOptions(
    root=str(folder / 'hdf5'), collection='activitynet', storage='release'
  )
  split = open_corpus(options).splits['val']
  variables = official.from_official(
    state_dict(),
    variable_shapes(
      MODEL,
      blank_batch(VISUAL, TEXT, num_clips=32, max_frames=128, max_words=30),
    ),
  )
  words = split.read_captions(range(len(split.caption_ids)))
  queries = MODEL.apply(
    variables, words['word_features'], words['word_mask'], method='encode_query'
  )
  columns = []
  encode = jax.jit(
    lambda clips, frames, mask: MODEL.apply(
      variables, clips, frames, mask, method='encode_video'
    )
  )
  for i in range(len(split.video_ids)):
    videos = encode(*split.read_videos([i]).values())
    found = MODEL.apply(variables, queries, videos, method='score')
    columns.append(0.7 * found.clip + 0.3 * found.frame)
  return split, np.concatenate(columns, axis=1)


def test_import_then_evaluate(place):
  code, out, err = evaluate(
    place, '--config.data.eval_split=val', f'--scores={place}/scores.npz'
  )
  assert code == 0, err
  split, wanted = expected_scores(place)
  with np.load(place / 'scores.npz') as file:
    assert file['scores'].dtype == np.float32
    assert file['queries'].tolist() == split.caption_ids
    assert file['videos'].tolist() == split.video_ids
    np.testing.assert_allclose(file['scores'], wanted, atol=2e-6)
  own = wanted[np.arange(len(wanted)), split.caption_video]
  ranks = 1 + (wanted > own[:, None]).sum(axis=1)
  metrics = runs.evaluation(place / 'imported', 'val')
  assert metrics['R@1'] == pytest.approx(100 * np.mean(ranks == 1))
  assert metrics['MedR'] == np.median(ranks)
  assert metrics['MeanR'] == pytest.approx(np.mean(ranks))
  assert f'split val: {len(ranks)} queries, 9 videos' in out
  assert 'clip branch' in out
  assert 'moment/video' in out


def test_both_layouts_give_equal_metrics(place):
  found = []
  for layout in ('hdf5', 'bigfile'):
    code, _, err = evaluate(
      place, f'--workdir={place}/{layout}_result', layout=layout
    )
    assert code == 0, err
    found.append(runs.evaluation(place / f'{layout}_result'))
  for metrics in found:
    metrics.pop('command')
  assert found[0] == found[1]


def test_imported_config_is_the_files_own(place):
  stored = json.loads((place / 'imported/config.json').read_text())
  config = stored['config']
  assert stored['visual_width'] == VISUAL
  assert stored['imported_from']['recorded_metrics'] == [1, 2, 3, 4, 10]
  assert config['model']['merge_temperature'] == 0.09
  assert config['model']['diffusion_steps'] == 4
  assert config['loss']['clip_nce'] == 0.05
  assert config['loss']['diversity_delta'] == 0.15
  assert config['optimizer']['lr'] == 3e-4


def test_export_and_three_lines(place):
  code, out, err = call(
    place,
    '--mode=export',
    f'--checkpoint={place}/imported',
    f'--out={place}/exported',
  )
  assert code == 0, err
  assert 'weights.safetensors' in out
  model, variables = dreamprvr_jax.load(place / 'exported')
  words = np.ones((1, 30, TEXT), np.float32)
  query = model.apply(
    variables, words, np.ones((1, 30), bool), method='encode_query'
  )
  assert query.shape == (1, 16)
  tensors = load_file(place / 'exported/weights.safetensors')
  kernel = variables['params']['query']['input']['projection']['linear']
  np.testing.assert_array_equal(
    tensors['params.query.input.projection.linear.kernel'], kernel['kernel']
  )
  sizes = sum(leaf.size for leaf in jax.tree.leaves(variables))
  assert sum(t.size for t in tensors.values()) == sizes


@pytest.mark.parametrize(
  ('change', 'sentence'),
  [
    (
      lambda s: s.pop('query_encoder.norm1.weight'),
      'missing query_encoder.norm1.weight',
    ),
    (
      lambda s: s.update(surplus=np.zeros(3, np.float32)),
      'not known surplus',
    ),
    (
      lambda s: s.update(
        {'query_encoder.norm1.weight': np.zeros(5, np.float32)}
      ),
      'query_encoder.norm1.weight has shape (5,)',
    ),
    (
      lambda s: s['query_encoder.norm1.weight'].fill(np.nan),
      'query_encoder.norm1.weight holds NaN',
    ),
    (
      lambda s: s.pop('video_qformer.query_tokens'),
      'no tensor video_qformer.query_tokens',
    ),
  ],
)
def test_bad_checkpoints_are_refused(tmp_path, place, change, sentence):
  state = state_dict()
  change(state)
  write_checkpoint(tmp_path / 'bad.ckpt', state, RELEASED)
  code, _, err = call(
    place,
    '--mode=import',
    f'--official={tmp_path}/bad.ckpt',
    f'--workdir={tmp_path}/out',
  )
  assert code == 2
  assert sentence in err
  assert 'Traceback' not in err
  assert not (tmp_path / 'out').exists()


def test_config_that_contradicts_the_tensors(tmp_path, place):
  write_checkpoint(
    tmp_path / 'bad.ckpt', state_dict(), {**RELEASED, 'num_registers': 9}
  )
  code, _, err = call(
    place,
    '--mode=import',
    f'--official={tmp_path}/bad.ckpt',
    f'--workdir={tmp_path}/out',
  )
  assert code == 2
  assert 'num_registers = 9, but its tensors show 3' in err


def test_names_of_several_gpus_are_known(tmp_path, place):
  state = {f'module.{name}': value for name, value in state_dict().items()}
  write_checkpoint(tmp_path / 'wide.ckpt', state, RELEASED)
  code, _, err = call(
    place,
    '--mode=import',
    f'--official={tmp_path}/wide.ckpt',
    f'--workdir={tmp_path}/out',
  )
  assert code == 0, err


def test_features_of_another_width_are_refused(tmp_path, place):
  simulated.write_corpus(
    tmp_path, 'activitynet', train_videos=2, val_videos=2, test_videos=2
  )
  code, _, err = call(
    place,
    '--mode=evaluate',
    f'--checkpoint={place}/imported',
    f'--config.data.root={tmp_path}',
  )
  assert code == 2
  assert f'frame features of width {VISUAL}' in err


def test_prepare_then_inspect(tmp_path, place):
  shutil.copytree(place / 'bigfile' / 'activitynet', tmp_path / 'activitynet')
  where = (
    '--config=configs/activitynet.py',
    f'--config.data.root={tmp_path}',
    '--config.data.workers=1',
  )
  code, out, err = call(place, '--mode=prepare', *where)
  assert code == 0, err
  code, again, err = call(place, '--mode=inspect', *where)
  assert code == 0, err
  for text in (out, again):
    assert 'records' in text
    assert 'captions_per_video' in text


def test_inspect_a_checkpoint(place):
  code, out, err = call(
    place, '--mode=inspect', f'--checkpoint={place}/imported'
  )
  assert code == 0, err
  assert 'parameters' in out
  assert 'best.ckpt' in out


@pytest.mark.parametrize(
  ('arguments', 'sentence'),
  [
    (['--mode=dance'], 'train|evaluate|prepare|inspect|import|export'),
    (['--config=configs/none.py'], 'configs/ has activitynet.py'),
    (['--config=configs/tvr.py:other'], "the models are ['diffusionret', "),
    (
      ['--config=configs/tvr.py', '--config.modle.width=3'],
      'Did you mean "model"',
    ),
    (['--config=configs/tvr.py', '--config.model.width=wide'], "'wide'"),
    (['--colour=red'], "Unknown command line flag 'colour'"),
    (['stray'], "'stray' is not a flag"),
    (['--mode=evaluate'], 'needs --checkpoint='),
    (['--mode=evaluate', '--checkpoint=/none'], 'holds no config.json'),
    (['--mode=import', '--official=main.py', '--workdir=x'], 'not a zip'),
    (['--mode=export', '--checkpoint=x'], 'holds no config.json'),
    (['--mode=inspect'], 'or --checkpoint=DIR'),
    (
      ['--config=configs/tvr.py', '--config.data.root=/none'],
      'tvrtrain.caption.txt',
    ),
    (
      ['--config=configs/tvr.py', '--config.num_devices=64'],
      'asks for 64 devices, but JAX sees 1',
    ),
    (
      ['--config=configs/tvr.py', '--num_processes=2'],
      'needs --coordinator=HOST:PORT',
    ),
    (
      [
        '--config=configs/quickstart.py',
        '--config.data.pipeline=rowing',
      ],
      "pipeline='rowing'",
    ),
    (
      [
        '--config=configs/quickstart.py',
        '--config.model.register_source=air',
      ],
      "'air' is unknown; choose from",
    ),
    (
      ['--config=configs/quickstart.py', '--config.dtype=float8'],
      "'float8' is unknown",
    ),
  ],
)
def test_bad_command_lines(tmp_path, place, arguments, sentence):
  if '--config=configs/quickstart.py' in arguments:
    arguments = [
      *arguments,
      *runs.SMALL[2:],
      f'--config.data.root={tmp_path}/data',
      f'--workdir={tmp_path}/run',
    ]
  code, _, err = call(place, *arguments)
  assert code == 2
  assert sentence in err
  assert 'Traceback' not in err


@pytest.mark.parametrize('mode', ['', '--mode=import'])
def test_help(mode):
  out = subprocess.run(
    [sys.executable, 'main.py', '--help', *filter(None, [mode])],
    cwd=runs.ROOT,
    capture_output=True,
    text=True,
  )
  assert out.returncode == 0
  assert '--mode=import' in out.stdout
  assert ('--mode=prepare' in out.stdout) == (not mode)
  assert '--config.optimizer.lr=0.00025' in out.stdout or (
    '--config.optimizer.lr=2.5e-4' in out.stdout
  )


def test_nothing_is_written_outside_the_workdir(place):
  assert not pathlib.Path('imported').exists()


def test_several_right_videos(place):
  options = DataOptions(
    root=str(place / 'hdf5'), collection='activitynet', storage='release'
  )
  split = open_corpus(options).splits['val']
  rows = [
    {
      'query_id': query,
      'caption': split.captions[i],
      'gt_video_ids': [
        split.video_ids[split.caption_video[i]],
        split.video_ids[split.caption_video[i] - 1],
      ],
    }
    for i, query in enumerate(split.caption_ids)
  ]
  labels = place / 'labels.jsonl'
  labels.write_text('\n'.join(map(json.dumps, rows)))
  arguments = ('--config.data.eval_split=val', f'--labels={labels}')
  code, out, err = evaluate(place, f'--workdir={place}/several', *arguments)
  assert code == 0, err
  metrics = runs.evaluation(place / 'several', 'val')
  found = metrics['labels']
  assert found['single']['coverage']['SumR'] == metrics['SumR']
  assert found['single']['mAP'] == metrics['mAP']
  assert found['released']['positives'] == 2 * len(rows)
  assert found['released']['ceiling']['R@1'] == 50
  assert 'released: coverage' in out
  labels.write_text(json.dumps(rows[0]))
  code, _, err = evaluate(place, f'--workdir={place}/few', *arguments)
  assert code == 2
  assert f'{len(rows) - 1} of {len(rows)} queries have no label' in err
  assert not (place / 'few').exists()
