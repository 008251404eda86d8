"""Config keys given with a checkpoint are applied or refused, never ignored."""

import json

import jax
import numpy as np
import pytest

import dreamprvr_jax
import main
from dreamprvr_jax import checkpoints
from dreamprvr_jax.cli import flags
from tests.dreamprvr_jax.interop.official_test import released
from tests.helpers.released_files import write_corpus, write_file


@pytest.fixture(scope='module')
def place(tmp_path_factory):
  """An import of MS-SL and its release."""
  folder = tmp_path_factory.mktemp('overrides')
  write_file(folder / 'model.ckpt', 'ms_sl', released('ms_sl'))
  code = main.main(
    [
      'main.py',
      '--mode=import',
      f'--official={folder}/model.ckpt',
      '--collection=charades',
      f'--workdir={folder}/ours',
    ]
  )
  assert code == 0
  write_corpus(folder / 'data', 'ms_sl')
  return folder


def evaluate(place, *arguments):
  return main.main(
    [
      'main.py',
      '--mode=evaluate',
      f'--checkpoint={place}/ours',
      f'--config.data.root={place}/data',
      '--config.data.workers=1',
      '--config.data.eval_split=val',
      '--config.data.storage=release',
      '--config.data.eval_video_batch=8',
      '--noprogress',
      f'--scores={place}/scores.npz',
      f'--workdir={place}/results',
      *arguments,
    ]
  )


def scores(place, *arguments):
  assert evaluate(place, *arguments) == 0
  with np.load(place / 'scores.npz') as file:
    return file['scores']


CLIP_ONLY = ('--config.model.clip_weight=1.0', '--config.model.frame_weight=0.')


def test_evaluate_applies_what_the_weights_allow(place):
  half = scores(place)
  clip = scores(place, *CLIP_ONLY)
  frame = scores(
    place, '--config.model.clip_weight=0.', '--config.model.frame_weight=1.0'
  )
  np.testing.assert_allclose(half, (clip + frame) / 2, atol=1e-6)
  assert np.abs(clip - frame).max() > 0.01
  # The checkpoint is unchanged.
  stored = checkpoints.read_config(place / 'ours')
  assert stored['config']['model']['clip_weight'] == 0.5


def test_a_config_beside_a_checkpoint_is_not_its_model(place):
  """The config's model is DreamPRVR, with other sizes and weights."""
  np.testing.assert_array_equal(
    scores(place), scores(place, '--config=configs/charades.py')
  )
  chosen = scores(place, '--config=configs/charades.py', *CLIP_ONLY)
  np.testing.assert_array_equal(scores(place, *CLIP_ONLY), chosen)


def test_the_compute_dtype_is_applied(place):
  rough = scores(place, '--config.dtype=bfloat16')
  difference = np.abs(rough - scores(place)).max()
  assert 0 < difference < 0.1


@pytest.mark.parametrize(
  ('arguments', 'sentence'),
  [
    (['--config.model.width=64'], 'config.model.width is 64, not 32'),
    (['--config.model.num_heads=8'], 'config.model.num_heads is 8, not 4'),
    (['--config.data.max_words=20'], 'config.data.max_words is 20, not 30'),
    (
      ['--config.model.width=64', '--config=configs/charades.py'],
      'config.model.width is 64, not 32',
    ),
    (['--config.model.name=holmes'], "name is 'holmes', not 'ms_sl'"),
  ],
)
def test_evaluate_refuses_another_model(place, capsys, arguments, sentence):
  assert evaluate(place, *arguments) == 2
  assert sentence in capsys.readouterr().err


MODES = (
  'rerank-train',
  'rerank-table',
  'inspect',
  'index',
  'search',
  'serve',
)  # fmt: skip


def command(mode, place, *arguments):
  flag = {
    'index': f'--index={place}/index',
    'search': f'--index={place}/index',
    'serve': f'--index={place}/index',
  }.get(mode, f'--workdir={place}/more')
  return ['main.py', f'--mode={mode}', f'--checkpoint={place}/ours', flag,
          *arguments]  # fmt: skip


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize(
  ('key', 'value', 'former'),
  [
    ('model.clip_weight', '0.25', '0.5'),
    ('model.width', '64', '32'),
    ('data.max_frames', '64', '128'),
    ('dtype', 'bfloat16', "'float32'"),
  ],
)
def test_other_modes_refuse(place, capsys, mode, key, value, former):
  assert main.main(command(mode, place, f'--config.{key}={value}')) == 2
  err = capsys.readouterr().err
  assert f'config.{key} is ' in err
  assert f'but {former} in {place}/ours: --mode={mode} takes' in err
  assert f'--config.{key}=VALUE' in err


@pytest.mark.parametrize('mode', MODES)
def test_other_modes_take_what_is_no_change(place, mode):
  values = flags.parse(
    command(
      mode,
      place,
      '--config=configs/quickstart.py',
      '--config.model.width=32',
      '--config.data.root=there',
      '--config.rerank.epochs=2',
    )
  )
  assert values.config.model.name == 'ms_sl'
  assert values.config.model.width == 32
  assert values.config.data.root == 'there'
  assert values.config.data.collection == 'simulated'
  assert values.config.rerank.epochs == 2


def test_export_writes_what_is_changed(place):
  code = main.main(
    [
      'main.py',
      '--mode=export',
      f'--checkpoint={place}/ours',
      f'--out={place}/exported',
      *CLIP_ONLY,
    ]
  )
  assert code == 0
  config = checkpoints.read_config(place / 'exported')['config']
  assert config['model']['clip_weight'] == 1.0
  model, variables = dreamprvr_jax.load(place / 'exported')
  assert model.clip_weight == 1.0
  _, former = dreamprvr_jax.load(place / 'ours')
  jax.tree.map(np.testing.assert_array_equal, variables, former)


def test_export_refuses_another_model(place, capsys):
  arguments = (f'--checkpoint={place}/ours', f'--out={place}/none')
  code = main.main(
    ['main.py', '--mode=export', *arguments, '--config.model.width=64']
  )
  assert code == 2
  assert 'config.model.width is 64, not 32' in capsys.readouterr().err


def test_a_reranker_keeps_its_settings(place, tmp_path, capsys):
  own = {'rerank': {'candidates': 30, 'fuse_weight': 1.0}}
  (tmp_path / 'config.json').write_text(json.dumps({'config': own}))
  rerank = f'--rerank={tmp_path}'
  assert evaluate(place, rerank, '--config.rerank.candidates=20') == 2
  err = capsys.readouterr().err
  assert f'config.rerank.candidates is 20, but 30 in {tmp_path}' in err
  command = [
    'main.py',
    '--mode=evaluate',
    f'--checkpoint={place}/ours',
    rerank,
    '--config.rerank.noise_seeds=1',
    '--config.rerank.candidates=30',
  ]
  assert flags.parse(command).config.rerank.noise_seeds == 1


@pytest.mark.parametrize(
  ('argument', 'sentence'),
  [
    (
      '--config.rerank.candidates=20',
      'but the method released sets it to 128',
    ),
    ('--config.data.feature=other', 'a table of re-rankers reads what each'),
  ],
)
def test_a_table_of_rerankers_refuses(place, capsys, argument, sentence):
  assert main.main(command('rerank-table', place, argument)) == 2
  assert sentence in capsys.readouterr().err
  chosen = flags.parse(
    command(
      'rerank-table',
      place,
      '--methods=diffusion',
      '--config.rerank.candidates=20',
    )
  )
  assert chosen.config.rerank.candidates == 20
