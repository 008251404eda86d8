"""Prepare, inspect, labels, help, and bad command lines."""

import json
import pathlib
import shutil

import pytest

from data_pipeline import simulated
from data_pipeline.opening import open_corpus
from data_pipeline.options import DataOptions
from tests.helpers import runs
from tests.helpers.commands import answer
from tests.helpers.released import VISUAL, evaluate, write_place


@pytest.fixture(scope='module')
def place(tmp_path_factory):
  """A release in both layouts, a released checkpoint, and its import."""
  return write_place(tmp_path_factory.mktemp('commands'))


def test_features_of_another_width_are_refused(tmp_path, place):
  simulated.write_corpus(
    tmp_path, 'activitynet', train_videos=2, val_videos=2, test_videos=2
  )
  code, _, err = answer(
    '--mode=evaluate',
    f'--checkpoint={place}/imported',
    f'--config.data.root={tmp_path}',
  )
  assert code == 2
  assert f'frame features of width {VISUAL}' in err


def test_training_videos_without_captions_are_refused(tmp_path):
  simulated.write_corpus(
    tmp_path / 'data', 'simulated', train_videos=4, val_videos=2, test_videos=2
  )
  texts = tmp_path / 'data/simulated/TextData'
  names = {
    split: dict.fromkeys(
      line.split('#')[0]
      for line in (texts / f'simulated{split}.caption.txt')
      .read_text()
      .splitlines()
    )
    for split in ('train', 'val')
  }
  (texts / 'simulatedtrain.videos.txt').write_text(
    '\n'.join([*names['train'], *names['val']])
  )
  code, out, err = answer(
    'train',
    *runs.SMALL,
    '--config.data.feature=i3d',
    '--config.simulated.enabled=False',
    f'--config.data.root={tmp_path}/data',
    f'--workdir={tmp_path}/run',
  )
  assert code == 2
  assert (
    'training videos without captions: 2 of 6, the first is '
    f'{next(iter(names["val"]))!r}; take them out of simulatedtrain.videos.txt'
  ) in err
  assert 'Traceback' not in out + err


def test_prepare_then_inspect(tmp_path, place):
  shutil.copytree(place / 'bigfile' / 'activitynet', tmp_path / 'activitynet')
  where = (
    '--config=configs/activitynet.py',
    f'--config.data.root={tmp_path}',
    '--config.data.workers=1',
  )
  code, out, err = answer('--mode=prepare', *where)
  assert code == 0, err
  code, again, err = answer('--mode=inspect', *where)
  assert code == 0, err
  for text in (out, again):
    assert 'records' in text
    assert 'captions_per_video' in text


def test_inspect_a_checkpoint(place):
  code, out, err = answer('--mode=inspect', f'--checkpoint={place}/imported')
  assert code == 0, err
  assert 'parameters' in out
  assert 'best.ckpt' in out


@pytest.mark.parametrize(
  ('arguments', 'sentence'),
  [
    (['--mode=dance'], 'the commands are train, evaluate, prepare'),
    (
      ['--config=configs/none.py'],
      'the configs are activitynet, charades, quickstart, qvhighlights, ',
    ),
    (['--config=configs/tvr.py:other'], "the models are ['best_frame', "),
    (
      ['--config=configs/tvr.py', '--config.modle.width=3'],
      'no key config.modle.width (did you mean config.model.width?)',
    ),
    (['--config=configs/tvr.py', '--config.model.width=wide'], "'wide'"),
    (['--colour=red'], 'unknown flag --colour'),
    (['stray'], "'stray' is not a command"),
    (['--mode=evaluate'], 'needs --checkpoint='),
    (['--mode=evaluate', '--checkpoint=/none'], 'holds no config.json'),
    (['--mode=import', '--official=main.py', '--workdir=x'], 'not a zip'),
    (['--mode=export', '--checkpoint=x'], 'holds no config.json'),
    (['--mode=inspect'], 'or --index=DIR'),
    (
      ['--config=configs/tvr.py', '--config.data.root=/none'],
      'tvrtrain.caption.txt',
    ),
    (
      ['--config=configs/tvr.py', '--config.num_devices=64'],
      'asks for 64 devices, but JAX sees 8',
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
def test_bad_command_lines(tmp_path, arguments, sentence):
  if '--config=configs/quickstart.py' in arguments:
    arguments = [
      *arguments,
      *runs.SMALL[2:],
      f'--config.data.root={tmp_path}/data',
      f'--workdir={tmp_path}/run',
    ]
  code, _, err = answer(*arguments)
  assert code == 2
  assert sentence in err
  assert 'Traceback' not in err


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
  arguments = (
    '--config.data.eval_split=val',
    '--config.model.parallel_execution=batched',
    f'--labels={labels}',
  )
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
