"""The command fuse, on files of scores."""

import numpy as np
import pytest

from dreamprvr_jax.cli import fusing, score_files
from dreamprvr_jax.metrics.ranks import ranks_of
from dreamprvr_jax.metrics.retrieval import recall
from tests.helpers import scores

# Two retrievers, on a test and on a validation split.
MADE = {'a': (0, 2.0), 'b': (1, 1.0), 'a_val': (2, 2.0), 'b_val': (3, 1.0)}


@pytest.fixture(scope='module')
def place(tmp_path_factory):
  folder = tmp_path_factory.mktemp('scores')
  for name, values in MADE.items():
    scores.write_made(folder / f'{name}.npz', *values)
  return folder


def fuse(place, names, *flags):
  files = ','.join(f'{place}/{name}.npz' for name in names)
  return scores.command('fuse', f'--scores={files}', *flags)


def sum_r(values):
  return recall(ranks_of(values, scores.RIGHT))['SumR']


def test_a_weighted_sum_is_shown_and_written(place, tmp_path):
  target = tmp_path / 'sum.npz'
  code, out, err = fuse(
    place, ('a', 'b', 'a'), '--weights=1,0.5,-0.25', f'--out={target}'
  )
  assert code == 0, err
  written = score_files.read(str(target))
  expected = 0.75 * scores.made(0, 2.0) + 0.5 * scores.made(1, 1.0)
  np.testing.assert_allclose(written.scores, expected, atol=1e-5)
  first = score_files.read(f'{place}/a.npz')
  assert (written.queries, written.videos) == (first.queries, first.videos)
  np.testing.assert_array_equal(written.right, first.right)
  assert not written.seedless
  assert '300 queries among 150 videos' in out
  rows = [
    line for line in out.splitlines() if 'npz  ' in line or 'sum ' in line
  ]
  assert len(rows) == 4
  for row, values in zip(
    rows, (scores.made(0, 2.0), scores.made(1, 1.0)), strict=False
  ):
    assert row.split()[-2] == f'{sum_r(values):.1f}'
  assert rows[-1].split()[-2] == f'{sum_r(written.scores):.1f}'


def test_the_weight_is_the_best_on_val(place, tmp_path):
  target = tmp_path / 'sum.npz'
  code, out, err = fuse(
    place,
    'ab',
    f'--val_scores={place}/a_val.npz,{place}/b_val.npz',
    f'--out={target}',
  )
  assert code == 0, err
  on_val = {
    weight: sum_r(scores.made(2, 2.0) + weight * scores.made(3, 1.0))
    for weight in fusing.CANDIDATES
  }
  best = max(on_val, key=lambda weight: on_val[weight])
  # The case has a best weight that is neither the first nor the last.
  assert fusing.CANDIDATES[0] < best < fusing.CANDIDATES[-1]
  assert f'{best:g} x {place}/b.npz' in out
  assert all(f'{w:g}: {v:.1f}' in out for w, v in on_val.items())
  np.testing.assert_allclose(
    score_files.read(str(target)).scores,
    scores.made(0, 2.0) + best * scores.made(1, 1.0),
    atol=1e-5,
  )


@pytest.mark.parametrize(
  ('noise', 'weight', 'words'),
  [
    ('b', 0.0, 'b.npz adds nothing on the validation split'),
    ('a', 4.0, 'the largest weight, 4, is the best; a larger one may be'),
  ],
)
def test_weights_at_the_ends(tmp_path, noise, weight, words):
  """One of the two is worse than chance."""
  strengths = (-0.5, 1.0) if noise == 'a' else (1.0, -0.5)
  for name, seed, strength in zip('ab', (4, 5), strengths, strict=True):
    scores.write_made(
      tmp_path / f'{name}.npz', seed, strength, seedless=name == 'b'
    )
  files = f'{tmp_path}/a.npz,{tmp_path}/b.npz'
  code, out, err = scores.command(
    'fuse', f'--scores={files}', f'--val_scores={files}'
  )
  assert code == 0, err
  assert words in ' '.join(out.split())
  assert f'{weight:g} x {tmp_path}/b.npz' in out


def test_a_sum_without_training_depends_on_no_seed(tmp_path):
  for name in 'ab':
    scores.write_made(tmp_path / f'{name}.npz', 0, 1.0, seedless=True)
  code, _, err = fuse(
    tmp_path, 'ab', '--weights=1,1', f'--out={tmp_path}/sum.npz'
  )
  assert code == 0, err
  assert score_files.read(f'{tmp_path}/sum.npz').seedless


@pytest.mark.parametrize(
  ('names', 'flags', 'words'),
  [
    ('a', ['--weights=1'], '--scores names one file'),
    ('ab', [], 'give either --weights, or --val_scores'),
    ('ab', ['--weights=1,2', '--val_scores=x,y'], 'give either --weights'),
    ('ab', ['--weights=1'], 'is not one number for each of the 2 files'),
    ('ab', ['--weights=1,x'], 'is not one number for each'),
    ('ab', ['--weights=1,nan'], 'is not one number for each'),
    ('aba', ['--val_scores=x,y'], '--scores names 3 files and --val_scores 2'),
    ('ab', ['--val_scores=,'], '--val_scores names no file'),
  ],
)
def test_what_does_not_fit_is_refused(place, names, flags, words):
  code, out, err = fuse(place, names, *flags)
  assert code == 2
  assert words in ' '.join(err.split())
  assert 'Traceback' not in out + err


def test_another_split_is_refused(place, tmp_path):
  other = scores.write_made(
    tmp_path / 'other.npz', 0, 1.0, queries=[f'{i}' for i in range(300)]
  )
  files = f'--scores={place}/a.npz,{other}'
  target = tmp_path / 'sum.npz'
  code, _, err = scores.command(
    'fuse', files, '--weights=1,1', f'--out={target}'
  )
  assert code == 2
  assert f'{other} and {place}/a.npz have other queries' in ' '.join(
    err.split()
  )
  assert not target.exists()
