"""From the user's video files to a search, by the command line."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

import main
from dreamprvr_jax import checkpoints
from dreamprvr_jax.archive.index.store import Store
from tests.helpers.commands import call, untrained
from tests.helpers.runs import ROOT
from tests.helpers.videos import CODECS, make_video

pytest.importorskip('av', reason='videos are decoded with PyAV')

CONFIG = f'--config={ROOT}/configs/videos.py:gmmformer'
SMALL = (
  '--config.model.width=16',
  # Files and messages are tested, not numbers.
  '--config.model.dropout=0.0',
  '--config.model.input_dropout=0.0',
  '--config.model.num_heads=2',
  '--config.model.parallel_execution=batched',
  '--config.data.batch_size=8',
  '--config.data.workers=1',
  '--config.train.epochs=1',
  '--config.report.pictures=False',
)


def extract(videos, root, *flags, workers=1):
  where = f'--videos={videos}', f'--out={root}'
  mode = 'main.py', '--mode=extract', f'--workers={workers}', '--noprogress'
  return main.main([*mode, *where, *flags])


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  """A folder of videos, their captions, and an index of all of them."""
  place = tmp_path_factory.mktemp('own')
  videos = place / 'in'
  videos.mkdir()
  rows = []
  for i in range(12):
    ending = list(CODECS)[i % len(CODECS)]
    path = make_video(videos / f'clip {i}{ending}', pictures=10 + 5 * i)
    if i < 10:
      captions = [f'number {i} is seen', f'a red clip {i}']
      rows.append({'file': path.name, 'captions': captions})
  rows.append({'file': 'broken.mp4', 'captions': ['nothing']})
  (videos / 'broken.mp4').write_bytes(b'broken')
  captions = place / 'captions.jsonl'
  captions.write_text('\n'.join(map(json.dumps, rows)))
  root, run = place / 'root', place / 'run'
  assert extract(videos, root, f'--captions={captions}') == 0
  data = f'--config.data.root={root}'
  assert call(CONFIG, data, f'--workdir={run}', *SMALL) == 0
  index = place / 'index'
  flags = (f'--checkpoint={run}', f'--index={index}')
  assert call('--mode=index', *flags, '--all_videos') == 0
  return place


def test_what_is_said(made, capsys):
  root = made / 'copy'
  shutil.copytree(made / 'root', root)
  assert extract(made / 'in', root) == 0
  out = capsys.readouterr().out
  assert '13 files: 0 extracted now, 12 before, 1 skipped' in out
  assert 'broken  cannot be decoded' in out
  assert 'embedded is not a semantic encoder' in out
  assert extract(made / 'in', root, '--fps=4') == 2
  assert 'other settings (fps: 2.0 there, 4.0 now)' in capsys.readouterr().err


def test_the_encoder_is_known(made):
  stored = checkpoints.read_config(made / 'run')
  identity = json.loads((made / 'root/videos/encoder.json').read_text())
  assert stored['encoder'] == identity
  assert stored['visual_width'] == identity['visual_width']


def test_all_videos_are_in_the_index(made):
  store = Store(made / 'index')
  assert set(store.rows_of()) == {f'clip_{i}' for i in range(12)}


def test_videos_without_captions_join_an_index(made, capsys, tmp_path):
  videos, root, index = (tmp_path / name for name in ('in', 'root', 'index'))
  videos.mkdir()
  make_video(videos / 'new.mp4')
  assert extract(videos, root, '--collection=more') == 0
  shutil.copytree(made / 'index', index)
  flags = (
    '--mode=index',
    f'--index={index}',
    '--append',
    '--all_videos',
    f'--config.data.root={root}',
    '--config.data.collection=more',
  )
  identity = root / 'more' / 'encoder.json'
  right = identity.read_text()
  identity.write_text(right.replace('"version": 1', '"version": 0'))
  assert call(*flags) == 2
  assert 'another encoder' in capsys.readouterr().err
  identity.write_text(right)
  assert call(*flags) == 0
  assert '12 videos are in the index, 1 of all' in capsys.readouterr().out
  store = Store(index)
  assert len(store.rows_of()) == 13
  assert 'new' in store.rows_of()


def test_a_sentence(made, capsys, tmp_path):
  flags = ('--mode=search', f'--index={made}/index', '--k=12')
  assert call(*flags, '--query=a red clip 3') == 0
  out = capsys.readouterr().out
  assert 'query: a red clip 3' in out
  assert out.count('clip_') == 12
  page = tmp_path / 'found.json'
  assert call(*flags, '--query=a red clip 3', f'--out={page}') == 0
  one = json.loads(page.read_text())['queries'][0]
  assert one['hits'][0]['duration'] > 0
  # The caption in the split has the same words.
  for name, content in (
    ('q.txt', 'a red clip 3\n\n  number 1  \n'),
    (
      'q.jsonl',
      '{"id": "mine", "text": "a red clip 3"}\n{"text": "number 1"}',
    ),
  ):
    queries = tmp_path / name
    queries.write_text(content)
    assert call(*flags, f'--queries={queries}', f'--out={page}') == 0
    found = json.loads(page.read_text())['queries']
    assert [q['text'] for q in found] == ['a red clip 3', 'number 1']
    for hit, other in zip(found[0]['hits'], one['hits'], strict=True):
      assert hit['video'] == other['video']
      np.testing.assert_allclose(hit['score'], other['score'], atol=1e-6)
  assert found[0]['id'] == 'mine'


def test_a_page_with_pictures(made, tmp_path):
  flags = ('--mode=search', f'--index={made}/index', '--k=12')
  pages = [tmp_path / 'with.html', tmp_path / 'without.html']
  for page, more in zip(pages, ([f'--videos={made}/in'], []), strict=True):
    assert call(*flags, '--query=a red clip 3', f'--out={page}', *more) == 0
  counts = [page.read_text().count('data:image/jpeg') for page in pages]
  assert counts == [12, 0]
  nowhere = [f'--videos={tmp_path}/nowhere', '--query=x', '--out=x.html']
  assert call(*flags, *nowhere) == 2


@pytest.mark.parametrize(
  ('flags', 'sentence'),
  [
    (['--query='], '--query: the query is empty'),
    (['--query= '], '--query: the query is empty'),
    (['--query=x', '--encoder=nothing'], "encoder 'nothing' is unknown"),
    (['--query=x', '--queries=y.txt'], 'give one of them'),
    (['--queries=/nowhere.txt'], 'there is no such file'),
  ],
)
def test_bad_queries(flags, sentence, made, capsys):
  assert call('--mode=search', f'--index={made}/index', *flags) == 2
  assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
  ('content', 'sentence'),
  [
    (b'\n \n', 'has no query'),
    (b'\xff\xfe\xff', 'is UTF-16 text'),
    (b'{"id": 1}', ':1 is no query'),
    (b'{"text": 5}', '5 is not a sentence'),
    (b'{"id": 1, "text": "a"}\n{"id": 1, "text": "b"}', 'comes twice'),
  ],
)
def test_bad_files_of_queries(content, sentence, made, capsys, tmp_path):
  path = tmp_path / 'q.jsonl'
  path.write_bytes(content)
  flags = ('--mode=search', f'--index={made}/index', f'--queries={path}')
  assert call(*flags) == 2
  assert sentence in capsys.readouterr().err


def test_a_checkpoint_of_official_features(capsys, tmp_path):
  checkpoint, _ = untrained(tmp_path, 'gmmformer', (4, 3, 3))
  flags = (f'--checkpoint={checkpoint}', f'--index={tmp_path}/index')
  assert call('--mode=index', *flags, '--all_videos') == 0
  assert len(Store(tmp_path / 'index').rows_of()) == 10
  search = ('--mode=search', f'--index={tmp_path}/index', '--query=x')
  assert call(*search) == 2
  assert 'does not name the text encoder' in capsys.readouterr().err
  assert call(*search, '--encoder=embedded') == 2
  assert 'width 256, but' in capsys.readouterr().err


@pytest.mark.parametrize(
  ('flags', 'sentence'),
  [
    (['--fps=0'], '--fps=0.0 must be above 0'),
    (['--batch=-1'], '--batch=-1; give 0 or more'),
    (['--max_seconds=0'], '--max_seconds=0.0 must be above 0'),
    (['--max_samples=0'], '--max_samples=0; give 1 or more'),
    (['--max_seconds=0.5'], 'none of the 1 files could be read'),
    (['--encoder=clap'], "encoder 'clap' is unknown"),
    (['--videos=/nowhere'], '/nowhere is no folder'),
    (['--captions=/nowhere.jsonl'], '/nowhere.jsonl is missing'),
  ],
)
@pytest.mark.parametrize('workers', [1, 2])
def test_bad_extractions(workers, flags, sentence, capsys, tmp_path):
  (tmp_path / 'in').mkdir()
  make_video(tmp_path / 'in' / 'a.mp4', pictures=10)
  place = tmp_path / 'in', tmp_path / 'out'
  assert extract(*place, *flags, workers=workers) == 2
  captured = capsys.readouterr()
  assert sentence in captured.err
  assert 'Traceback' not in captured.err


@pytest.mark.parametrize('workers', [1, 2])
def test_nothing_but_broken_files(workers, capsys, tmp_path):
  (tmp_path / 'a.mp4').touch()
  assert extract(tmp_path, tmp_path / 'out', workers=workers) == 2
  captured = capsys.readouterr()
  assert 'is empty (0 bytes)' in captured.out
  assert 'none of the 1 files could be read' in captured.err


def test_names_that_are_no_text(tmp_path):
  # The command is a separate process, whose output must be UTF-8.
  videos = tmp_path / os.fsdecode(b'in\xff')
  videos.mkdir()
  make_video(tmp_path / 'a.mp4').rename(videos / os.fsdecode(b'caf\xe9.mp4'))
  (videos / os.fsdecode(b'bad\xe9.mp4')).touch()
  (videos / os.fsdecode(b'to\xe9')).symlink_to('..')
  out = tmp_path / os.fsdecode(b'out\xfe')
  command = [sys.executable, f'{ROOT}/main.py', '--mode=extract', '--workers=1']
  found = subprocess.run(
    [*command, '--noprogress', f'--videos={videos}', f'--out={out}'],
    capture_output=True,
    env={**os.environ, 'PYTHONIOENCODING': 'utf-8:strict'},
    check=False,
  )
  said = found.stdout.decode('utf-8'), found.stderr.decode('utf-8')
  assert found.returncode == 0, said
  assert 'bad%E9  is empty (0 bytes)' in said[0]
  assert f'{tmp_path}/out%FE/videos: 1 videos' in said[0]
  assert 'in%FF/to%E9 is passed over' in said[1]
