"""--mode=import of features, and --mode=inspect of data."""

import json
import shutil
import signal
import time
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest

import main
from data_pipeline import simulated
from data_pipeline.captions import read_captions
from data_pipeline.opening import open_corpus
from data_pipeline.options import DataOptions
from tests.helpers import commands, runs

COUNTS = {'train': 12, 'val': 4, 'test': 5}
VISUAL, TEXT = 12, 10


@pytest.fixture(scope='module')
def release(tmp_path_factory):
  """A generated release, which the import of its parts must reproduce."""
  root = tmp_path_factory.mktemp('release')
  simulated.write_corpus(
    root,
    'made',
    layout='hdf5',
    train_videos=12,
    val_videos=4,
    test_videos=5,
    visual_width=VISUAL,
    text_width=TEXT,
  )
  return root / 'made'


@pytest.fixture
def parts(tmp_path, release):
  """The same data in common forms: files of videos, an .npz, rows."""
  (tmp_path / 'videos').mkdir()
  with h5py.File(release / 'FeatureData/i3d/feature.hdf5') as file:
    for name in file:
      np.save(tmp_path / f'videos/{name}.npy', file[name][()])
  rows, words = [], {}
  spans = {}
  for split in COUNTS:
    spans |= json.loads((release / f'{split}.moments.json').read_text())
  with h5py.File(release / 'TextData/roberta_made_query_feat.hdf5') as file:
    for split in COUNTS:
      path = release / f'TextData/made{split}.caption.txt'
      for caption in read_captions(path)[0]:
        name = f'query{len(rows)}'
        words[name] = file[caption.id][()]
        entry = spans[caption.video]
        rows.append(
          {
            'query': name,
            'text': caption.text,
            'videos': [caption.video],
            'span': entry['timestamps'][caption.number],
            'duration': entry['duration'],
            'split': split,
          }
        )
  np.savez(tmp_path / 'words.npz', **words)
  write_rows(tmp_path, rows)
  return tmp_path


def write_rows(place, rows):
  (place / 'rows.jsonl').write_text('\n'.join(map(json.dumps, rows)))


def read_rows(place):
  return list(map(json.loads, (place / 'rows.jsonl').read_text().splitlines()))


def call(mode, place, *arguments, features='videos'):
  flags = (
    f'--features={place}/{features}',
    f'--queries={place}/words.npz',
    f'--annotations={place}/rows.jsonl',
  )
  return main.main(
    ['main.py', f'--mode={mode}', *flags, '--noprogress', *arguments]
  )


def listing(place):
  return sorted(str(path) for path in place.rglob('*'))


def same_split(one, other):
  assert one.video_ids == other.video_ids
  assert one.captions == other.captions
  np.testing.assert_array_equal(one.moments, other.moments)
  np.testing.assert_array_equal(one.durations, other.durations)
  for name in ('read_videos', 'read_captions'):
    mine, theirs = getattr(one, name)([0, 3]), getattr(other, name)([0, 3])
    for key in mine:
      np.testing.assert_array_equal(mine[key], theirs[key])


def corpus(root, collection, feature):
  return open_corpus(
    DataOptions(str(root), collection, feature=feature, storage='release')
  )


def test_import_gives_back_the_release(parts, release, capsys):
  where = (f'--out={parts}/root', '--collection=mine')
  assert call('import', parts, *where) == 0
  out = capsys.readouterr().out
  assert '--config.data.collection=mine --config.data.feature=imported' in out
  found = corpus(parts / 'root', 'mine', 'imported')
  wanted = corpus(release.parent, 'made', 'i3d')
  for split in COUNTS:
    same_split(found.splits[split], wanted.splits[split])
  assert not (parts / 'root/mine/labels.jsonl').exists()

  before = listing(parts)
  assert call('import', parts, *where) == 0
  assert 'nothing to do' in capsys.readouterr().out
  write_rows(parts, read_rows(parts)[1:])
  assert call('import', parts, *where) == 2
  err = capsys.readouterr().err
  assert 'from other or since changed annotations' in err
  assert 'Traceback' not in err
  assert listing(parts) == before


def test_a_collection_of_something_else_stays(parts, release, capsys):
  shutil.copytree(release, parts / 'root/imported')
  before = listing(parts)
  assert call('import', parts, f'--out={parts}/root') == 2
  assert 'exists and is no import' in capsys.readouterr().err
  assert listing(parts) == before


