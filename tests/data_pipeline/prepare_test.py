"""Tests of preparation: records, resuming, TFDS."""

import dataclasses
import errno
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from data_pipeline import opening, records
from data_pipeline import prepare as preparing
from data_pipeline.errors import DataError
from data_pipeline.opening import open_corpus
from data_pipeline.options import DataOptions
from data_pipeline.paths import dataset_dir, dataset_name, manifest_path
from data_pipeline.prepare import prepare
from data_pipeline.resident import resident_source
from data_pipeline.simulated import write_corpus
from data_pipeline.verification import verified
from dreamprvr_jax import folders


def _records(options):
  return open_corpus(dataclasses.replace(options, storage='records'))


def _contents(options):
  """Returns the bytes of every shard."""
  paths = sorted(dataset_dir(options).glob('*.tfrecord-*'))
  return {path.name: path.read_bytes() for path in paths}


@pytest.mark.parametrize('clips', ['pooled', 'merged'])
def test_records_hold_what_the_release_does(
  content, options, tmp_path, assert_same, clips
):
  options = dataclasses.replace(options, clips=clips)
  content.write(tmp_path)
  made = prepare(options, progress=False)
  assert {name: facts['videos'] for name, facts in made.splits.items()} == {
    'train': 5,
    'val': 2,
    'test': 1,
  }
  assert made.splits['train']['shard_lengths'] == [1, 2, 2]
  assert (made.visual_width, made.text_width, made.name) == (6, 5, 'tiny')
  assert set(made.versions) == {'numpy', 'h5py', 'tensorflow_datasets'}
  assert all(len(facts['sha256']) == 64 for facts in made.sources.values())
  assert sorted(made.sources) == [
    'FeatureData/i3d/feature.hdf5',
    'TextData/roberta_tiny_query_feat.hdf5',
    'TextData/tinytest.caption.txt',
    'TextData/tinytrain.caption.txt',
    'TextData/tinyval.caption.txt',
  ]
  release = open_corpus(dataclasses.replace(options, storage='release'))
  stored = _records(options)
  assert list(stored.splits) == list(release.splits)
  for one, other in zip(stored.describe(), release.describe(), strict=True):
    assert one == {**other, 'storage': 'records'}
  for name, split in stored.splits.items():
    twin = release.splits[name]
    for field in ('video_ids', 'caption_ids', 'captions'):
      assert getattr(split, field) == getattr(twin, field)
    numbers = (
      'caption_video', 'num_frames', 'num_words', 'durations', 'moments'
    )  # fmt: skip
    assert_same(
      {field: getattr(split, field) for field in numbers},
      {field: getattr(twin, field) for field in numbers},
    )
    # Indices have any order, and gaps.
    videos = np.random.default_rng(0).permutation(len(split.video_ids))
    captions = np.random.default_rng(0).permutation(len(split.captions))
    assert_same(split.read_videos(videos), twin.read_videos(videos))
    assert_same(split.read_captions(captions), twin.read_captions(captions))
    if clips == 'merged':
      np.testing.assert_array_equal(split.clip_plan, twin.clip_plan)
    else:
      assert split.clip_plan is twin.clip_plan is None


@pytest.mark.parametrize(
  'videos', ['v_c v_a v_f', 'v_a v_c v_f', 'v_a v_f v_b v_c']
)
def test_candidates_without_captions(
  content, options, tmp_path, assert_same, videos
):
  """Wherever they are in the list: the captions are those of v_a and v_f."""
  folder = content.write(tmp_path)
  (folder / 'TextData/tinyval.videos.txt').write_text(
    videos.replace(' ', '\n') + '\n'
  )
  prepare(options, progress=False)
  stored = _records(options).splits['val']
  release = open_corpus(dataclasses.replace(options, storage='release'))
  twin = release.splits['val']
  assert stored.video_ids == twin.video_ids == videos.split()
  rows = np.arange(len(videos.split()))
  assert_same(stored.read_videos(rows), twin.read_videos(rows))
  captions = np.arange(len(stored.captions))
  assert_same(stored.read_captions(captions), twin.read_captions(captions))


