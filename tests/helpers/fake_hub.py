"""A stand-in for huggingface_hub: its hub is a folder on disk."""

import fnmatch
import pathlib
import shutil
import types


class HTTPError(Exception):
  """The error that the HTTP library raises without a network."""


class HfHubHTTPError(HTTPError, OSError):
  """See huggingface_hub.errors, also for the next classes."""


class RepositoryNotFoundError(HfHubHTTPError):
  pass


class GatedRepoError(RepositoryNotFoundError):
  pass


class RevisionNotFoundError(HfHubHTTPError):
  pass


class EntryNotFoundError(Exception):
  pass


class LocalEntryNotFoundError(EntryNotFoundError):
  pass


class HFValidationError(ValueError):
  pass


class OfflineModeIsEnabled(ConnectionError):
  pass


class FakeHub:
  """The hub, with the functions that we call.

  Attributes:
    root: The folder of the repositories, 'user/name'.
    public: Names of the public repositories.
    problem: The exception that every call raises, if set.
    calls: The number of calls.
  """

  def __init__(self, root):
    self.root = pathlib.Path(root)
    self.public = set()
    self.problem = None
    self.calls = 0
    self.HfApi = lambda: self
    self.errors = types.SimpleNamespace(
      **{
        kind.__name__: kind
        for kind in (
          HfHubHTTPError,
          RepositoryNotFoundError,
          GatedRepoError,
          RevisionNotFoundError,
          EntryNotFoundError,
          LocalEntryNotFoundError,
          HFValidationError,
          OfflineModeIsEnabled,
        )
      }
    )

  def snapshot_download(self, repo_id, *, revision=None, allow_patterns=None):
    self._ask()
    if not (self.root / repo_id).exists():
      raise RepositoryNotFoundError('404 Client Error')
    if revision not in (None, 'main'):
      raise RevisionNotFoundError('404 Client Error')
    place = self.root / 'cache' / repo_id
    return str(self._copied(self.root / repo_id, place, allow_patterns))

  def create_repo(self, repo_id, *, private=False, exist_ok=False):
    self._ask()
    if not (self.root / repo_id).exists():
      (self.root / repo_id).mkdir(parents=True)
      if not private:
        self.public.add(repo_id)
    else:
      assert exist_ok

  def model_info(self, repo_id):
    self._ask()
    return types.SimpleNamespace(private=repo_id not in self.public)

  def upload_folder(
    self, *, repo_id, folder_path, allow_patterns=None, commit_message=None
  ):
    self._ask()
    assert commit_message
    self._copied(folder_path, self.root / repo_id, allow_patterns)

  def _ask(self):
    self.calls += 1
    if self.problem:
      raise self.problem

  def _copied(self, source, target, patterns):
    target.mkdir(parents=True, exist_ok=True)
    for path in pathlib.Path(source).iterdir():
      if any(fnmatch.fnmatch(path.name, pattern) for pattern in patterns):
        shutil.copy(path, target)
    return target
