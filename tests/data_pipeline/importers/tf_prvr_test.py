"""TF-PRVR's files: imported, evaluated, refused."""

import json

import h5py
import numpy as np
import pytest

import main
from dreamprvr_jax.training_free.moments import moments
from tests.helpers import commands, runs
from tests.helpers.golden import load

CONFIG = f'{runs.ROOT}/configs/videos.py:tf_prvr'


def write(place, videos, queries, rows, backbones=('', '')):
  """Writes the three files of TF-PRVR's program."""
  place.mkdir(exist_ok=True)
  for name, arrays, backbone in zip(
    ('videos', 'queries'), (videos, queries), backbones, strict=True
  ):
    with h5py.File(place / f'{name}.h5', 'w') as file:
      if backbone:
        file.attrs['backbone'] = backbone
      for key, value in arrays.items():
        file[key] = value
  lines = [json.dumps(row) for row in rows]
  (place / 'annotations.jsonl').write_text('\n\n'.join(lines) + '\n')


def call(place, mode='import', features='videos.h5'):
  return main.main(
    [
      'main.py',
      f'--mode={mode}',
      f'--features={place}/{features}',
      f'--queries={place}/queries.h5',
      f'--annotations={place}/annotations.jsonl',
      *([f'--out={place}/root'] if mode == 'import' else []),
      '--noprogress',
    ]
  )


def evaluate(place, *others):
  """Returns the share of queries with a right video among the first K."""
  workdir = place / 'metrics'
  code = commands.call(
    '--mode=evaluate',
    f'--config={CONFIG}',
    f'--config.data.root={place}/root',
    '--config.data.collection=imported',
    '--config.data.feature=imported',
    '--config.data.workers=1',
    f'--workdir={workdir}',
    *others,
  )
  assert code == 0
  found = json.loads((workdir / 'eval_test.json').read_text())
  return found['labels']['released']['hit'] if 'labels' in found else found


def expected(videos, queries, rows, wavelet='db4', beta=0.7):
  """Returns the same metrics, computed plainly."""
  ids = sorted(videos)
  tokens = [moments(videos[name], wavelet, beta)[0] for name in ids]
  found = {}
  for row in rows:
    query = queries[row['query_id']].astype(np.float64)
    query = (query / np.linalg.norm(query)).astype(np.float32)
    scores = np.array([(t @ query).max() for t in tokens])
    order = [ids[i] for i in np.argsort(-scores, kind='stable')]
    best = min(map(order.index, row['video_ids']))
    for k in (1, 5, 10, 100):
      found.setdefault(f'R@{k}', []).append(best < k)
  found = {name: 100 * float(np.mean(hits)) for name, hits in found.items()}
  return {**found, 'SumR': sum(found.values())}


@pytest.fixture(scope='module')
def golden():
  return load('tf_prvr')


@pytest.fixture
def made(golden):
  videos = {
    f'{part.lower()}{i:02}': golden[f'{part}/videos/{i}']
    for part in 'AB'
    for i in range(6)
  }
  queries = {f'q{i:03}': golden['queries'][i] for i in range(10)}
  rows = [
    json.loads(line)
    for line in str(golden['cli/annotations_jsonl']).splitlines()
  ]
  return videos, queries, rows


def test_metrics_of_the_goldens(tmp_path, golden, made):
  write(tmp_path, *made, backbones=('made', 'made'))
  assert call(tmp_path) == 0
  for beta in ('0.7', '0.5'):
    found = evaluate(tmp_path, f'--config.model.beta={beta}')
    wanted = golden[f'cli/db4-{beta}/metrics']
    names = ('R@1', 'R@5', 'R@10', 'R@100', 'SumR')
    np.testing.assert_allclose([found[name] for name in names], wanted)