def test_reading_through_file_objects(content, options, tmp_path, assert_same):
  # Shards in a bucket are read like this.
  content.write(tmp_path)
  prepare(options, progress=False)
  split = _records(options).splits['train']
  expected = split.read_videos(range(5))
  split.source._reader._local = False
  assert_same(split.read_videos(range(5)), expected)
  with pytest.raises(DataError, match='truncated or damaged'):
    split.source._reader.read(0, 10**6, 4)


@pytest.mark.parametrize('workers', [1, 2])
def test_a_full_disk_is_noticed_first(
  content, options, tmp_path, monkeypatch, workers
):
  options = dataclasses.replace(options, num_workers=workers)
  content.write(tmp_path)
  usage = shutil.disk_usage(tmp_path)._replace(free=1000)
  monkeypatch.setattr(shutil, 'disk_usage', lambda _: usage)
  with pytest.raises(DataError, match=r'still need 0.0 GiB but the disk of'):
    prepare(options, progress=False)


def test_two_commands_prepare_once(content, options, tmp_path, monkeypatch):
  """The second command waits for the first and has no work left."""
  content.write(tmp_path)
  waits, found = threading.Event(), []
  write = preparing._write_one
  second = threading.Thread(
    target=lambda: found.append(prepare(options, progress=False))
  )

  def write_while_the_other_waits(*args):
    if not found and second.ident is None:
      second.start()
      assert waits.wait(60)
    assert threading.current_thread() is not second
    return write(*args)

  monkeypatch.setattr(
    folders._log, 'info', lambda text, *_: waits.set() if text else None
  )
  monkeypatch.setattr(preparing, '_write_one', write_while_the_other_waits)
  first = prepare(options, progress=False)
  second.join(60)
  assert found == [first]


def test_a_process_that_is_ended_is_one_sentence(
  content, options, tmp_path, monkeypatch
):
  content.write(tmp_path)
  monkeypatch.setattr(preparing, '_work', _die)
  several = dataclasses.replace(options, num_workers=2)
  with pytest.raises(DataError, match='was ended, as the system does when'):
    prepare(several, progress=False)


def _die(shard):
  os._exit(9)


@pytest.mark.parametrize('workers', [1, 2])
def test_a_read_only_disk_is_a_permission(
  content, options, tmp_path, monkeypatch, workers
):
  options = dataclasses.replace(options, num_workers=workers)
  content.write(tmp_path)

  def refuse(*_, **__):
    raise OSError(errno.EROFS, 'Read-only file system')

  monkeypatch.setattr(type(options.prepared), 'mkdir', refuse)
  with pytest.raises(PermissionError, match='Read-only'):
    prepare(options, progress=False)


def test_videos_are_spread_over_the_shards(content, options, tmp_path):
  content.write(tmp_path)
  manifest = prepare(options, progress=False)
  assert manifest.splits['train']['shard_lengths'] == [1, 2, 2]


def test_crc_is_the_one_of_tfrecord():
  # The record b'abc' as TensorFlow writes it.
  framed, start = records.frame_record(b'abc')
  assert start == 12
  assert framed.hex() == '0300000000000000b099490e6162636e57f121'


@pytest.mark.parametrize('clips', ['pooled', 'merged'])
def test_several_processes_write_the_same_bytes(tmp_path, clips):
  write_corpus(
    tmp_path, train_videos=12, val_videos=3, test_videos=2, frames=(3, 9)
  )
  options = DataOptions(
    str(tmp_path), 'simulated', clips=clips, shard_videos=4, num_workers=1
  )
  prepare(options, progress=False)
  alone = _contents(options)
  plan = _records(options).splits['train'].clip_plan
  shutil.rmtree(options.prepared)
  prepare(dataclasses.replace(options, num_workers=2), progress=False)
  assert _contents(options) == alone
  assert len(alone) == 5
  again = _records(options).splits['train'].clip_plan
  np.testing.assert_array_equal(again, plan)


