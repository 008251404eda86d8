"""Items of retrievers without training, from every storage and pipeline."""

import dataclasses

import h5py
import numpy as np
import pytest

from data_pipeline import iterators, prepare, simulated
from data_pipeline.archive import open_archive
from data_pipeline.errors import DataError
from data_pipeline.opening import open_corpus
from data_pipeline.options import DataOptions
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.training_free.moments import moments


@pytest.fixture(scope='module')
def root(tmp_path_factory):
  place = tmp_path_factory.mktemp('root')
  simulated.write_corpus(
    place,
    layout='hdf5',
    train_videos=0,
    val_videos=0,
    test_videos=5,
    frames=(1, 70),
    visual_width=12,
    seed=3,
  )
  return place


def options(root, retriever='tf_prvr', **more):
  return DataOptions(
    **{
      'root': str(root),
      'collection': 'simulated',
      'num_clips': 1,
      'max_words': 1,
      'storage': 'release',
      'num_workers': 1,
      'retriever': retriever,
      **more,
    }
  )


def frames_of(root, split):
  with h5py.File(root / 'simulated/FeatureData/i3d/feature.hdf5') as file:
    return [file[name][()] for name in split.video_ids]


def check(root, split, wavelet, beta):
  found = split.read_videos([*range(len(split.video_ids)), -1])
  assert not found['frame_mask'][-1].any()
  for i, frames in enumerate(frames_of(root, split)):
    expected, edges = moments(frames, wavelet, beta)
    mask = found['frame_mask'][i]
    np.testing.assert_array_equal(found['frame_features'][i][mask], expected)
    np.testing.assert_array_equal(split.frame_edges[i], edges)
    unit = frames / np.linalg.norm(frames, axis=1, keepdims=True)
    mean = unit.mean(axis=0) / np.linalg.norm(unit.mean(axis=0))
    np.testing.assert_allclose(found['clip_features'][i, 0], mean, atol=1e-6)
  assert found['frame_mask'].shape[1] == split.stored_frames.max()


@pytest.mark.parametrize('pipeline', ['resident', 'streaming'])
def test_moments(root, pipeline):
  own = options(root, wavelet='haar', beta=0.5)
  split = open_corpus(own).splits['test']
  check(root, split, 'haar', 0.5)
  batches = iterators.video_batches(split, batch_size=8, pipeline=pipeline)
  (batch,) = list(batches)
  expected = split.read_videos([*range(5), -1, -1, -1])
  for name, value in expected.items():
    np.testing.assert_array_equal(batch[name], value)


def test_records(root, tmp_path):
  own = options(root, prepared_dir=str(tmp_path), storage='records')
  manifest = prepare.prepare(own, progress=False)
  split = open_corpus(own, manifest).splits['test']
  check(root, split, 'db4', 0.7)
  release = open_corpus(options(root)).splits['test']
  rows = range(len(split.caption_ids))
  for name, value in release.read_captions(rows).items():
    np.testing.assert_array_equal(split.read_captions(rows)[name], value)
  with pytest.raises(DataError, match='beta'):
    open_corpus(dataclasses.replace(own, beta=0.5))


def test_best_frame(root):
  split = open_corpus(options(root, 'best_frame')).splits['test']
  found = split.read_videos(range(5))
  for i, frames in enumerate(frames_of(root, split)):
    unit = frames / np.linalg.norm(frames, axis=1, keepdims=True)
    mask = found['frame_mask'][i]
    np.testing.assert_allclose(
      found['frame_features'][i][mask], unit, atol=1e-6
    )
  assert split.frame_edges is None


def test_sentences(root):
  split = open_corpus(options(root)).splits['test']
  found = split.read_captions(range(len(split.caption_ids)))
  assert found['word_mask'].shape == (len(split.caption_ids), 1)
  with h5py.File(root / 'simulated/TextData/sentence_feats.hdf5') as file:
    for i, name in enumerate(split.caption_ids):
      vector = file[name][()].astype(np.float64)
      np.testing.assert_allclose(
        found['word_features'][i, 0], vector / np.linalg.norm(vector), atol=1e-6
      )


def test_archive(root):
  split = open_archive(options(root))
  check(root, split, 'db4', 0.7)


def copied(root, tmp_path, change, name='TextData/sentence_feats.hdf5'):
  """Returns options of a copy of the corpus with a changed file."""
  for path in (root / 'simulated').rglob('*.*'):
    place = tmp_path / 'simulated' / path.relative_to(root / 'simulated')
    place.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file():
      place.write_bytes(path.read_bytes())
  with h5py.File(tmp_path / 'simulated' / name, 'r+') as file:
    change(file)
  return options(tmp_path)


def put(file, value):
  name = next(iter(file))
  del file[name]
  file[name] = value


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda file: put(file, np.ones((2, 12), 'f4')), r'vector \(width,\)'),
    (lambda file: put(file, np.zeros(12, 'f4')), 'length 0'),
    (lambda file: put(file, np.full(12, np.nan, 'f4')), 'NaN'),
    (lambda file: put(file, np.ones(11, 'f4')), 'width 11'),
  ],
)
def test_bad_sentences(root, tmp_path, change, message):
  own = copied(root, tmp_path, change)

  def read():
    split = open_corpus(own).splits['test']
    split.read_captions(range(len(split.caption_ids)))

  with pytest.raises(DataError, match=message):
    read()


def test_bad_frames(root, tmp_path):
  name = 'FeatureData/i3d/feature.hdf5'
  own = copied(
    root, tmp_path, lambda file: put(file, np.zeros((3, 12), 'f4')), name
  )
  with pytest.raises(DataError, match=r"video 'test_00000'.*length 0"):
    open_corpus(own)
  split = open_corpus(dataclasses.replace(own, skip_bad=True)).splits['test']
  assert len(split.video_ids) == 4


def test_no_sentences(root, tmp_path):
  own = copied(root, tmp_path, lambda file: None)
  (tmp_path / 'simulated/TextData/sentence_feats.hdf5').unlink()
  with pytest.raises(DataError, match='--mode=extract'):
    open_corpus(own)


def test_other_widths(root, tmp_path):
  def change(file):
    for name in list(file):
      del file[name]
      file[name] = np.ones(10, 'f4')

  with pytest.raises(DataError, match=r'10 wide.* 12'):
    open_corpus(copied(root, tmp_path, change))


@pytest.mark.parametrize(
  'more',
  [{'wavelet': 'no'}, {'beta': 1.0}, {'num_clips': 32}, {'max_words': 9}],
)
def test_refused_settings(root, more):
  with pytest.raises(UserError):
    options(root, **more)