def test_other_corpora(tmp_path):
  """Types, lengths from one frame on, several right videos, videos that no
  query names, and a query with nearly every video."""
  rng = np.random.default_rng(5)
  lengths = [1, 2, 15, 16, 17, 40, 64, 3, 90, 33, 21, 5, 130, 28]
  names = ['vidéo', 'Z', 'a', '0', *(f'v{i}' for i in range(10))]
  videos = {
    name: (
      np.repeat(rng.normal(size=(-(-n // 8), 12)), 8, axis=0)[:n]
      + 0.4 * rng.normal(size=(n, 12))
    ).astype(rng.choice(['f2', 'f4', 'f8']))
    for name, n in zip(names, lengths, strict=True)
  }
  queries, rows = {}, []
  for i in range(40):
    target = names[i % 11]
    frames = videos[target].astype(np.float64)
    frame = frames[rng.integers(len(frames))]
    query = frame + 1.2 * rng.normal(size=12)
    queries[f'query {i}'] = (7 * query).astype(rng.choice(['f4', 'f8']))
    others = rng.permutation(names[:12])[: rng.integers(0, 3)]
    rows.append(
      {
        'query_id': f'query {i}',
        'video_ids': list(dict.fromkeys([target, *others])),
        'more': 1,
      }
    )
  write(tmp_path, videos, queries, rows)
  assert call(tmp_path) == 0
  for wavelet, beta in (('db4', 0.7), ('haar', 0.2)):
    found = evaluate(
      tmp_path,
      f'--config.model.wavelet={wavelet}',
      f'--config.model.beta={beta}',
    )
    wanted = expected(videos, queries, rows, wavelet, beta)
    assert wanted['R@1'] not in (0, 100)
    assert found == pytest.approx(wanted)


def write_index(path, videos, **attributes):
  with h5py.File(path, 'w') as file:
    file.attrs.update(
      {
        'format': 'tf-prvr-v2',
        'complete': True,
        'wavelet': 'haar',
        'beta': 0.5,
        'backbone': 'unspecified',
        'dimension': 32,
        **attributes,
      }
    )
    for name, frames in videos.items():
      found, edges = moments(frames, 'haar', 0.5)
      group = file.create_group(f'videos/{name}')
      group['features'] = found
      group['spans'] = np.stack([edges[:-1], edges[1:]], axis=1)
      group.attrs['frames'] = len(frames)


def test_an_index_of_moments(tmp_path, capsys, made):
  write(tmp_path, *made)
  write_index(tmp_path / 'index.h5', made[0])
  assert call(tmp_path, features='index.h5') == 0
  settings = ('--config.model.wavelet=haar', '--config.model.beta=0.5')
  assert evaluate(tmp_path, *settings) == pytest.approx(
    expected(*made, wavelet='haar', beta=0.5)
  )
  capsys.readouterr()
  place = (
    f'--config.data.root={tmp_path}/root',
    '--config.data.collection=imported',
    '--config.data.feature=imported',
  )
  assert commands.call('--mode=evaluate', f'--config={CONFIG}', *place) == 2
  assert '"wavelet": "haar", "beta": 0.5' in capsys.readouterr().err
  other = CONFIG.replace('tf_prvr', 'best_frame')
  assert commands.call('--mode=evaluate', f'--config={other}', *place) == 2
  assert 'moments of tf_prvr, not frames' in capsys.readouterr().err


@pytest.mark.parametrize(
  ('attributes', 'words'),
  [
    ({'complete': False}, 'was not finished'),
    ({'wavelet': 'sym12'}, "read: the wavelet 'sym12' is unknown; those that"),
  ],
)
def test_an_index_that_cannot_be_read(
  tmp_path, capsys, made, attributes, words
):
  write(tmp_path, *made)
  write_index(tmp_path / 'index.h5', made[0], **attributes)
  assert call(tmp_path, features='index.h5') == 2
  assert words in capsys.readouterr().err


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda v, q, r: r.append(r[0]), "repeats the query 'q000'"),
    (lambda v, q, r: r[0].update(video_ids=[]), 'list of one id or more'),
    (lambda v, q, r: r[0].update(video_ids=['b00', 3]), 'list of one id'),
    (lambda v, q, r: r[0].update(query_id=3), '"query_id" is 3'),
    (lambda v, q, r: r[0].update(video_ids=['no']), "'no'"),
    (lambda v, q, r: r[0].update(query_id='no'), "'no'"),
    (lambda v, q, r: r.pop(), 'has no row in'),
    (lambda v, q, r: v.update(b00=np.ones((3, 31), 'f4')), 'the width 31'),
    (lambda v, q, r: q.update(q000=np.full(32, np.nan, 'f4')), 'NaN'),
    (lambda v, q, r: v.clear(), 'has no features'),
  ],
)
def test_refused(tmp_path, capsys, made, change, message):
  change(*made)
  write(tmp_path, *made)
  assert call(tmp_path, 'inspect') == 2
  out, err = capsys.readouterr()
  assert message in out + err
  assert call(tmp_path) == 2
  assert not (tmp_path / 'root/imported').exists()


def test_other_backbones(tmp_path, capsys, made):
  write(tmp_path, *made, backbones=('clip', 'siglip'))
  assert call(tmp_path) == 2
  assert 'different encoders' in capsys.readouterr().err


def test_an_unnamed_backbone_matches_any(tmp_path, made):
  write(tmp_path, *made, backbones=('clip', 'unspecified'))
  assert call(tmp_path, 'inspect') == 0