def test_another_plan_leaves_files_alone_that_are_not_its_own(tmp_path):
  write_corpus(tmp_path, train_videos=4, val_videos=2, test_videos=2)
  options = DataOptions(str(tmp_path), 'simulated', num_workers=1)
  prepare(options, progress=False)
  folder = preparing.dataset_dir(options)
  (folder / 'pieces').mkdir(exist_ok=True)
  mine = [folder / 'pieces' / 'a.npz', folder / 'my.tfrecord-1']
  for path in mine:
    path.touch()
  prepare(dataclasses.replace(options, shard_videos=2), progress=False)
  assert all(path.exists() for path in mine)


def test_a_second_run_does_nothing(content, options, tmp_path, monkeypatch):
  content.write(tmp_path)
  first = prepare(options, progress=False)
  monkeypatch.setattr(preparing, 'open_release_corpus', None)
  assert prepare(options, progress=False) == first


def test_a_start_verifies_the_records_once(
  content, options, tmp_path, monkeypatch
):
  content.write(tmp_path)
  prepare(options, progress=False)
  calls = []
  for module in (preparing, opening):
    monkeypatch.setattr(
      module, 'verified', lambda given: calls.append(given) or verified(given)
    )
  manifest = prepare(options, progress=False)
  assert open_corpus(options, manifest).storage == 'records'
  assert calls == [options]


def test_finished_shards_are_kept(content, options, tmp_path, monkeypatch):
  content.write(tmp_path)
  write_one, written = preparing._write_one, []

  def interrupted(split, serializer, shard):
    if len(written) == 3:
      raise KeyboardInterrupt
    written.append(shard.path)
    return write_one(split, serializer, shard)

  monkeypatch.setattr(preparing, '_write_one', interrupted)
  with pytest.raises(KeyboardInterrupt):
    prepare(options, progress=False)
  with pytest.raises(DataError, match='no prepared records'):
    _records(options)
  assert open_corpus(options).storage == 'release'
  times = {path: os.stat(path).st_mtime_ns for path in written}
  # A killed process leaves such files.
  partial = [dataset_dir(options) / n for n in ('.7.partial.a', '.tmp-0-a')]
  for path in partial:
    path.write_bytes(b'half')
  monkeypatch.setattr(preparing, '_write_one', write_one)
  prepare(options, progress=False)
  assert {path: os.stat(path).st_mtime_ns for path in written} == times
  assert not any(path.exists() for path in partial)
  assert _records(options).storage == 'records'


def test_changed_sources_start_afresh(content, options, tmp_path, monkeypatch):
  content.write(tmp_path)
  monkeypatch.setattr(preparing, '_finish', lambda *_: None)
  prepare(options, progress=False)
  before = _contents(options)
  content.videos['v_b'] += 1
  content.write(tmp_path)
  monkeypatch.undo()
  prepare(options, progress=False)
  after = _contents(options)
  assert before.keys() == after.keys()
  assert before != after


_SCRIPT = """
import sys
import threading
from data_pipeline.options import DataOptions
from data_pipeline.prepare import prepare
from data_pipeline.resident import resident_source
if __name__ == '__main__':
  prepare(DataOptions(
    sys.argv[1], 'simulated', shard_videos=4, num_workers=int(sys.argv[2])))
"""


