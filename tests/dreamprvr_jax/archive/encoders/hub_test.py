"""Models by name: what is downloaded, and what is said when it fails."""

import logging
import sys

import pytest

from data_pipeline.errors import DataError
from dreamprvr_jax.archive.encoders import hub
from tests.helpers import fake_hub

COMMIT = 'a' * 40
NAME = 'google/siglip2-tiny'


class Hub(fake_hub.FakeHub):
  """Its snapshots lie in folders named after their commits."""

  def __init__(self, root):
    super().__init__(root)
    self.revisions = {None: COMMIT}
    self.cached = set()

  def snapshot_download(
    self, repo_id, *, revision=None, allow_patterns, local_files_only=False
  ):
    if local_files_only and revision not in self.cached:
      raise fake_hub.LocalEntryNotFoundError('not in the cache')
    if not local_files_only:
      logging.getLogger('huggingface_hub').warning('Retrying in 1s')
      self._ask()
      if not (self.root / repo_id).exists():
        raise fake_hub.RepositoryNotFoundError('404 Client Error')
      if revision not in self.revisions:
        raise fake_hub.RevisionNotFoundError('404 Client Error')
    commit = self.revisions.get(revision, revision)
    source = self.root / repo_id / (revision or 'main').replace('/', '-')
    return str(self._copied(source, self.root / commit, allow_patterns))


@pytest.fixture
def fake(tmp_path, monkeypatch):
  found = Hub(tmp_path)
  monkeypatch.setitem(sys.modules, 'huggingface_hub', found)
  monkeypatch.setitem(sys.modules, 'huggingface_hub.errors', found.errors)
  return found


def add(fake, name, revision, *files):
  place = fake.root / name / revision
  place.mkdir(parents=True)
  for file in files:
    (place / file).write_text(file)


def test_a_folder_needs_no_library(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'model').mkdir()
  assert hub.fetch('model') == (tmp_path / 'model', '')
  with pytest.raises(DataError, match=r'huggingface_hub is needed.*\[hub\]'):
    hub.fetch(NAME)
  with pytest.raises(DataError, match='neither a folder here nor a name on'):
    hub.fetch('../moved/model')


def test_only_the_files_that_are_used(fake):
  used = 'config.json', 'model.safetensors', 'tokenizer.json'
  more = 'model-00001-of-00002.safetensors', 'model.safetensors.index.json'
  others = 'pytorch_model.bin', 'tf_model.h5', 'open_clip_model.safetensors'
  add(fake, NAME, 'main', *used, *more, *others)
  folder, commit = hub.fetch(NAME)
  assert commit == COMMIT
  assert {path.name for path in folder.iterdir()} == {*used, *more}


def test_a_commit_that_is_there_needs_no_network(fake):
  add(fake, NAME, COMMIT, 'config.json', 'model.safetensors')
  fake.cached.add(COMMIT)
  fake.problem = OSError('no network')
  assert hub.fetch(NAME, COMMIT)[1] == COMMIT
  assert fake.calls == 0


def test_revisions(fake):
  add(fake, NAME, 'refs-pr-3', 'config.json', 'model.safetensors')
  fake.revisions['refs/pr/3'] = 'b' * 40
  assert hub.fetch(f'{NAME}@refs/pr/3')[1] == 'b' * 40
  with pytest.raises(DataError, match="no revision 'v9'"):
    hub.fetch(f'{NAME}@v9')


def test_a_model_whose_newest_revision_has_only_pickles(fake):
  name, revision = next(iter(hub.CONVERTED.items()))
  add(fake, name, 'main', 'config.json', 'pytorch_model.bin')
  file = revision.replace('/', '-')
  add(fake, name, file, 'config.json', 'model.safetensors')
  fake.revisions[revision] = 'b' * 40
  folder, commit = hub.fetch(name)
  assert commit == 'b' * 40
  assert (folder / 'model.safetensors').exists()


@pytest.mark.parametrize(
  ('problem', 'sentence'),
  [
    (
      fake_hub.HTTPError('Name not known\nmore'),
      r'downloaded.*\(Name not known',
    ),
    (OSError('disk full'), r'\(disk full\); check the network, or give a'),
    (fake_hub.OfflineModeIsEnabled('offline'), r'\(offline\)'),
    (fake_hub.EntryNotFoundError('not there'), r'\(not there\)'),
    (fake_hub.LocalEntryNotFoundError('x'), 'hub cannot be reached'),
    (fake_hub.GatedRepoError('gated'), 'is restricted; ask for it'),
  ],
)
def test_one_sentence_and_nothing_of_the_library(
  problem, sentence, fake, caplog
):
  fake.problem = problem
  with pytest.raises(DataError, match=sentence) as found:
    hub.fetch(NAME)
  assert found.value.__suppress_context__
  assert not caplog.messages
  with pytest.raises(DataError, match=sentence):
    hub.fetch(NAME, COMMIT)


def test_a_name_that_is_not_there(fake):
  with pytest.raises(
    DataError, match=f'{NAME} is neither a folder here nor on'
  ):
    hub.fetch(NAME)


def test_an_error_of_the_program_stays(fake):
  fake.problem = TypeError('a mistake')
  with pytest.raises(TypeError):
    hub.fetch(NAME)
