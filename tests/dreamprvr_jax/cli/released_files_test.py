"""Each program's own file: imported by one command, evaluated by the next."""

import json

import jax
import numpy as np
import pytest

import dreamprvr_jax
import main
from data_pipeline.opening import open_corpus
from data_pipeline.options import DataOptions
from dreamprvr_jax.cli import flags
from tests.dreamprvr_jax.interop.official_test import FILES, released
from tests.helpers.released_files import (
  config_of,
  lengthen,
  write_corpus,
  write_file,
)
from tests.helpers.torch_archives import state_dict, write


def run_import(path, *arguments):
  return main.main(
    [
      'main.py',
      '--mode=import',
      f'--official={path}',
      f'--workdir={path.parent}/ours',
      *arguments,
    ]
  )


def stored(path):
  return json.loads((path.parent / 'ours' / 'config.json').read_text())


def planned(path, *arguments):
  """Returns the config that an import of the file would store."""
  return flags.parse(
    [
      'main.py',
      '--mode=import',
      f'--official={path}',
      f'--workdir={path.parent}',
      *arguments,
    ]
  ).config


@pytest.fixture
def path(tmp_path):
  return tmp_path / 'best.ckpt'


def scores_of(path, *arguments):
  """Returns the scores of an import on the release beside it, and the file."""
  target = path.parent / 'scores.npz'
  code = main.main(
    [
      'main.py',
      '--mode=evaluate',
      f'--checkpoint={path.parent}/ours',
      f'--config.data.root={path.parent}/data',
      '--config.data.workers=1',
      '--config.data.eval_split=val',
      '--config.data.storage=release',
      '--config.data.eval_video_batch=8',
      '--noprogress',
      f'--scores={target}',
      *arguments,
    ]
  )
  assert code == 0
  with np.load(target) as file:
    return file['scores']


def expected(path, clip, frame):
  """Returns the scores of the bare model on the val split as one batch, padded
  to its longest video."""
  model, variables = dreamprvr_jax.load(path.parent / 'ours')
  data = stored(path)['config']['data']
  options = {
    key: data[key]
    for key in ('collection', 'feature', 'clips', 'max_frames', 'max_words')
  }
  if data['text_feature']:
    options['text_feature'] = data['text_feature']
  corpus = open_corpus(
    DataOptions(root=f'{path.parent}/data', storage='release', **options)
  )
  split = corpus.splits['val']
  videos = split.read_videos(range(len(split.video_ids)))
  videos.pop('clip_groups', None)
  words = split.read_captions(range(len(split.caption_ids)))

  @jax.jit
  def score(variables):
    queries = model.apply(variables, *words.values(), method='encode_query')
    tokens = model.apply(variables, *videos.values(), method='encode_video')
    return model.apply(variables, queries, tokens, method='score')

  found = score(variables)
  return clip * found.clip + frame * found.frame


WEIGHTS = {'ms_sl': (0.5, 0.5), 'diffusionret': (0.5, 0.5)}
SLOW = (
  'dreamprvr',
  'gmmformer_v2',
  'hlformer',
  'holmes',
  'holmes_multi',
  'ral',
)


@pytest.mark.parametrize(
  'name',
  [
    pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
    for name in FILES
  ],
)
def test_import_then_evaluate(name, path, capsys):
  write_file(path, name, released(name))
  named = ['--collection=charades'] if name == 'ms_sl' else []
  assert run_import(path, *named) == 0
  capsys.readouterr()
  write_corpus(path.parent / 'data', name)
  if name == 'gmmformer':
    lengthen(path.parent / 'data' / 'charades', 40)
  found = scores_of(path)
  weights = WEIGHTS.get(name, (0.6, 0.4))
  np.testing.assert_allclose(found, expected(path, *weights), atol=2e-6)
  if name == 'gmmformer':
    fixed = scores_of(
      path,
      '--config.model.frame_length=fixed',
      '--config.model.parallel_execution=batched',
    )
    assert np.abs(found - fixed).max() > 1e-4


@pytest.mark.parametrize('name', ['dreamprvr', 'holmes'])
def test_recorded_metrics_are_kept(name, path):
  assert run_import(write_file(path, name, released(name))) == 0
  origin = stored(path)['imported_from']
  assert origin['epoch'] == 34
  assert origin['recorded_metrics'][:5] == [10.5, 20.25, 30, 40, 100.75]
  last = [1, 2, 3, 4, 10] if name == 'dreamprvr' else None
  assert origin['recorded_metrics'][5] == last