def test_an_archive_without_captions(parts, capsys):
  code = main.main(
    [
      'main.py',
      '--mode=import',
      f'--features={parts}/videos',
      f'--out={parts}/root',
    ]
  )
  assert code == 0
  assert '--all_videos' in capsys.readouterr().out
  assert [p.name for p in (parts / 'root/imported').rglob('*.*')] == [
    'import.json',
    'feature.hdf5',
  ]


def test_several_right_videos(parts, capsys):
  rows = read_rows(parts)
  rows[0]['videos'].append(rows[8]['videos'][0])
  write_rows(parts, rows)
  assert call('import', parts, f'--out={parts}/root') == 0
  labels = parts / 'root/imported/labels.jsonl'
  assert f'evaluate counts those in {labels}' in capsys.readouterr().out
  first = json.loads(labels.read_text().splitlines()[0])
  assert first['gt_video_ids'] == rows[0]['videos']


def test_import_refuses_what_is_wrong(parts, capsys):
  (parts / 'videos/val_00001.npy').unlink()
  assert call('import', parts, f'--out={parts}/root') == 2
  captured = capsys.readouterr()
  assert "wrong: video 'val_00001': has no features" in captured.out
  assert captured.err.startswith('error: 1 thing is wrong')
  assert not (parts / 'root').exists()


def test_nan_is_found_while_writing(parts, capsys):
  np.save(parts / 'videos/val_00001.npy', np.full((3, VISUAL), np.nan))
  assert call('import', parts, f'--out={parts}/root') == 2
  assert "'val_00001' has NaN or infinity" in capsys.readouterr().err
  assert not listing(parts / 'root')


def test_a_small_file_is_no_large_import(parts, capsys):
  zeros = np.zeros((300 << 10, 256), np.float32)
  with (
    zipfile.ZipFile(parts / 'zeros.npz', 'w', zipfile.ZIP_DEFLATED) as file,
    file.open('val_00001.npy', 'w') as member,
  ):
    np.lib.format.write_array(member, zeros)
  assert (parts / 'zeros.npz').stat().st_size < 1 << 20
  for mode, out in (('import', f'{parts}/root'), ('inspect', '')):
    flags = (f'--features={parts}/zeros.npz', f'--out={out}', '--noprogress')
    assert main.main(['main.py', f'--mode={mode}', *flags]) == 2
    captured = capsys.readouterr()
    assert 'unpacks to 300.0 MiB, more than 64 times' in captured.out
    assert '(--max_inflation)' in captured.err
    assert 'Traceback' not in captured.err
  assert not (parts / 'root').exists()
  assert (
    main.main(['main.py', '--mode=inspect', *flags, '--max_inflation=2000'])
    == 0
  )
  assert (
    main.main(['main.py', '--mode=inspect', *flags, '--max_inflation=0']) == 2
  )
  assert '--max_inflation is 0; give a number' in capsys.readouterr().err


def test_no_bytes_of_other_files_are_imported(parts, capsys):
  with h5py.File(parts / 'other.h5', 'w') as file:
    file['secret'] = np.ones((3, VISUAL), np.float32)
  with h5py.File(parts / 'videos.h5', 'w') as file:
    file['v'] = np.ones((3, VISUAL), np.float32)
    file['link'] = h5py.ExternalLink(parts / 'other.h5', 'secret')
  flags = (f'--features={parts}/videos.h5', f'--out={parts}/root')
  assert main.main(['main.py', '--mode=import', *flags, '--noprogress']) == 2
  assert "'link': is a link to another file" in capsys.readouterr().out
  assert not (parts / 'root').exists()


def test_float64_and_sentences_need_room(parts, capsys, monkeypatch):
  """With vectors of sentences, frames keep their type."""
  paths = sorted((parts / 'videos').iterdir())
  for path in paths:
    np.save(path, np.load(path).astype(np.float64))
  rows = read_rows(parts)
  np.savez(
    parts / 'sentences.npz', **{row['query']: np.ones(VISUAL) for row in rows}
  )
  frames = sum(np.load(path).size for path in paths)
  with np.load(parts / 'words.npz') as file:
    words = sum(array.size for array in file.values())
  usage = shutil.disk_usage(parts)
  room = lambda free: monkeypatch.setattr(
    shutil, 'disk_usage', lambda path: usage._replace(free=free)
  )
  sentences = f'--sentences={parts}/sentences.npz'
  needed = 8 * frames + 4 * (words + VISUAL * len(rows))
  room(needed - 1)
  assert call('import', parts, f'--out={parts}/root', sentences) == 2
  assert 'GiB free' in capsys.readouterr().err
  room(needed)
  assert call('import', parts, f'--out={parts}/root', sentences) == 0
  room(4 * (frames + words))
  assert call('import', parts, f'--out={parts}/other') == 0


