"""Indexing and searching from the command line."""

import json
import shutil

import h5py
import numpy as np
import pytest

import main
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.search.index import Index
from dreamprvr_jax.cli import searching
from tests.helpers.commands import answer, call, untrained
from tests.helpers.databases import needs_edge


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  place, corpus = untrained(
    tmp_path_factory.mktemp('retriever'),
    'gmmformer',
    (10, 6, 14),
  )
  return place, corpus.splits['test']


@pytest.fixture(scope='module')
def index(trained):
  place = trained[0].parent / 'index'
  code = call(
    '--mode=index',
    f'--checkpoint={trained[0]}',
    f'--index={place}',
    '--tokens=float16+int8',
  )
  assert code == 0
  return place


def read(path):
  return json.loads(path.read_text())


def test_search_of_a_split_equals_the_evaluation(
  trained, index, capsys, monkeypatch, tmp_path
):
  monkeypatch.setattr(searching, '_BATCH', 16)
  checkpoint, split = trained
  assert len(split.caption_ids) > 32
  code = call(
    '--mode=search',
    f'--index={index}',
    f'--out={tmp_path}/found.json',
    '--k=14',
    '--first_pass=int8',
    '--rescore=2',
  )
  assert code == 0
  assert 'recall@14 1.0000 of the exact search' in capsys.readouterr().out
  found = read(tmp_path / 'found.json')
  assert found['recall']['value'] == 1
  code = call(
    '--mode=evaluate',
    f'--checkpoint={checkpoint}',
    f'--scores={tmp_path}/scores.npz',
    f'--workdir={tmp_path}',
    '--moments',
  )
  assert code == 0
  with np.load(tmp_path / 'scores.npz') as file:
    scores, videos = file['scores'], list(file['videos'])
  assert [q['id'] for q in found['queries']] == split.caption_ids
  for query, row in zip(found['queries'], scores, strict=True):
    assert query['text'] in split.captions
    assert len(query['hits']) == 14
    for hit in query['hits']:
      own = row[videos.index(hit['video'])]
      # float16 tokens
      assert hit['score'] == pytest.approx(own, abs=2e-3)
      assert hit['duration'] > 0
      assert hit['moments'][0]['start'] < hit['moments'][0]['end']


def test_moments_of_an_evaluation(trained, capsys, tmp_path):
  checkpoint, split = trained
  code = call(
    '--mode=evaluate',
    f'--checkpoint={checkpoint}',
    f'--workdir={tmp_path}',
    '--moments',
  )
  assert code == 0
  assert 'moment, IoU 0.5' in capsys.readouterr().out
  metrics = read(tmp_path / 'eval_test.json')
  found = metrics['moments']
  known = np.isfinite(split.moments).all(axis=1)
  assert found['queries'] == known.sum() > 0
  if known.all():
    assert found['video']['R@1'] == pytest.approx(metrics['R@1'])
  # All 14 videos are within 100, and so are all of their moments.
  assert found['video']['R@100'] == 100
  assert 0 < found['IoU 0.3']['R@100'] <= 100
  for k in ('R@1', 'R@10', 'R@100'):
    values = [found[f'IoU {overlap}'][k] for overlap in (0.3, 0.5, 0.7)]
    assert values == sorted(values, reverse=True)
  assert found['IoU 0.3']['R@1'] <= found['video']['R@1']


def test_moments_need_spans(trained, capsys, monkeypatch, tmp_path):
  from data_pipeline import moments

  join = moments.Moments.join
  blind = lambda self, captions, videos: tuple(
    x * np.nan for x in join(self, captions, videos)
  )
  monkeypatch.setattr(moments.Moments, 'join', blind)
  code = call(
    '--mode=evaluate',
    f'--checkpoint={trained[0]}',
    f'--workdir={tmp_path}',
    '--moments',
    '--config.data.storage=release',
  )
  assert code == 2
  assert 'no caption of the split' in capsys.readouterr().err


def test_one_caption_as_a_table_and_a_page(trained, index, capsys, tmp_path):
  split = trained[1]
  flags = ('--mode=search', f'--index={index}', '--caption=5', '--k=3')
  assert call(*flags) == 0
  out = capsys.readouterr().out
  assert f'{split.caption_ids[5]}: {split.captions[5]}' in out
  assert out.count(' s') >= 3
  assert call(*flags, f'--out={tmp_path}/page.html') == 0
  page = (tmp_path / 'page.html').read_text()
  assert page.count('<svg') == 3
  assert split.captions[5] in page


