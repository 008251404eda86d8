"""Tests of writing the official layout."""

import collections
import json
import math

import h5py
import numpy as np
import pytest

from data_pipeline.errors import DataError
from data_pipeline.importers.annotations import Annotated
from data_pipeline.importers.layout import (
  assign_splits,
  write_features,
  write_texts,
)
from data_pipeline.labels import columns_of, read_labels
from data_pipeline.opening import open_corpus
from data_pipeline.options import DataOptions

_WORDS = 'imported_mine_query_feat.hdf5'
_ANNOTATED = [
  Annotated('a', 'A dog runs.', ('v', 'w'), (1.0, 2.5), 9.0, 'train'),
  Annotated('b', 'A cat.', ('w',), duration=7.0, split='train'),
  Annotated('c', 'A dog runs.', ('v', 'u'), split='train'),
  Annotated('d', 'Ein  Hündchen.', ('u',), (0.0, 3.0), 4.0, 'val'),
]

_IDS = ['v#enc#0', 'w#enc#0', 'v#enc#1', 'u#enc#0']


def words_of(item):
  size = 1 + ord(item.query_id[0]) % 3
  return np.full((size, 6), ord(item.query_id[0]), np.float16)


def videos():
  return {
    name: np.full((3 + i, 5), i, np.float64) for i, name in enumerate('uvwx')
  }


def files(folder):
  """Returns the content of all files by path, including hidden ones."""
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in folder.rglob('*')
    if path.is_file()
  }


@pytest.fixture
def folder(tmp_path):
  """The folder of a complete collection."""
  folder = tmp_path / 'mine'
  path = folder / 'FeatureData/imported/feature.hdf5'
  assert write_features(path, iter(videos().items())) == 4
  counts = write_texts(folder, 'mine', iter(_ANNOTATED), words_of, _WORDS)
  assert counts == {'train': 3, 'val': 1}
  return folder


def corpus_of(folder):
  return open_corpus(
    DataOptions(
      str(folder.parent), 'mine', feature='imported', storage='release'
    )
  )


def test_the_data_room_reads_it(folder):
  corpus = corpus_of(folder)
  assert (corpus.visual_width, corpus.text_width) == (5, 6)
  train, val = corpus.splits['train'], corpus.splits['val']
  assert train.video_ids == ['v', 'w']
  assert train.caption_ids == _IDS[:3]
  assert train.captions == ['A dog runs.', 'A cat.', 'A dog runs.']
  assert val.captions == ['Ein Hündchen.']
  nan = np.nan
  # The same sentence of the same video has the same time span.
  np.testing.assert_array_equal(train.moments, [[1, 2.5], [nan, nan], [1, 2.5]])
  np.testing.assert_array_equal(train.durations, [9, 7])
  np.testing.assert_array_equal(val.moments, [[0, 3]])
  with h5py.File(folder / 'TextData' / _WORDS) as file:
    for item, name in zip(_ANNOTATED, _IDS, strict=True):
      np.testing.assert_array_equal(file[name][()], words_of(item))
  assert train.num_frames.tolist() == [4, 5]
  with h5py.File(folder / 'FeatureData/imported/feature.hdf5') as file:
    assert sorted(file) == list('uvwx')
    for name, matrix in videos().items():
      assert file[name].dtype == np.float32
      # The values have a byte offset, so that reading needs no lock.
      assert file[name].id.get_offset() is not None
      np.testing.assert_array_equal(file[name][()], matrix)


def test_labels_name_the_candidates_of_the_split(folder):
  labels = read_labels(str(folder / 'labels.jsonl'))
  assert labels['v#enc#0'].video_ids == ('v', 'w')
  # `u` has no sentence in the training split.
  assert labels['v#enc#1'].video_ids == ('v',)
  split = corpus_of(folder).splits['train']
  columns = columns_of(labels, split.caption_ids, split.video_ids)
  assert [list(c) for c in columns] == [[0, 1], [1], [0]]
  assert labels['u#enc#0'].caption == 'Ein Hündchen.'


def test_what_is_not_written_again_is_removed(folder):
  item = Annotated('z', 'Another.', ('x',), split='train')
  assert write_texts(folder, 'mine', [item], words_of, _WORDS) == {'train': 1}
  assert sorted(files(folder)) == [
    'FeatureData/imported/feature.hdf5',
    f'TextData/{_WORDS}',
    'TextData/minetrain.caption.txt',
  ]