@pytest.mark.parametrize('text', ['[' * 10**5, '{"features": 1}', '[]'])
def test_a_record_of_another_kind(parts, capsys, text):
  assert call('import', parts, f'--out={parts}/root') == 0
  (parts / 'root/imported/import.json').write_text(text)
  assert call('import', parts, f'--out={parts}/root') == 2
  assert 'nothing was written' in capsys.readouterr().err


def test_a_full_disk_is_seen_before(parts, capsys, monkeypatch):
  usage = shutil.disk_usage(parts)._replace(free=100)
  monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage)
  assert call('import', parts, f'--out={parts}/root') == 2
  assert 'GiB free' in capsys.readouterr().err
  assert not listing(parts / 'root')


def test_one_array_is_in_memory_at_a_time(tmp_path):
  (tmp_path / 'videos').mkdir()
  size = 4 * 500 * 500
  for i in range(30):
    matrix = np.full((500, 500), i, np.float32)
    np.savez_compressed(tmp_path / f'videos/v{i}.npz', matrix)
  flags = (f'--features={tmp_path}/videos', f'--out={tmp_path}/root')
  tracemalloc.start()
  try:
    code = main.main(['main.py', '--mode=import', *flags, '--noprogress'])
    _, peak = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  assert code == 0
  assert peak < 8 * size


def test_a_killed_import_leaves_nothing(parts, tmp_path):
  slow = (
    'import time; from data_pipeline.importers import features as f; '
    'read = f.Features.read; '
    'f.Features.read = lambda s, n: (time.sleep(0.2), read(s, n))[1]'
  )
  arguments = [
    '--mode=import',
    f'--features={parts}/videos',
    f'--queries={parts}/words.npz',
    f'--annotations={parts}/rows.jsonl',
    f'--out={parts}/root',
  ]
  process = runs.start(arguments, patch=slow)
  partial = parts / 'root/.imported.partial/FeatureData'
  deadline = time.monotonic() + 60
  while not partial.exists() and time.monotonic() < deadline:
    time.sleep(0.02)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  assert partial.exists()
  assert not (parts / 'root/imported').exists()
  assert main.main(['main.py', *arguments, '--noprogress']) == 0
  assert [p.name for p in (parts / 'root').iterdir()] == ['imported']


def test_inspect(parts, capsys):
  assert call('inspect', parts) == 0
  out = capsys.readouterr().out
  assert 'split val' in out
  assert f'width                 {VISUAL}' in out


def test_inspect_names_everything(parts, capsys):
  for path in (parts / 'videos').iterdir():
    if path.name.startswith('train'):
      path.unlink()
  np.save(parts / 'videos/val_00001.npy', np.full((3, VISUAL), np.nan))
  gone = {
    row['videos'][0] for row in read_rows(parts) if row['split'] == 'train'
  }
  with np.load(parts / 'words.npz') as file:
    words = {name: file[name] for name in file.files}
  few = {name: x for i, (name, x) in enumerate(words.items()) if i % 2}
  np.savez(parts / 'words.npz', **few)
  assert call('inspect', parts, f'--out={parts}/all.json') == 2
  captured = capsys.readouterr()
  problems = json.loads((parts / 'all.json').read_text())['problems']
  items = {problem['item'] for problem in problems}
  assert items == {
    "video 'val_00001'",
    *(f'video {name!r}' for name in gone),
    *(f'query {name!r}' for name in words if name not in few),
  }
  assert f'wrong: {len(problems) - 20} more' in captured.out
  assert captured.err.count('\n') == 1
  assert f'error: {len(problems)} things are wrong' in captured.err