@pytest.mark.parametrize('ending', ['npz', 'hdf5'])
def test_queries_of_a_file(ending, trained, index, tmp_path):
  split = trained[1]
  read_words = split.read_captions([2, 7])
  features = {
    name: words[mask]
    for name, words, mask in zip(
      ('second', '<b>&'), *read_words.values(), strict=True
    )
  }
  path = tmp_path / f'queries.{ending}'
  if ending == 'npz':
    np.savez(path, **features)
  else:
    with h5py.File(path, 'w') as file:
      for name, x in features.items():
        file[name] = x
  code = call(
    '--mode=search',
    f'--index={index}',
    f'--queries={path}',
    f'--out={tmp_path}/found.json',
  )
  assert code == 0
  found = read(tmp_path / 'found.json')
  hits = {q['id']: q['hits'] for q in found['queries']}
  assert set(hits) == set(features)
  api = Index.open(index)
  for name, words in features.items():
    (expected,) = api.search(words)
    assert [h['video'] for h in hits[name]] == [h.video_id for h in expected]
    for one, other in zip(hits[name], expected, strict=True):
      assert one['score'] == pytest.approx(other.score, abs=1e-6)
      assert one['moments'][0]['start'] == other.moments[0].start


def test_append_and_remove(trained, capsys):
  checkpoint, split = trained
  place = checkpoint.parent / 'growing'
  flags = ('--mode=index', f'--index={place}')
  of_val = '--config.data.eval_split=val'
  assert call(*flags, f'--checkpoint={checkpoint}', of_val) == 0
  assert call(*flags, '--append') == 0
  assert 'videos are in the index, 14 of the split test are not' in (
    capsys.readouterr().out
  )
  assert len(Store(place).rows_of()) == 6 + 14
  assert call(*flags, '--append') == 0
  assert '0 of the split test' in capsys.readouterr().out
  names = place.parent / 'names.txt'
  # Some editors write files like this.
  names.write_text('\ufeff' + '\r\n'.join(split.video_ids[:2]) + '\r\n')
  assert call(*flags, f'--remove=@{names}') == 0
  assert call(*flags, f'--remove={split.video_ids[5]}') == 0
  assert set(split.video_ids) - set(Store(place).rows_of()) == {
    split.video_ids[row] for row in (0, 1, 5)
  }
  assert call(*flags, '--remove=nobody') == 2
  assert "no video 'nobody'" in capsys.readouterr().err


def test_bad_queries(index, capsys, tmp_path):
  def refused(content, sentence, name='queries.npz'):
    path = tmp_path / name
    if isinstance(content, bytes):
      path.write_bytes(content)
    elif content is not None:
      np.savez(path, **content)
    flags = ('--mode=search', f'--index={index}', f'--queries={path}')
    assert call(*flags) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert 'Traceback' not in err

  refused(None, 'there is no such file')
  refused(b'no archive', 'cannot be read as .npz')
  refused({}, 'has no query')
  refused({'a': np.ones((2, 3))}, "'a' has the shape (2, 3) where (words, 64)")
  refused({'a': np.ones(64)}, 'has the shape (64,)')
  refused({'a': np.ones((0, 64))}, 'has the shape (0, 64)')
  refused({'a': np.full((1, 64), np.inf)}, 'not finite')
  refused({'a': np.full((1, 64), 'x')}, 'holds <U1')
  refused({'a': np.full((1, 64), {})}, 'holds object')
  refused({'a': np.ones((2, 64)), 'b': np.ones((1, 3))}, "'b' has the shape")
  refused(b'', "ends in '.xml'", 'queries.xml')
  refused(b'no file', 'cannot be read as HDF5', 'queries.h5')


@pytest.mark.parametrize(
  ('flags', 'sentence'),
  [
    (['--caption=1000'], 'has captions 0 to'),
    (['--caption=0', '--k=0'], 'k is 0'),
    (['--caption=0', '--first_pass=int4'], "no first pass 'int4'"),
    (['--caption=0', '--out=found.txt'], 'written as .json or .html'),
    (['--checkpoint=/nowhere'], '/nowhere'),
  ],
)
def test_bad_searches(flags, sentence, index, capsys):
  assert call('--mode=search', f'--index={index}', *flags) == 2
  assert sentence in capsys.readouterr().err


