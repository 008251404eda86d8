"""Users' text through the command line: byte order marks, normal forms,
surrogates and the home folder."""

import json

import h5py
import numpy as np
import pytest

import main
from data_pipeline.captions import read_captions
from data_pipeline.opening import open_corpus
from data_pipeline.options import DataOptions
from tests.helpers.videos import make_video

COMPOSED, DECOMPOSED = 'caf\u00e9', 'cafe\u0301'


def call(mode, *flags):
  return main.main(['main.py', f'--mode={mode}', '--noprogress', *flags])


def sources(folder, rows, videos=(DECOMPOSED, 'b')):
  """Writes features and annotations; returns their flags."""
  random = np.random.default_rng(0)
  make = lambda *shape: random.standard_normal(shape).astype(np.float32)
  np.savez(folder / 'videos.npz', **{v: make(4, 3) for v in videos})
  np.savez(folder / 'words.npz', **{r['query']: make(2, 3) for r in rows})
  text = '\n'.join(map(json.dumps, rows))
  (folder / 'rows.jsonl').write_text(text, encoding='utf-8')
  return (
    f'--features={folder}/videos.npz',
    f'--queries={folder}/words.npz',
    f'--annotations={folder}/rows.jsonl',
  )


def row(query, text='a dog', video='b', split='train'):
  return {'query': query, 'text': text, 'video': video, 'split': split}


def test_import_joins_normal_forms(tmp_path, capsys):
  rows = [row(DECOMPOSED, video=COMPOSED), row('q', 'a\u2028cat\u0085here')]
  flags = sources(tmp_path, rows)
  # Annotations and features of queries also have different normal forms.
  path = tmp_path / 'rows.jsonl'
  content = '\n'.join(json.dumps(r, ensure_ascii=False) for r in rows)
  path.write_bytes(
    f'\ufeff{content.replace(DECOMPOSED, COMPOSED)}\r\n'.encode()
  )
  assert call('import', *flags, f'--out={tmp_path}/root') == 0
  folder = tmp_path / 'root/imported'
  captions, _ = read_captions(folder / 'TextData/importedtrain.caption.txt')
  assert [(c.id, c.text) for c in captions] == [
    (f'{COMPOSED}#enc#0', 'a dog'),
    ('b#enc#0', 'a cat here'),
  ]
  with h5py.File(folder / 'FeatureData/imported/feature.hdf5') as file:
    assert set(file) == {COMPOSED, 'b'}
  options = DataOptions(
    str(tmp_path / 'root'), 'imported', feature='imported', storage='release'
  )
  split = open_corpus(options).splits['train']
  assert split.video_ids == [COMPOSED, 'b']


@pytest.mark.parametrize('mode', ['import', 'inspect'])
@pytest.mark.parametrize(
  ('bad', 'sentence'),
  [
    (row('q', 'happy \ud83d'), 'half of a character'),
    (row('q', '\u200b\u3164'), 'no text'),
    (row('q', video='b\0'), 'a control character'),
  ],
)
def test_bad_texts_are_named(mode, bad, sentence, tmp_path, capsys):
  flags = sources(tmp_path, [row('good'), bad])
  out = [f'--out={tmp_path}/root'] if mode == 'import' else []
  assert call(mode, *flags, *out) == 2
  captured = capsys.readouterr()
  assert 'rows.jsonl:2: ' in captured.err
  assert sentence in captured.err
  assert 'Traceback' not in captured.err
  assert not (tmp_path / 'root/imported').exists()


def test_a_file_whose_name_is_no_text(tmp_path, capsys):
  flags = sources(tmp_path, [row('q')])
  (tmp_path / 'videos').mkdir()
  for name in ('b', 'caf\udce9'):
    np.save(tmp_path / f'videos/{name}.npy', np.ones((4, 3), np.float32))
  others = flags[1:]
  out = f'--out={tmp_path}/root'
  assert call('import', f'--features={tmp_path}/videos', *others, out) == 2
  assert r"'caf\udce9' has bytes that are not text" in capsys.readouterr().err


