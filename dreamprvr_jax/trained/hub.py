"""Trained models by name: downloaded from the Hugging Face hub, pushed to it.

A model on the hub is three files: weights.safetensors, config.json and the
model card README.md. The library `huggingface_hub` does the transfers; it is
imported, and the network is used, only when a model is asked for by name.
"""

import contextlib
import os
import pathlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

from dreamprvr_jax import checkpoints, folders
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.models.contract import Model
from dreamprvr_jax.trained import card, inference

FILES = (checkpoints.CONFIG_FILE, inference.SAFETENSORS_FILE, 'README.md')
_NAME = re.compile(r'[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*')
# Settings that are paths of the machine that trained the model.
_PATHS = (('data', 'root'), ('data', 'prepared'), (None, 'compilation_cache'))


def load(
  source: os.PathLike[str] | str,
  config: Mapping[str, Any] | None = None,
  *,
  revision: str | None = None,
) -> tuple[Model, Any]:
  """Returns (model, variables) of a folder, or of a model on the hub.

  Use: `model.apply(variables, words, word_mask, method='encode_query')`, and
  likewise `encode_video` and `score`.

  Args:
    source: A training run's workdir (its best epoch is taken), a folder that
      an import, an export or a download from the hub wrote, or, if there is
      no such folder, the name of a model on the hub, 'user/name'.
    config: What the model is built from instead of the stored config.
    revision: Branch, tag or commit of a model on the hub; the newest if None.

  Raises:
    UserError: If there is no such model, it cannot be downloaded, or
      `revision` is given with a folder.
    CheckpointError: If the weights cannot be read or do not fit the config.
  """
  folder = pathlib.Path(source)
  if not folder.exists() and _NAME.fullmatch(str(source)):
    folder = _download(str(source), revision)
  elif revision is not None:
    raise UserError(
      f'revision {revision!r} is given with {source}, which is not the name of '
      'a model on the hub (user/name); leave the revision out'
    )
  return inference.load(folder, config)


def push(
  directory: os.PathLike[str] | str,
  repo: str,
  *,
  private: bool = False,
  license: str = 'apache-2.0',
) -> str:
  """Uploads a trained model with a model card; returns its address.

  The weights are those of `load(directory)`. Of the config, what the model
  was built from and trained with is uploaded. Paths, the command line and
  everything about the machine stay here. The repository is made if needed.
  Credentials are those of `huggingface_hub` (its `hf auth login`, HF_TOKEN).

  Args:
    directory: A training run's workdir, an import or an export.
    repo: 'user/name'.
    private: Only its owner can see a new repository. A public repository of
      this name is refused.
    license: Licence of the weights in the words of the hub.

  Raises:
    UserError: If the library is missing, the hub refuses or cannot be reached.
    CheckpointError: If there is no readable checkpoint.
  """
  if not _NAME.fullmatch(repo):
    raise UserError(
      f'{repo!r} is not a name on the hub; expected user/name, such as '
      'anna/dreamprvr-tvr'
    )
  hub = _library(f'push to {repo}')
  with tempfile.TemporaryDirectory() as place:
    folder = pathlib.Path(place)
    inference.export(directory, folder)
    stored = portable(checkpoints.read_config(folder))
    folders.write_json(folder / checkpoints.CONFIG_FILE, stored)
    text = card.written(repo, stored, card.results_of(directory), license)
    (folder / 'README.md').write_text(text, encoding='utf-8')
    with _explained(hub, repo, 'uploaded to'):
      api = hub.HfApi()
      api.create_repo(
        repo, exist_ok=True, **({'private': True} if private else {})
      )
      if private and not api.model_info(repo).private:
        raise UserError(
          f'{repo} is public on the hub, and a private upload was asked for; '
          'make it private there, or give another name'
        )
      api.upload_folder(
        repo_id=repo,
        folder_path=folder,
        allow_patterns=list(FILES),
        commit_message='Upload weights, config and model card',
      )
  return f'https://huggingface.co/{repo}'


