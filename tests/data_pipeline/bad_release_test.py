"""Tests of refusing bad releases, and of leaving bad items out."""

import dataclasses
import os

import h5py
import numpy as np
import pytest

from data_pipeline import limits
from data_pipeline.errors import BadItemError, DataError
from data_pipeline.opening import open_corpus
from data_pipeline.prepare import prepare
from data_pipeline.resident import resident_source


@pytest.fixture(params=[1, 2], ids=['alone', 'two workers'])
def options(options, request):
  """Options with one worker and with several."""
  return dataclasses.replace(options, num_workers=request.param)


def _refused(options, message):
  """Checks that preparing fails with this message and writes no manifest."""
  with pytest.raises(DataError, match=message) as caught:
    prepare(options, progress=False)
  assert not list(options.prepared.glob('*/*/manifest.json'))
  return caught.value


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
  assert str(_refused(options, _BAD[spoil])) == str(caught.value)
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
    resident_source(split)
  corpus = open_corpus(dataclasses.replace(options, skip_bad=True))
  assert len(corpus.skipped) == 1
  split = corpus.splits['train']
  assert ('v_d' in split.video_ids) == (kind == 'caption')
  assert 'v_d#enc#1' not in split.caption_ids
  resident_source(split)


@pytest.mark.parametrize(
  ('kind', 'value'), [('video', np.nan), ('cap', np.inf)]
)
def test_preparing_names_values_that_are_not_finite(
  content, options, tmp_path, kind, value
):
  if kind == 'video':
    content.videos['v_d'][2, 1] = value
  else:
    content.words['v_d#enc#1'][0, 1] = value
  content.write(tmp_path)
  message = f'{kind}.* .v_d.* NaN or inf.*row [02] of'
  error = _refused(options, message)
  # The error comes complete from another process.
  assert type(error) is BadItemError
  assert 'v_d' in error.item
  assert error.reason in str(error)


def _link(file, folder):
  del file['v_d']
  file['v_d'] = h5py.ExternalLink(folder / 'other.h5', 'x')


def _outside(file, folder):
  del file['v_d']
  (folder / 'x.bin').write_bytes(bytes(120))
  external = [(str(folder / 'x.bin'), 0, 120)]
  file.create_dataset('v_d', (5, 6), 'f4', external=external)


def _huge(file, folder):
  del file['v_d']
  file.create_dataset('v_d', (10**9, 6), 'f4')


def _dent(file, folder):
  del file['v_d']
  data = file.create_dataset(
    'v_d', (5, 6), 'f4', chunks=(5, 6), compression='gzip'
  )
  data.id.write_direct_chunk((0, 0), b'no zlib stream')


_CLAIMS = {
  _link: 'is a link to another file',
  _outside: 'keeps its values in another file',
  _huge: 'of which 0 are stored',
}


@pytest.mark.parametrize('spoil', list(_CLAIMS), ids=lambda f: f.__name__[1:])
def test_what_is_not_in_the_file(content, options, tmp_path, spoil):
  folder = content.write(tmp_path)
  with h5py.File(folder / 'FeatureData/i3d/feature.hdf5', 'a') as file:
    spoil(file, tmp_path)
  message = f"video 'v_d' of caption .*{_CLAIMS[spoil]}"
  assert type(_refused(options, message)) is BadItemError
  corpus = open_corpus(dataclasses.replace(options, skip_bad=True))
  assert [item.partition(' of')[0] for item, _ in corpus.skipped] == [
    "video 'v_d'"
  ]
  assert 'v_d' not in corpus.splits['train'].video_ids


def test_a_damaged_chunk_is_one_bad_video(content, options, tmp_path):
  folder = content.write(tmp_path)
  with h5py.File(folder / 'FeatureData/i3d/feature.hdf5', 'a') as file:
    _dent(file, tmp_path)
  split = open_corpus(options).splits['train']
  with pytest.raises(BadItemError, match=r"'v_d': cannot be read: .*hdf5"):
    split.read_videos(range(5))
  corpus = open_corpus(dataclasses.replace(options, skip_bad=True))
  assert [item for item, _ in corpus.skipped] == ["video 'v_d'"]


def test_what_unpacks_too_far_is_one_bad_video(
  content, options, tmp_path, monkeypatch
):
  monkeypatch.setattr(limits, 'FREE_BYTES', 1000)
  folder = content.write(tmp_path)
  with h5py.File(folder / 'FeatureData/i3d/feature.hdf5', 'a') as file:
    del file['v_d']
    zeros = np.zeros((9999, 6), np.float32)
    file.create_dataset('v_d', data=zeros, compression='gzip')
  message = r'64 times its size \(--config.data.max_inflation\)'
  with pytest.raises(BadItemError, match=message):
    open_corpus(options)
  open_corpus(dataclasses.replace(options, max_inflation=2000))


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
    r"shape.txt:1 has '511' where two integers",
  ),
  'short id.txt': (
    lambda folder: (folder / 'id.txt').write_text('a b'),
    'id.txt has 2 frame ids but shape.txt says 511',
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
    'video2frames.txt has a list',
  ),
  'negative shape.txt': (
    lambda folder: (folder / 'shape.txt').write_text('-511 -6\n'),
    r"shape.txt:1 has '-511 -6' where two integers",
  ),
  'absurd shape.txt': (
    lambda folder: (folder / 'shape.txt').write_text('511 ' + '6' * 99),
    r'feature.bin has \d+ bytes but .*shape.txt says 511 x 666',
  ),
  'nested literal': (
    lambda folder: (folder / 'video2frames.txt').write_text('[' * 10**5),
    r'video2frames.txt:1 is not one dict literal',
  ),
  'unhashable literal': (
    lambda folder: (folder / 'video2frames.txt').write_text('{"a": 1, []: 2}'),
    'video2frames.txt is not one dict literal',
  ),
  'frames that are lists': (
    lambda folder: (folder / 'video2frames.txt').write_text("{'v_a': [[]]}"),
    r"entry of 'v_a' has \[\] where frame ids",
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
  _refused(options, message)


@pytest.mark.parametrize(
  'name',
  ['FeatureData/i3d/feature.hdf5', 'TextData/roberta_tiny_query_feat.hdf5'],
)
def test_truncated_hdf5(content, options, tmp_path, name):
  folder = content.write(tmp_path)
  _cut(folder / name, 600)
  message = r'cannot be read as HDF5.*truncated'
  with pytest.raises(DataError, match=message):
    open_corpus(dataclasses.replace(options, skip_bad=True))
  _refused(options, message)