@pytest.mark.parametrize('name', FILES)
def test_sizes_are_the_files_beside_a_config(name, path):
  write_file(path, name, released(name))
  config = planned(path, '--config=configs/tvr.py')
  assert config.model.name == name
  assert config.model.width == 32
  # The command determines the data, the file the model.
  assert config.data.collection == 'tvr'
  if name not in ('ms_sl', 'diffusionret'):
    assert config.model.clip_weight == 0.6
    assert config.loss.margin == 0.2
  feature = {'msc': 'tvr_clip_L14.h5', 'diffusionret': 'tvr_clip_L14.h5'}
  assert config.data.feature == feature.get(name, 'i3d_resnet')


def test_a_config_of_the_same_dataset_changes_nothing(path):
  write_file(path, 'gmmformer', released('gmmformer'))
  alone = planned(path)
  beside = planned(path, '--config=configs/charades.py')
  assert alone.to_dict() == beside.to_dict()
  assert alone.data.feature == 'i3d_rgb_lgi'


def test_a_config_of_another_model_is_refused(path, capsys):
  write_file(path, 'gmmformer', released('gmmformer'))
  assert run_import(path, '--config=configs/charades.py:holmes') == 2
  err = capsys.readouterr().err
  assert 'is a checkpoint of gmmformer, but --config is for holmes' in err


@pytest.mark.parametrize(
  ('arguments', 'sentence'),
  [
    (['--config.model.width=64'], 'config.model.width is 64, but'),
    (['--config.model.num_heads=8'], 'config.model.num_heads is 8, but'),
    (['--config.model.block_widths=(0.0,1.0)'], 'is 2 widths, but'),
    (['--config.data.max_words=31'], 'config.data.max_words is 31, but'),
    (['--config.model.name=holmes'], "config.model.name is holmes, but"),
    (
      ['--config=configs/charades.py', '--config.model.width=384'],
      'config.model.width is 384, but',
    ),
  ],
)  # fmt: skip
def test_sizes_that_contradict_the_file(path, capsys, arguments, sentence):
  write_file(path, 'gmmformer', released('gmmformer'))
  assert run_import(path, *arguments) == 2
  err = capsys.readouterr().err
  assert sentence in err
  assert 'best.ckpt has' in err
  assert not (path.parent / 'ours').exists()


def test_keys_of_the_command_line_count(path):
  write_file(path, 'gmmformer', released('gmmformer'))
  config = planned(
    path, '--config.model.clip_weight=0.25', '--config.model.frame_length=fixed'
  )
  assert config.model.clip_weight == 0.25
  assert config.model.frame_length == 'fixed'


def test_the_dataset_of_ms_sl_is_asked_for(path, capsys):
  write_file(path, 'ms_sl', released('ms_sl'))
  assert run_import(path) == 2
  err = capsys.readouterr().err
  assert 'give --collection=NAME' in err
  assert '--config=configs/NAME.py' in err
  for flag in (
    '--collection=tvr',
    '--config=configs/tvr.py',
    '--config.data.collection=tvr',
  ):
    config = planned(path, flag)
    assert config.data.collection == 'tvr'
    assert config.data.feature == 'i3d_resnet'
    assert config.model.clip_weight == 0.7
    assert config.model.width == 32
  assert planned(path, '--collection=charades').model.clip_weight == 0.5


def test_what_a_file_does_not_say_is_said(path, capsys):
  tensors, members = state_dict(released('holmes'))
  write(path, tensors, members)
  assert run_import(path) == 0
  out = capsys.readouterr().out
  assert 'the file does not say, so these are used:' in out
  assert 'config.data.collection=activitynet' in out
  assert 'config.model.merge_temperature=0.6' in out
  assert 'config.model.num_heads=4' in out


def test_a_file_for_another_dataset_than_the_command(path, capsys):
  write_file(path, 'ms_sl', released('ms_sl'), opt={'collection': 'charades'})
  assert run_import(path, '--collection=tvr') == 0
  assert "for the collection 'charades'; it will be evaluated on 'tvr'" in (
    capsys.readouterr().out
  )


@pytest.mark.parametrize('prefix', ['_orig_mod.', 'module.module.'])
def test_a_bare_state_dict_under_wrappers(path, prefix):
  state = released('ms_sl')
  tensors, members = state_dict({f'{prefix}{k}': v for k, v in state.items()})
  write(path, tensors, members)
  assert run_import(path, '--collection=charades') == 0
  model, variables = dreamprvr_jax.load(path.parent / 'ours')
  assert model.width == 32
  table = variables['params']['frame_input']['position']['table']
  np.testing.assert_array_equal(
    table, state['frame_pos_embed.position_embeddings.weight']
  )


def test_sizes_of_a_config_that_the_tensors_contradict(path, capsys):
  config = {**config_of('holmes'), 'hidden_size': 48}
  write_file(path, 'holmes', released('holmes'), config=config)
  assert run_import(path) == 2
  assert 'hidden_size = 48, but its tensors show 32' in capsys.readouterr().err