def test_two_forms_of_an_id(tmp_path, capsys):
  flags = sources(tmp_path, [row('q')], ('b', COMPOSED, DECOMPOSED))
  assert call('inspect', *flags) == 2
  err = capsys.readouterr().err
  assert 'videos.npz holds both' in err
  assert r"'caf\xe9'" in err
  assert r"'cafe\u0301'" in err


def test_a_report_may_hold_what_is_no_text(tmp_path, capsysbinary):
  flags = sources(tmp_path, [row('q'), {'query': 'x', 'x\ud83d': 1}])
  assert call('inspect', *flags, f'--out={tmp_path}/all.json') == 2
  assert rb'x\ud83d' in capsysbinary.readouterr().out
  (problem,) = json.loads((tmp_path / 'all.json').read_text())['problems'][:1]
  assert problem['item'].endswith('rows.jsonl:2')


def test_the_home_folder(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'home').mkdir()
  sources(tmp_path / 'home', [row('q')])
  flags = (
    '--features=~/videos.npz',
    '--queries=~/words.npz',
    '--annotations=~/rows.jsonl',
  )
  assert call('import', *flags, '--out=~/root', '--collection=c') == 0
  assert (tmp_path / 'home/root/c/import.json').exists()
  assert [path.name for path in tmp_path.iterdir()] == ['home']


CAPTIONS = [
  {'file': f'{COMPOSED}.mp4', 'captions': ['a red one', None]},
  {'file': 'b.mp4', 'captions': ['a blue one'], 'duration': None},
]


def extract(folder, rows):
  (folder / 'captions.jsonl').write_text('\n'.join(map(json.dumps, rows)))
  return call(
    'extract',
    f'--videos={folder}/in',
    f'--captions={folder}/captions.jsonl',
    f'--out={folder}/root',
    '--workers=1',
  )


@pytest.fixture
def videos(tmp_path):
  pytest.importorskip('av', reason='videos are decoded with PyAV')
  (tmp_path / 'in').mkdir()
  make_video(tmp_path / f'in/{DECOMPOSED}.mp4', pictures=6)
  make_video(tmp_path / 'in/b.mp4', pictures=6)
  return tmp_path


def test_extraction_joins_normal_forms(videos, capsys):
  assert extract(videos, CAPTIONS) == 0
  assert 'left out' not in capsys.readouterr().out
  folder = videos / 'root/videos'
  durations = json.loads((folder / 'durations.json').read_text())
  assert set(durations) == {COMPOSED, 'b'}
  lines = ''.join(
    path.read_text() for path in folder.glob('TextData/*.caption.txt')
  )
  assert f'{COMPOSED}#enc#0 a red one\n' in lines
  assert 'b#enc#0 a blue one\n' in lines
  # An older collection, whose ids are not composed, can be continued.
  _decompose(folder)
  make_video(videos / 'in/c.mp4', pictures=6)
  assert extract(videos, CAPTIONS) == 0
  assert '1 extracted now, 2 before' in capsys.readouterr().out
  with h5py.File(folder / 'FeatureData/extracted/feature.hdf5') as file:
    assert set(file) == {COMPOSED, 'b', 'c'}


def _decompose(folder):
  path = folder / '.extracting/videos.json'
  rows = json.loads(path.read_text())
  rows[DECOMPOSED] = rows.pop(COMPOSED)
  path.write_text(json.dumps(rows))
  with h5py.File(folder / 'FeatureData/extracted/feature.hdf5', 'a') as file:
    file.move(COMPOSED, DECOMPOSED)


@pytest.mark.parametrize(
  ('caption', 'sentence'),
  [('red \ud83d', 'half of a character'), ('\u200b', 'no text')],
)
def test_bad_captions_of_an_extraction(videos, capsys, caption, sentence):
  rows = [{'file': 'b.mp4', 'captions': [caption]}]
  assert extract(videos, rows) == 2
  err = capsys.readouterr().err
  assert 'captions.jsonl:1 ' in err
  assert sentence in err
  assert 'Traceback' not in err