def test_inspect_of_an_official_release(tmp_path, release, capsys):
  shutil.copytree(release, tmp_path / 'made')
  where = (
    '--mode=inspect',
    '--config=configs/tvr.py',
    f'--config.data.root={tmp_path}',
    '--config.data.collection=made',
    '--config.data.feature=i3d',
    f'--out={tmp_path}/all.json',
  )
  assert commands.call(*where) == 0
  assert json.loads((tmp_path / 'all.json').read_text())['problems'] == []
  with h5py.File(tmp_path / 'made/FeatureData/i3d/feature.hdf5', 'a') as file:
    del file['train_00002']
    file['val_00001'][0, 0] = np.nan
  words = tmp_path / 'made/TextData/roberta_made_query_feat.hdf5'
  with h5py.File(words, 'a') as file:
    del file['test_00000#enc#0']
  capsys.readouterr()
  assert commands.call(*where) == 2
  captured = capsys.readouterr()
  problems = json.loads((tmp_path / 'all.json').read_text())['problems']
  for problem, name in zip(
    problems, ('train_00002', 'test_00000#enc#0', 'val_00001'), strict=True
  ):
    assert name in problem['item']
    assert name in captured.out
  assert '3 items of' in captured.err
  assert commands.call(*where, '--config.data.skip_bad=true') == 0


@pytest.mark.parametrize(
  ('arguments', 'sentence'),
  [
    (['--mode=import', '--features=x'], 'needs --out='),
    (['--mode=import', '--queries=x', '--out=x'], 'needs --features='),
    (
      ['--mode=import', '--features=x', '--queries=x', '--out=x'],
      '--queries needs --annotations',
    ),
    (
      ['--mode=import', '--features=x', '--annotations=x', '--out=x'],
      '--annotations needs --queries',
    ),
    (
      ['--mode=import', '--features=x', '--out=x', '--collection=a/b'],
      'cannot name a folder',
    ),
    (
      ['--mode=import', '--features=x', '--out=x', '--collection=.a'],
      'begins with a dot',
    ),
    (['--mode=import', '--features=none', '--out=x'], 'none is missing'),
    (['--mode=inspect', '--features=none'], 'none is missing'),
    (['--mode=inspect', '--annotations=none'], 'none is missing'),
    (['--mode=inspect', '--features=x', '--out=x.txt'], 'a .json file'),
    (['--mode=import', '--workdir=x'], 'needs --official='),
  ],
)
def test_bad_command_lines(arguments, sentence, capsys):
  assert main.main(['main.py', *arguments]) == 2
  assert sentence in capsys.readouterr().err


@pytest.mark.slow
def test_an_import_trains(parts, tmp_path):
  assert call('import', parts, f'--out={parts}/root') == 0
  code, out, err = runs.call(
    [
      *runs.SMALL,
      '--config.simulated.enabled=False',
      f'--config.data.root={parts}/root',
      '--config.data.collection=imported',
      '--config.data.feature=imported',
      f'--workdir={tmp_path}/run',
    ]
  )
  assert code == 0, err
  assert 'SumR' in out


def test_vectors_of_sentences_beside_words(parts, capsys):
  """Words are narrower than frames, sentence vectors are not."""
  rng = np.random.default_rng(0)
  rows = read_rows(parts)
  vectors = {row['query']: rng.normal(size=VISUAL) for row in rows}
  np.savez(parts / 'sentences.npz', **vectors)
  flag = f'--sentences={parts}/sentences.npz'
  assert call('inspect', parts, flag) == 0
  assert call('import', parts, flag, f'--out={parts}/root') == 0
  found = open_corpus(
    DataOptions(
      str(parts / 'root'),
      'imported',
      feature='imported',
      storage='release',
      retriever='best_frame',
      num_clips=1,
      max_words=1,
    )
  ).splits['val']
  sentences = {row['text']: row['query'] for row in rows}
  words = found.read_captions(range(len(found.captions)))['word_features']
  for sentence, word in zip(found.captions, words, strict=True):
    vector = vectors[sentences[sentence]]
    np.testing.assert_allclose(
      word[0], vector / np.linalg.norm(vector), atol=1e-6
    )


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda found: found.popitem(), 'has no vector'),
    (lambda found: found.update(query0=np.ones((2, VISUAL))), 'single vector'),
    (
      lambda found: found.update({name: np.ones(3) for name in found}),
      'need a common space',
    ),
  ],
)
def test_bad_vectors_of_sentences(parts, capsys, change, message):
  found = {row['query']: np.ones(VISUAL) for row in read_rows(parts)}
  change(found)
  np.savez(parts / 'sentences.npz', **found)
  assert call('inspect', parts, f'--sentences={parts}/sentences.npz') == 2
  out, err = capsys.readouterr()
  assert message in out + err
