"""Tests of the verification: changed sources, damaged shards, other options."""

import dataclasses
import json
import logging
import os
import shutil

import numpy as np
import pytest

from data_pipeline.errors import DataError
from data_pipeline.opening import open_corpus
from data_pipeline.paths import dataset_dir, manifest_path
from data_pipeline.prepare import prepare
from data_pipeline.resident import resident_source


def _records(options):
  return open_corpus(dataclasses.replace(options, storage='records'))


def _contents(options):
  """Returns the bytes of every shard."""
  paths = sorted(dataset_dir(options).glob('*.tfrecord-*'))
  return {path.name: path.read_bytes() for path in paths}


def _touch(folder):
  os.utime(folder / 'FeatureData/i3d/feature.hdf5', ns=(1, 1))


def _flip(folder):
  """Changes one value and restores the file's time."""
  path = folder / 'FeatureData/i3d/feature.hdf5'
  stat = path.stat()
  raw = bytearray(path.read_bytes())
  raw[-1] ^= 1
  path.write_bytes(raw)
  os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def _append(folder):
  with (folder / 'TextData/tinyval.caption.txt').open('a') as file:
    file.write('\n')


def _annotate(folder):
  (folder / 'val_1.json').write_text('{}')


def _remove(folder):
  (folder / 'TextData/tinytest.caption.txt').unlink()


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (_flip, 'feature.hdf5 has changed'),
    (_append, r'tinyval.caption.txt has changed .*\(\d+ bytes then, \d+ now\)'),
    (_annotate, 'val_1.json was added'),
    (_remove, 'tinytest.caption.txt was removed'),
  ],
)
@pytest.mark.parametrize('verify', ['fast', 'full'])
def test_changed_sources_are_noticed(
  content, options, tmp_path, caplog, change, message, verify
):
  options = dataclasses.replace(options, verify=verify)
  folder = content.write(tmp_path)
  prepare(options, progress=False)
  change(folder)
  with pytest.raises(DataError, match=message):
    _records(options)
  assert open_corpus(options).storage == 'release'
  assert 'reading the release instead' in caplog.text
  prepare(options, progress=False)
  assert _records(options).storage == 'records'


def test_a_copy_with_another_time_is_the_same(content, options, tmp_path):
  folder = content.write(tmp_path)
  prepare(options, progress=False)
  _touch(folder)
  assert open_corpus(options).storage == 'records'
  # The new time is stored, so that the whole file is not read again.
  saved = json.loads(manifest_path(options).read_text())
  assert saved['sources']['FeatureData/i3d/feature.hdf5']['mtime_ns'] == 1


@pytest.mark.parametrize(
  ('was', 'now', 'message'),
  [
    ({}, {'max_frames': 64}, 'max_frames=128, but max_frames=64'),
    ({}, {'clips': 'merged'}, "clips='pooled', but clips='merged'"),
    ({'clips': 'merged'}, {'clips': 'pooled'}, "='merged', but clips='pooled'"),
    (
      {'clips': 'merged'},
      {'merge_threshold': 0.7},
      'merge_threshold=0.8, but merge_threshold=0.7',
    ),
  ],
)
def test_other_options_are_noticed(
  content, options, tmp_path, was, now, message
):
  content.write(tmp_path)
  options = dataclasses.replace(options, **was)
  prepare(options, progress=False)
  other = dataclasses.replace(options, **now)
  with pytest.raises(DataError, match=message):
    _records(other)
  # The records are prepared again instead of being taken for an earlier run's.
  prepare(other, progress=False)
  release = dataclasses.replace(other, storage='release')
  for name, value in _records(other).splits['train'].read_videos([2]).items():
    np.testing.assert_array_equal(
      value, open_corpus(release).splits['train'].read_videos([2])[name]
    )


def test_options_that_pooled_records_do_not_know(content, options, tmp_path):
  content.write(tmp_path)
  prepare(options, progress=False)
  assert _records(dataclasses.replace(options, merge_threshold=0.5))
  # Records from before merged clips existed are pooled.
  path = manifest_path(options)
  saved = json.loads(path.read_text())
  assert saved['options'].pop('clips') == 'pooled'
  path.write_text(json.dumps(saved))
  assert _records(options).storage == 'records'
  with pytest.raises(DataError, match="clips='pooled', but clips='merged'"):
    _records(dataclasses.replace(options, clips='merged'))


def test_damaged_shards_are_noticed_and_repaired(content, options, tmp_path):
  content.write(tmp_path)
  prepare(options, progress=False)
  good = _contents(options)
  first, second = sorted(dataset_dir(options).glob('tiny-train.tfrecord-*'))[:2]
  first.write_bytes(b'short')
  with pytest.raises(DataError, match='00000-of-00003 has 5 bytes where'):
    _records(options)
  first.unlink()
  with pytest.raises(DataError, match='00000-of-00003 is missing'):
    _records(options)
  time_of_second = os.stat(second).st_mtime_ns
  prepare(options, progress=False)
  assert _contents(options) == good
  assert os.stat(second).st_mtime_ns == time_of_second
  raw = bytearray(second.read_bytes())
  raw[50] ^= 1
  second.write_bytes(raw)
  full = dataclasses.replace(options, verify='full')
  with pytest.raises(DataError, match='00001-of-00003 is damaged'):
    _records(full)


def test_records_work_without_the_release(content, options, tmp_path, caplog):
  caplog.set_level(logging.INFO)
  content.write(tmp_path / 'release')
  made = dataclasses.replace(options, root=str(tmp_path / 'release'))
  prepare(
    dataclasses.replace(made, prepared_dir=str(tmp_path / 'p')), progress=False
  )
  shutil.rmtree(tmp_path / 'release')
  options = dataclasses.replace(made, prepared_dir=str(tmp_path / 'p'))
  corpus = open_corpus(options)
  assert corpus.storage == 'records'
  assert 'are not compared' in caplog.text
  resident_source(corpus.splits['train'])
  with pytest.raises(DataError, match="split 'dev' is missing"):
    corpus.splits['dev']