def test_bad_indices(trained, index, capsys, tmp_path):
  assert main.main(['main.py', '--mode=search']) == 2
  assert 'needs --index' in capsys.readouterr().err
  checkpoint = f'--checkpoint={trained[0]}'
  for flags, sentence in (
    (['--mode=search', f'--index={tmp_path}'], 'is no index'),
    (['--mode=index', f'--index={tmp_path}'], 'is no index'),
    (['--mode=index', f'--index={index}'], 'is an index of features'),
    (
      ['--mode=index', checkpoint, f'--index={tmp_path}', '--tokens=bits'],
      'tokens=bits is unknown',
    ),
    (
      ['--mode=index', checkpoint, f'--index={trained[0]}'],
      'holds other files',
    ),
  ):
    assert call(*flags) == 2
    assert sentence in capsys.readouterr().err


def test_a_first_pass_in_codes(trained, capsys, tmp_path):
  place = tmp_path / 'index'
  flags = ('--mode=index', f'--checkpoint={trained[0]}', f'--index={place}')
  assert call(*flags, '--tokens=float16+pq') == 2
  assert 'choose one of float16, int8, float16+int8' in capsys.readouterr().err
  assert call(*flags, '--tokens=float16+int8') == 0
  code = call(
    '--mode=search',
    f'--index={place}',
    f'--out={tmp_path}/found.json',
    '--first_pass=int8',
    '--k=3',
  )
  assert code == 0
  assert 'first pass in int8: recall@3' in capsys.readouterr().out
  found = read(tmp_path / 'found.json')
  assert found['first_pass'] == 'int8'
  assert found['recall']['value'] > 0.9


@needs_edge
def test_a_database(index, capsys, tmp_path):
  place = tmp_path / 'database'
  exported = ('--mode=export', f'--index={index}', f'--database={place}')
  assert call(*exported) == 0
  capsys.readouterr()
  flags = ('--mode=search', f'--index={index}', f'--database={place}')
  assert call(*flags, f'--out={tmp_path}/found.json', '--k=3') == 0
  assert 'recall@3 1.0000 of the exact search' in capsys.readouterr().out
  assert read(tmp_path / 'found.json')['first_pass'] == str(place)
  assert call(*flags, '--first_pass=int8', '--caption=0') == 2
  assert 'two first passes' in capsys.readouterr().err
  assert call(*flags[:2], f'--database={tmp_path}/none', '--caption=0') == 2
  assert 'has no database' in capsys.readouterr().err


def test_lists(trained, capsys, tmp_path):
  place = tmp_path / 'index'
  new = ('--mode=index', f'--checkpoint={trained[0]}', f'--index={place}')
  assert call(*new, '--recall=0.9') == 0
  assert 'lists: a search looks into 1 and scores' in capsys.readouterr().out
  search = ('--mode=search', f'--index={place}', '--k=3')
  for how in ('lists', 'none'):
    out = tmp_path / f'{how}.json'
    assert call(*search, f'--out={out}', f'--first_pass={how}') == 0
  lists, exact = read(tmp_path / 'lists.json'), read(tmp_path / 'none.json')
  assert (lists['first_pass'], exact['first_pass']) == ('lists', None)
  assert lists['recall']['value'] >= 0.9
  for one, other in zip(lists['queries'], exact['queries'], strict=True):
    assert [h['video'] for h in one['hits']] == [
      h['video'] for h in other['hits']
    ]
  # They are made for an index that there is, too, and `inspect` reads them.
  capsys.readouterr()
  assert call('--mode=index', f'--index={place}', '--recall=0.5') == 0
  assert 'recall@10' in capsys.readouterr().out
  verify = ('inspect', f'--index={place}', '--verify')
  assert answer(*verify)[0] == 0
  file = place / 'lists' / Store(place).manifest.lists.name / 'names.json'
  raw = file.read_bytes()
  file.write_bytes(raw[:4] + bytes([raw[4] ^ 1]) + raw[5:])
  code, told, _ = answer(*verify)
  assert code == 2
  assert 'names.json has the checksum' in told
  assert call(*new, '--recall=2') == 2
  assert '--recall=2.0 is no share' in capsys.readouterr().err


def test_compaction(trained, index, capsys):
  place = trained[0].parent / 'shrinking'
  shutil.copytree(index, place)
  gone = trained[1].video_ids[:3]
  flags = ('--mode=index', f'--index={place}')
  assert call(*flags, f'--remove={",".join(gone)}', '--compact') == 0
  assert '11 videos in 1 segment,' in capsys.readouterr().out
  assert len(Store(place)) == 11
  assert Index.open(place).search(np.ones((1, 64)), k=1)[0]
  assert call(*flags, '--compact') == 0