def test_an_error_leaves_everything(folder):
  before = files(folder)

  def bad_words(item):
    if item.query_id == 'd':
      raise RuntimeError('no words')
    return words_of(item) + 1

  with pytest.raises(RuntimeError):
    write_texts(folder, 'mine', _ANNOTATED, bad_words, _WORDS)

  def stopped():
    yield 'v', np.zeros((2, 5))
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    write_features(folder / 'FeatureData/imported/feature.hdf5', stopped())
  assert files(folder) == before


@pytest.mark.parametrize(
  ('items', 'sentence'),
  [
    ([], 'nothing to write'),
    ([('a', np.ones((2, 3))), ('a', np.ones((2, 3)))], "'a': is repeated"),
    ([('a', np.ones((2, 3))), ('b', np.ones((2, 4)))], "'b': has the width 4"),
    ([('a', np.ones(3))], 'has the shape'),
    ([('a', np.ones((2, 3), int))], 'has int64'),
    ([('a/b', np.ones((2, 3)))], 'white space'),
    ([('a', np.array([[0, np.nan]]))], '1 of 1 rows, the first 0'),
    ([('a', np.array([[0, 1e200]]))], 'infinity in float32'),
  ],
)
def test_bad_features(tmp_path, items, sentence):
  with pytest.raises(DataError, match=sentence):
    write_features(tmp_path / 'x.hdf5', items)
  assert not files(tmp_path)


@pytest.mark.parametrize(
  ('annotated', 'sentence'),
  [
    ([], 'no sentence'),
    ([Annotated('a', ' ', ('v',))], "the query 'a': has no text"),
    ([Annotated('a', 'x', ('v w',))], "the query 'a': the id 'v w'"),
  ],
)
def test_bad_sentences(tmp_path, annotated, sentence):
  with pytest.raises(DataError, match=sentence):
    write_texts(tmp_path, 'mine', annotated, words_of, _WORDS)
  assert not files(tmp_path)


def unsaid(count):
  return [
    Annotated(f'{i}{k}', 'x', (f'video{i}',))
    for i in range(count)
    for k in range(2)
  ]


def splits_of(annotated):
  """Returns the split of each first right video, which must be unique."""
  found = collections.defaultdict(set)
  for item in assign_splits(annotated):
    found[item.videos[0]].add(item.split)
  assert all(len(splits) == 1 for splits in found.values())
  return {video: splits.pop() for video, splits in found.items()}


def test_shares_of_the_splits():
  counts = collections.Counter(splits_of(unsaid(4000)).values())
  assert counts['train'] == pytest.approx(3200, abs=100)
  assert counts['val'] == pytest.approx(400, abs=80)
  assert counts['test'] == pytest.approx(400, abs=80)


def test_a_video_keeps_its_split_when_others_come():
  few, many = splits_of(unsaid(200)), splits_of(unsaid(400))
  assert few == {video: many[video] for video in few}


@pytest.mark.parametrize('count', range(3, 30))
def test_three_videos_are_enough_for_three_splits(count):
  assert set(splits_of(unsaid(count)).values()) == {'train', 'val', 'test'}


def test_said_splits_stay():
  said = [Annotated(f's{i}', 'x', (f's{i}',), split='val') for i in range(9)]
  late = Annotated('late', 'x', ('s3',))
  found = splits_of([*said, *unsaid(1), late])
  assert all(found[f's{i}'] == 'val' for i in range(9))
  # Whole sentences cannot be compared by `==`: unknown times are NaN.
  assert [(a.query_id, a.videos, a.split) for a in assign_splits(said)] == [
    (a.query_id, a.videos, 'val') for a in said
  ]


def test_moments_are_json(folder):
  text = (folder / 'mine.moments.json').read_text()
  found = json.loads(text, parse_constant=pytest.fail)
  assert found['v'] == {
    'sentences': ['A dog runs.', 'A dog runs.'],
    'timestamps': [[1.0, 2.5], None],
    'duration': 9.0,
  }
  assert not math.isnan(found['w']['duration'])
