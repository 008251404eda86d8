"""The command compare, on files of scores."""

import json

import numpy as np
import pytest

from dreamprvr_jax.metrics.ranks import ranks_of
from dreamprvr_jax.metrics.retrieval import recall
from tests.helpers import scores


@pytest.fixture(scope='module')
def place(tmp_path_factory):
  folder = tmp_path_factory.mktemp('scores')
  for name, seed, strength in (
    ('good0', 0, 2.0),
    ('good1', 1, 2.0),
    ('same', 2, 2.0),
    ('weak', 3, 1.0),
  ):
    scores.write_made(
      folder / f'{name}.npz', seed, strength, seedless=name == 'weak'
    )
  return folder


def compare(ours, theirs, *flags):
  flags = f'--scores={ours}', f'--against={theirs}', *flags
  return scores.command('compare', *flags)


def test_runs_against_one(place, tmp_path):
  ours = f'{place}/good0.npz,{place}/good1.npz'
  target = tmp_path / 'found.json'
  code, out, err = compare(ours, f'{place}/weak.npz', f'--out={target}')
  assert code == 0, err
  assert '300 queries of 150 videos, among 150; runs: 2 against 1' in out
  assert out.splitlines()[-2].endswith(': a difference')
  found = json.loads(target.read_text())
  assert found['scores'] == ours.split(',')
  expected = [
    recall(ranks_of(scores.made(*made), scores.RIGHT))['SumR']
    for made in ((0, 2.0), (1, 2.0), (3, 1.0))
  ]
  sum_r = found['metrics']['SumR']
  assert sum_r['ours'] == pytest.approx(np.mean(expected[:2]))
  assert sum_r['theirs'] == pytest.approx(expected[2])
  assert sum_r['over_queries'] > 0
  assert sum_r['over_runs'] == pytest.approx(
    np.std(expected[:2], ddof=1) / np.sqrt(2)
  )
  low, high = (
    sum_r['difference'] + sign * sum_r['half_width'] for sign in (-1, 1)
  )
  assert f'95 % interval {low:+.1f} to {high:+.1f}' in out
  assert low > 0


def test_what_may_be_chance(place):
  code, out, err = compare(f'{place}/good0.npz', f'{place}/same.npz')
  assert code == 0, err
  assert (
    'it may be chance. What other seeds would change is not in it: one run of '
    '--scores and of --against'
  ) in ' '.join(out.split())
  (row,) = (line for line in out.splitlines() if 'over runs' in line)
  assert row.split()[-5:] == ['-'] * 5


def test_against_itself(place):
  weak = f'{place}/weak.npz'
  code, out, err = compare(weak, weak)
  assert code == 0, err
  assert 'SumR: +0.0, 95 % interval +0.0 to +0.0: it may be chance' in out
  assert 'one run' not in out


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'queries': [f'{i}' for i in range(300)]}, 'have other queries'),
    ({'videos': [f'w{v}' for v in range(150)]}, 'have other videos'),
    ({'right': scores.RIGHT[::-1]}, 'have other right videos'),
    ({'right': scores.RIGHT + 1}, 'right videos that are none of its columns'),
  ],
)
def test_other_splits_are_refused(place, tmp_path, changes, words):
  path = scores.write_made(tmp_path / 'other.npz', 0, 1.0, **changes)
  code, _, err = compare(f'{place}/good0.npz', path)
  assert code == 2
  assert words in err
  assert path in err


def test_bad_files_are_refused(place, tmp_path):
  good = f'{place}/good0.npz'
  with np.load(good) as file:
    arrays = dict(file)
  made = {
    'old': {k: v for k, v in arrays.items() if k != 'right'},
    'nan': {**arrays, 'scores': arrays['scores'] * np.float32('nan')},
    'shape': {**arrays, 'scores': arrays['scores'][:, 1:]},
    'type': {**arrays, 'right': arrays['right'] * 1.0},
    'seeds': {**arrays, 'seedless': arrays['seedless'] * 1},
  }
  for name, content in made.items():
    np.savez(tmp_path / f'{name}.npz', **content)
  (tmp_path / 'cut.npz').write_bytes((place / 'good0.npz').read_bytes()[:5000])
  for name, words in (
    ('old', "has no array 'right', only scores, queries, videos, seedless"),
    ('nan', 'has scores that are not finite'),
    ('shape', 'expected float32 (300, 150)'),
    ('type', 'the right videos float64'),
    ('seeds', "'seedless' is int64 (), expected one bool"),
    ('cut', 'cannot be read as .npz'),
    ('none', 'No such file'),
  ):
    code, _, err = compare(good, f'{tmp_path}/{name}.npz')
    assert code == 2, name
    assert words in ' '.join(err.split()), name
    assert f'{name}.npz' in err
    assert 'Traceback' not in err
  code, _, err = compare(',', good)
  assert code == 2
  assert '--scores names no file' in err
