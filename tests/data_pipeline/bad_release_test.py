"""Tests of what is refused in a release, and of leaving bad items out."""

import dataclasses
import os

import numpy as np
import pytest

from data_pipeline.corpus import open_corpus
from data_pipeline.errors import DataError


def _drop_words(content):
  del content.words['v_d#enc#1']


def _drop_video(content):
  del content.videos['v_d']


def _widen_video(content):
  content.videos['v_d'] = np.ones((4, content.visual_width + 1), np.float32)


def _widen_words(content):
  content.words['v_d#enc#1'] = np.ones((4, content.text_width + 1), np.float32)


def _empty_video(content):
  content.videos['v_d'] = np.ones((0, content.visual_width), np.float32)


def _empty_words(content):
  content.words['v_d#enc#1'] = np.ones((0, content.text_width), np.float32)


def _integers(content):
  content.words['v_d#enc#1'] = np.ones((3, content.text_width), np.int64)


def _flat(content):
  content.videos['v_d'] = np.ones(7, np.float32)


def _twice(content):
  content.lines['train'].append('v_d#enc#1 again')


def _no_text(content):
  content.words['v_d#enc#9'] = np.ones((3, content.text_width), np.float32)
  content.lines['train'].append('v_d#enc#9  ')


def _no_id(content):
  content.lines['train'].append('hello there')


def _blank(content):
  content.lines['train'].insert(3, '')


_BAD = {
  _drop_words: r"'v_d#enc#1' \(.*tinytrain.caption.txt:\d+\): has no word feat",
  _drop_video: r"video 'v_d' of caption .*txt:\d+\): has no frame features",
  _widen_video: r"video 'v_d'.*width 7 .* others have 6",
  _widen_words: r"'v_d#enc#1'.*width 6 .* others have 5",
  _empty_video: r"video 'v_d'.* has no frames",
  _empty_words: r"'v_d#enc#1'.* has no words",
  _integers: r"'v_d#enc#1'.* is int64 of shape \(3, 5\)",
  _flat: r"video 'v_d'.* is float32 of shape \(7,\)",
  _twice: r"txt:39: duplicate caption id 'v_d#enc#1', first seen in line \d+",
  _no_text: r"txt:39: caption 'v_d#enc#9' has no text",
  _no_id: r"txt:39: malformed line, it begins with 'hello'",
  _blank: r'txt:4: blank line',
}


@pytest.mark.parametrize('spoil', list(_BAD), ids=lambda f: f.__name__[1:])
def test_bad_items_are_named_or_left_out(content, options, tmp_path, spoil):
  spoil(content)
  content.write(tmp_path)
  with pytest.raises(DataError, match=_BAD[spoil]) as caught:
    open_corpus(options)
  assert 'skip_bad' in str(caught.value)
  corpus = open_corpus(dataclasses.replace(options, skip_bad=True))
  assert len(corpus.skipped) == 1
  (item, reason) = corpus.skipped[0]
  assert item in str(caught.value)
  assert reason in str(caught.value)
  split = corpus.splits['train']
  split.read_videos(range(len(split.video_ids)))
  assert corpus.describe()[0]['skipped'] == 1
  gone = 3 if 'video' in spoil.__name__ or spoil is _flat else 1
  extra = spoil in (_twice, _no_text, _no_id, _blank)
  assert len(split.caption_ids) == 38 - (0 if extra else gone)


@pytest.mark.parametrize('value', [np.nan, np.inf])
@pytest.mark.parametrize('kind', ['video', 'caption'])
def test_values_that_are_not_finite(content, options, tmp_path, value, kind):
  if kind == 'video':
    content.videos['v_d'][2, 1] = value
  else:
    content.words['v_d#enc#1'][0, 1] = value
  content.write(tmp_path)
  split = open_corpus(options).splits['train']
  with pytest.raises(DataError, match=f'{kind} .v_d.* NaN or inf.*row [02] of'):
    split.resident()
  corpus = open_corpus(dataclasses.replace(options, skip_bad=True))
  assert len(corpus.skipped) == 1
  split = corpus.splits['train']
  assert ('v_d' in split.video_ids) == (kind == 'caption')
  assert 'v_d#enc#1' not in split.caption_ids
  split.resident()


def test_nothing_left_is_an_error(content, options, tmp_path):
  for name in ('v_a', 'v_f'):
    del content.videos[name]
  content.write(tmp_path)
  with pytest.raises(DataError, match=r'nothing is left of .*tinyval'):
    open_corpus(dataclasses.replace(options, skip_bad=True))


def _cut(path, size):
  os.truncate(path, path.stat().st_size - size)


_FILE_ERRORS = {
  'short feature.bin': (
    lambda folder: _cut(folder / 'feature.bin', 4),
    r'feature.bin has \d+ bytes but .*shape.txt says 511 x 6',
  ),
  'bad shape.txt': (
    lambda folder: (folder / 'shape.txt').write_text('511\n'),
    r"shape.txt:1 holds '511' where two integers",
  ),
  'short id.txt': (
    lambda folder: (folder / 'id.txt').write_text('a b'),
    'id.txt holds 2 frame ids but shape.txt says 511',
  ),
  'duplicate frame id': (
    lambda folder: (folder / 'id.txt').write_text(
      (folder / 'id.txt').read_text().replace('v_b_1\n', 'v_b_2\n')
    ),
    "duplicate frame id 'v_b_2'",
  ),
  'unknown frame id': (
    lambda folder: (folder / 'video2frames.txt').write_text(
      (folder / 'video2frames.txt').read_text().replace("'v_d_0'", "'x'")
    ),
    "frame id 'x' of .*video2frames.txt is not in",
  ),
  'no literal': (
    lambda folder: (folder / 'video2frames.txt').write_text('dict(a=1)'),
    'video2frames.txt is not one dict literal',
  ),
  'no dict': (
    lambda folder: (folder / 'video2frames.txt').write_text('[1]'),
    'video2frames.txt holds a list',
  ),
  'missing file': (
    lambda folder: (folder / 'id.txt').unlink(),
    r'lacks id.txt',
  ),
}


@pytest.mark.parametrize('name', list(_FILE_ERRORS))
def test_damaged_bigfile(content, options, tmp_path, name):
  spoil, message = _FILE_ERRORS[name]
  spoil(content.write(tmp_path, 'bigfile') / 'FeatureData' / 'i3d')
  with pytest.raises(DataError, match=message):
    open_corpus(options)


@pytest.mark.parametrize(
  'name',
  ['FeatureData/i3d/feature.hdf5', 'TextData/roberta_tiny_query_feat.hdf5'],
)
def test_truncated_hdf5(content, options, tmp_path, name):
  folder = content.write(tmp_path)
  _cut(folder / name, 600)
  with pytest.raises(DataError, match=r'cannot be read as HDF5.*truncated'):
    open_corpus(dataclasses.replace(options, skip_bad=True))
