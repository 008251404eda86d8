"""Captions of extracted videos."""

import json

import h5py
import numpy as np
import pytest

from data_pipeline.errors import DataError
from data_pipeline.moments import Moments
from data_pipeline.options import DataOptions
from dreamprvr_jax.archive import encoders
from dreamprvr_jax.archive.extraction.captions import write_captions

ENCODER = encoders.build('embedded')
ROWS = [
  {'id': 'a', 'captions': ['a dog', 'a cat'], 'timestamps': [[1, 2], None]},
  {'id': 'other', 'file': 'b 1.mp4', 'captions': ['birds'], 'split': 'val'},
  {'file': 'c.mp4', 'captions': ['rain']},
  {'id': 'gone', 'captions': ['nothing']},
]
DURATIONS = {'a': 4.0, 'b_1': 5.0, 'c': 6.0, 'd': 7.0}


def write(tmp_path, rows, durations=DURATIONS):
  path = tmp_path / 'captions.jsonl'
  path.write_text('\n'.join(map(json.dumps, rows)))
  folder = tmp_path / 'root' / 'mine'
  written = write_captions(
    str(path), folder, 'mine', ENCODER, durations, progress=False
  )
  return folder, written


def test_captions(tmp_path):
  folder, written = write(tmp_path, ROWS)
  assert written.left_out == 1
  assert sum(written.splits.values()) == 4
  with h5py.File(folder / 'TextData/embedded_mine_query_feat.hdf5') as file:
    assert set(file) == {'a#enc#0', 'a#enc#1', 'b_1#enc#0', 'c#enc#0'}
    np.testing.assert_array_equal(file['a#enc#1'], ENCODER.words('a cat'))
  val = (folder / 'TextData/mineval.caption.txt').read_text()
  assert 'b_1#enc#0 birds' in val
  found = Moments(DataOptions(root=str(folder.parent), collection='mine'))
  durations = found.join([], ['a', 'b_1', 'c', 'd'])[1]
  np.testing.assert_array_equal(durations, [4, 5, 6, np.nan])


class Shared(type(ENCODER)):
  """An encoder that compares sentences with pictures."""

  shared = True

  def sentence(self, text):
    return np.full(6, len(text), np.float32)


def test_vectors_of_sentences(tmp_path, monkeypatch):
  monkeypatch.setitem(globals(), 'ENCODER', Shared())
  folder, _ = write(tmp_path, ROWS)
  path = folder / 'TextData' / 'sentence_feats.hdf5'
  with h5py.File(path) as file:
    assert set(file) == {'a#enc#0', 'a#enc#1', 'b_1#enc#0', 'c#enc#0'}
    assert {row.shape for row in file.values()} == {(6,)}
    np.testing.assert_array_equal(file['b_1#enc#0'], np.full(6, 5, np.float32))
    assert file['c#enc#0'].dtype == np.float32
  # Other captions have none, so the former file must not stay.
  monkeypatch.undo()
  write(tmp_path, ROWS)
  assert not path.exists()


def test_several_right_videos(tmp_path):
  row = {'query': 'q', 'text': 'rain', 'videos': ['gone', 'c'], 'span': [1, 2]}
  folder, _ = write(tmp_path, [row])
  content = json.loads((folder / 'mine.moments.json').read_text())
  # The span belonged to the missing video.
  assert content['c']['timestamps'] == [None]
  assert content['c']['duration'] == 6


def test_captions_of_other_videos(tmp_path):
  with pytest.raises(DataError, match='it names gone, there are a, b_1, c'):
    write(tmp_path, ROWS[3:])


def test_captions_of_a_table(tmp_path):
  path = tmp_path / 'captions.csv'
  path.write_text(
    'Video,File,Caption,Start,End\na,,"a dog, barking",1,2\na,,a cat,,\n'
    'other,b 1.mp4,birds,,\n,c.mp4,rain,,\ngone,,nothing,,\n'
  )
  folder = tmp_path / 'root' / 'mine'
  written = write_captions(
    str(path), folder, 'mine', ENCODER, DURATIONS, progress=False
  )
  assert written.left_out == 1
  with h5py.File(folder / 'TextData/embedded_mine_query_feat.hdf5') as file:
    assert set(file) == {'a#enc#0', 'a#enc#1', 'b_1#enc#0', 'c#enc#0'}
  content = json.loads((folder / 'mine.moments.json').read_text())
  assert content['a']['timestamps'] == [[1, 2], None]