def portable(stored: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the part of a stored config that may be published.

  Args:
    stored: A checkpoint's config.json.
  """
  config = {
    key: dict(value) if isinstance(value, Mapping) else value
    for key, value in stored['config'].items()
  }
  for section, key in _PATHS:
    values = config if section is None else config.get(section, {})
    if key in values:
      values[key] = ''
  kept = {
    'config': _without_paths(config),
    'visual_width': stored['visual_width'],
    'text_width': stored['text_width'],
  }
  for key in ('encoder', 'versions'):
    if key in stored:
      kept[key] = dict(stored[key])
  # The encoder may have been loaded from a folder; its weights' digest stays.
  model = kept.get('encoder', {}).get('model', '')
  if model and not _NAME.fullmatch(model):
    kept['encoder']['model'] = ''
  return kept


def _without_paths(value: Any) -> Any:
  """Returns a config in which texts that look like paths are empty."""
  if isinstance(value, Mapping):
    return {key: _without_paths(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [_without_paths(item) for item in value]
  if isinstance(value, str) and re.search(r'[/\\~]', value):
    return ''
  return value


def _download(name: str, revision: str | None) -> pathlib.Path:
  """Returns the folder with the files of a model on the hub."""
  hub = _library(f'load {name}, which is no folder here,')
  with _explained(hub, name, 'downloaded from'):
    place = hub.snapshot_download(
      name, revision=revision, allow_patterns=list(FILES)
    )
  folder = pathlib.Path(place)
  for file in (checkpoints.CONFIG_FILE, inference.SAFETENSORS_FILE):
    if not (folder / file).exists():
      raise UserError(
        f'{name} on the hub has no {file}; give a model that was pushed by '
        'dreamprvr'
      )
  stored = checkpoints.read_config(folder)
  if not isinstance(stored.get('config'), dict) or not all(
    isinstance(stored.get(key), int) for key in ('visual_width', 'text_width')
  ):
    raise UserError(
      f'{checkpoints.CONFIG_FILE} of {name} on the hub is not that of a model '
      'of this package (config, visual_width, text_width); give a model that '
      'was pushed by dreamprvr'
    )
  return folder


def _library(purpose: str) -> Any:
  """Returns huggingface_hub."""
  try:
    import huggingface_hub
    import huggingface_hub.errors
  except ImportError as error:
    raise UserError(
      f'to {purpose} the package huggingface_hub is needed ({error}); install '
      "it: pip install 'dreamprvr_jax[hub]' or pip install huggingface_hub"
    ) from None
  return huggingface_hub


@contextlib.contextmanager
def _explained(hub: Any, name: str, done: str) -> Iterator[None]:
  """Turns the errors that huggingface_hub documents into one sentence."""
  errors = hub.errors
  # Failures of the network come as the class of the HTTP library that all the
  # hub's own errors extend, requests' being OSErrors.
  network = (
    OSError,
    errors.EntryNotFoundError,
    *errors.HfHubHTTPError.__bases__,
  )
  try:
    yield
  except errors.GatedRepoError as error:
    raise UserError(
      f'access to {name} on the hub is restricted; ask for it at '
      f'https://huggingface.co/{name}, then log in: hf auth login'
    ) from error
  except errors.RepositoryNotFoundError as error:
    raise UserError(
      f'{name} is neither a folder here nor a model on the hub that you may '
      'see; check the name, and for a private one log in: hf auth login'
    ) from error
  except errors.RevisionNotFoundError as error:
    raise UserError(
      f'{name} on the hub does not have this revision; give a branch, a tag or '
      'a commit that it has'
    ) from error
  except errors.HFValidationError as error:
    raise UserError(
      f'{name!r} is not a name on the hub ({_first_line(error)}); expected '
      'user/name'
    ) from error
  except errors.OfflineModeIsEnabled as error:
    raise UserError(
      f'{name} cannot be {done} the hub: HF_HUB_OFFLINE is set; unset it'
    ) from error
  except network as error:
    raise UserError(
      f'{name} cannot be {done} the hub ({_first_line(error)}); check the '
      'network and that you are logged in (hf auth login), then try again'
    ) from error


def _first_line(error: BaseException) -> str:
  lines = str(error).strip().splitlines()
  return lines[0][:200] if lines else type(error).__name__
