"""Tests of the generated corpus."""

import json

import numpy as np
import pytest

from data_pipeline.errors import DataError
from data_pipeline.opening import open_corpus
from data_pipeline.options import DataOptions
from data_pipeline.simulated import write_corpus

_SMALL = {'train_videos': 6, 'val_videos': 3, 'test_videos': 2}


def _files(folder):
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in sorted(folder.rglob('*'))
    if path.is_file() and path.suffix != '.hdf5'
  }


def test_the_same_seed_gives_the_same_corpus(tmp_path, assert_same):
  one = write_corpus(tmp_path / '1', **_SMALL)
  two = write_corpus(tmp_path / '2', **_SMALL)
  other = write_corpus(tmp_path / '3', **_SMALL, seed=1)
  assert _files(one) == _files(two)
  assert _files(one) != _files(other)
  splits = [
    open_corpus(DataOptions(str(tmp_path / n), 'simulated')).splits['val']
    for n in '12'
  ]
  captions = range(len(splits[0].captions))
  assert_same(*(split.read_captions(captions) for split in splits))


@pytest.mark.parametrize('layout', ['bigfile', 'hdf5'])
def test_sizes_and_moments(tmp_path, layout):
  folder = write_corpus(
    tmp_path,
    'made',
    **_SMALL,
    layout=layout,
    frames=(1, 40),
    captions_per_video=(1, 8),
    visual_width=10,
    text_width=7,
    shuffle_captions=True,
  )
  corpus = open_corpus(DataOptions(str(tmp_path), 'made'))
  assert (corpus.visual_width, corpus.text_width) == (10, 7)
  assert {n: len(s.video_ids) for n, s in corpus.splits.items()} == {
    'train': 6,
    'val': 3,
    'test': 2,
  }
  for name, split in corpus.splits.items():
    content = json.loads((folder / f'{name}.moments.json').read_text())
    assert set(content) == set(split.video_ids)
    # Every caption finds its span, in or out of order.
    assert np.isfinite(split.moments).all()
    ends = split.durations[split.caption_video]
    assert (split.moments[:, 0] >= 0).all()
    assert (split.moments[:, 0] < split.moments[:, 1]).all()
    assert (split.moments[:, 1] <= ends + 1e-9).all()
    assert (split.num_frames >= 1).all()
    assert (split.num_frames <= 40).all()
    assert split.captions_per_video.max() <= 8
    np.testing.assert_array_equal(split.durations, split.num_frames * 0.5)


def test_both_layouts_hold_the_same_numbers(tmp_path, assert_same):
  splits = []
  for layout in ('bigfile', 'hdf5'):
    write_corpus(tmp_path / layout, **_SMALL, layout=layout)
    options = DataOptions(str(tmp_path / layout), 'simulated')
    splits.append(open_corpus(options).splits['train'])
  assert_same(*(split.read_videos(range(6)) for split in splits))


def test_homogeneous_videos_get_fewer_merged_clips(tmp_path):
  write_corpus(tmp_path, **_SMALL, noise=0.1)
  merged = {}
  for threshold in (0.5, 1.0):
    options = DataOptions(
      str(tmp_path), 'simulated', clips='merged', merge_threshold=threshold
    )
    split = open_corpus(options).splits['train']
    batch = split.read_videos(range(6))
    assert batch['frame_mask'].all()
    np.testing.assert_array_equal(batch['clip_sizes'].sum(axis=1), 128)
    merged[threshold] = batch['clip_groups'].max(axis=1) + 1
  assert (merged[1.0] == 32).all()
  assert (merged[0.5] < 32).all()


def test_words_and_frames_of_an_event_share_a_space(tmp_path):
  # A linear map from words to frames, fitted on training videos, ranks the
  # test videos far better than chance and far from perfectly.
  write_corpus(tmp_path, train_videos=150, val_videos=0, test_videos=50)
  corpus = open_corpus(DataOptions(str(tmp_path), 'simulated'))
  assert list(corpus.splits) == ['train', 'test']
  pairs = {}
  for name, split in corpus.splits.items():
    words = split.read_captions(range(len(split.captions)))
    clips = split.read_videos(range(len(split.video_ids)))['clip_features']
    pairs[name] = (words['word_features'].sum(axis=1), clips, split)
  query, clips, split = pairs['train']
  middle = split.moments.mean(axis=1) / split.durations[split.caption_video]
  target = clips[split.caption_video, (middle * 32).astype(int).clip(0, 31)]
  mapping = np.linalg.lstsq(query, target, rcond=None)[0]
  query, clips, split = pairs['test']
  scores = np.einsum('nd,vcd->nvc', query @ mapping, clips).max(axis=2)
  right = scores[np.arange(len(scores)), split.caption_video]
  ranks = 1 + (scores > right[:, None]).sum(axis=1)
  assert 0.15 < (ranks == 1).mean() < 0.8
  assert (ranks <= 10).mean() > 0.5


@pytest.mark.parametrize(
  'kwargs',
  [
    {'layout': 'x'},
    {'frames': (5, 2)},
    {'captions_per_video': (0, 2)},
    {'noise': -1.0},
    {'noise': float('nan')},
  ],
)
def test_bad_arguments(tmp_path, kwargs):
  with pytest.raises(DataError, match=next(iter(kwargs))):
    write_corpus(tmp_path, **kwargs)
