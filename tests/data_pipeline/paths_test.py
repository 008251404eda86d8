"""Tests of the paths of prepared records."""

import pytest
from etils import epath

from data_pipeline import paths
from data_pipeline.options import DataOptions


def test_names_that_tensorflow_datasets_allows():
  names = [
    paths.dataset_name(DataOptions(collection=name))
    for name in ('ActivityNet', 'my videos-2', '2024')
  ]
  assert names == ['activitynet', 'my_videos_2', 'corpus_2024']


@pytest.mark.parametrize('remote', [False, True])
def test_a_file_is_replaced_in_one_step(tmp_path, monkeypatch, remote):
  monkeypatch.setattr(paths, 'is_remote', lambda _: remote)
  path = epath.Path(tmp_path) / 'a.npz'
  path.write_text('old')

  def fail():
    with paths.replacing(path) as partial:
      partial.write_text('half')
      raise ZeroDivisionError

  with pytest.raises(ZeroDivisionError):
    fail()
  assert path.read_text() == 'old'
  with paths.replacing(path) as partial:
    partial.write_text('new')
    assert path.read_text() == 'old'
  assert path.read_text() == 'new'
  assert [p.name for p in tmp_path.iterdir()] == ['a.npz']


def test_partial_files_of_killed_processes_are_removed(tmp_path):
  path = epath.Path(tmp_path) / 'a.npz'
  path.touch()
  for remote in (False, True):
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(paths, 'is_remote', lambda _, remote=remote: remote)
      with paths.replacing(path) as partial:
        partial.write_text('new')
        (tmp_path / f'{partial.name}x').touch()
  assert len(list(tmp_path.iterdir())) == 3
  paths.remove_partial_files(epath.Path(tmp_path))
  assert [p.name for p in tmp_path.iterdir()] == ['a.npz']