@pytest.mark.parametrize(
  ('number', 'workers'),
  [(signal.SIGKILL, 1), (signal.SIGTERM, 2)],
)
def test_killed_preparation_loses_no_finished_shard(tmp_path, number, workers):
  write_corpus(
    tmp_path,
    train_videos=200,
    val_videos=4,
    test_videos=4,
    frames=(50, 90),
    visual_width=512,
  )
  options = DataOptions(
    str(tmp_path), 'simulated', shard_videos=4, num_workers=1
  )
  script = tmp_path / 'script.py'
  script.write_text(_SCRIPT)
  root = pathlib.Path(preparing.__file__).parent.parent
  process = subprocess.Popen(
    [sys.executable, str(script), str(tmp_path), str(workers)],
    env={**os.environ, 'PYTHONPATH': str(root)},
    stderr=subprocess.DEVNULL,
  )
  pieces = dataset_dir(options) / 'pieces'
  deadline = time.time() + 60
  while len(list(pieces.glob('*.npz'))) < 3 and time.time() < deadline:
    assert process.poll() is None, 'it was too fast, or failed'
    time.sleep(0.005)
  process.send_signal(number)
  assert process.wait() != 0
  time.sleep(0.5)  # workers notice that their parent is gone
  assert not manifest_path(options).exists()
  kept = {
    path: path.stat().st_mtime_ns
    for path in map(pathlib.Path, dataset_dir(options).glob('*.tfrecord-*'))
  }
  assert 3 <= len(kept) < 52
  # The last shard of a worker may lack its piece of the index.
  prepare(options, progress=False)
  again = [p for p, was in kept.items() if p.stat().st_mtime_ns != was]
  assert len(again) <= workers
  corpus = open_corpus(dataclasses.replace(options, verify='full'))
  assert corpus.storage == 'records'
  resident_source(corpus.splits['train'])


@pytest.mark.parametrize(
  ('name', 'expected'),
  [('tvr', 'tvr'), ('My-Set', 'my_set'), ('3x', 'corpus_3x')],
)
def test_dataset_names(name, expected):
  assert dataset_name(DataOptions(collection=name)) == expected


@pytest.mark.filterwarnings('ignore::Warning')
@pytest.mark.parametrize(
  ('how', 'clips'),
  [('load', 'pooled'), ('directory', 'pooled'), ('load', 'merged')],
)
def test_tensorflow_datasets_reads_the_records(
  content, options, tmp_path, how, clips
):
  pytest.importorskip('tensorflow')
  import tensorflow_datasets as tfds

  options = dataclasses.replace(options, clips=clips)
  plan = ['clip_groups', 'clip_sizes'] if clips == 'merged' else []
  content.write(tmp_path)
  prepare(options, progress=False)
  if how == 'load':
    data = tfds.load('tiny', data_dir=str(options.prepared), split='train')
  else:
    builder = tfds.builder_from_directory(str(dataset_dir(options)))
    assert {k: s.num_examples for k, s in builder.info.splits.items()} == {
      'train': 5,
      'val': 2,
      'test': 1,
    }
    data = builder.as_dataset(split='train')
  split = _records(options).splits['train']
  examples = list(tfds.as_numpy(data))
  ids = [example['video_id'].decode() for example in examples]
  assert ids == split.video_ids
  videos = split.read_videos(range(5))
  for row, example in enumerate(examples):
    captions = np.flatnonzero(split.caption_video == row)
    words = split.read_captions(captions)
    assert sorted(example) == [
      'caption_ids', 'captions', 'clip_features', *plan, 'duration',
      'frame_features', 'moments', 'num_frames', 'num_words', 'video_id',
      'word_features',
    ]  # fmt: skip
    assert example['num_frames'] == split.num_frames[row]
    assert [i.decode() for i in example['caption_ids']] == [
      split.caption_ids[i] for i in captions
    ]
    assert [t.decode() for t in example['captions']] == [
      split.captions[i] for i in captions
    ]
    for name in ('clip_features', *plan):
      np.testing.assert_array_equal(example[name], videos[name][row])
    np.testing.assert_array_equal(
      example['frame_features'],
      videos['frame_features'][row][videos['frame_mask'][row]],
    )
    np.testing.assert_array_equal(
      example['word_features'], words['word_features'][words['word_mask']]
    )
    assert list(example['num_words']) == list(split.num_words[captions])
    assert np.isnan(example['moments']).all()
    assert example['moments'].shape == (len(captions), 2)
