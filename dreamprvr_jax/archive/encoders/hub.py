"""The files of a model: a folder here, or a download from the hub."""

import logging
import pathlib
import re
from collections.abc import Iterable
from typing import Any

from data_pipeline.errors import DataError
from dreamprvr_jax.archive.encoders import weights

FILES = (
  'config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'spiece.model',
  'preprocessor_config.json',
  'processor_config.json',
  weights.ONE,
  weights.INDEX,
  'model-*.safetensors',
)
# Models whose newest revision has only pickled weights -> the revision that the
# hub made of it with safetensors files.
CONVERTED = {'openai/clip-vit-base-patch32': 'refs/pr/15'}
_NAME = re.compile(r'[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*')
_COMMIT = re.compile(r'[0-9a-f]{40}')
_FOLDER_LAYOUT = (
  'a folder in the layout of the hub (config.json, model.safetensors, '
  'tokenizer.json, preprocessor_config.json)'
)


def fetch(model: str, revision: str = '') -> tuple[pathlib.Path, str]:
  """Returns a model's folder and its commit on the hub ('' of a folder here).

  Only the files that are used are downloaded, once.

  Args:
    model: A folder, or a name on the hub, perhaps as NAME@REVISION.
    revision: Branch, tag or commit on the hub; '' for the newest.

  Raises:
    DataError: If there is no such model, or it cannot be downloaded.
  """
  if pathlib.Path(model).is_dir():
    return pathlib.Path(model).absolute(), ''
  name, _, named = model.partition('@')
  if not _NAME.fullmatch(name):
    raise DataError(
      f'the model {model} is neither a folder here nor a name on the hub '
      '(user/name); if its folder has moved, name the new one: '
      '--encoder=NAME:FOLDER'
    )
  revision = revision or named
  folder = _download(name, revision)
  if not _has_weights(folder) and not named and name in CONVERTED:
    folder = _download(name, CONVERTED[name])
  return folder, folder.name if _COMMIT.fullmatch(folder.name) else revision


def _download(name: str, revision: str) -> pathlib.Path:
  """Returns the folder of a snapshot; a commit that is there needs no
  network."""
  hub = _library(name)
  options: dict[str, Any] = {'allow_patterns': list(FILES)}
  if revision:
    options['revision'] = revision
  log = logging.getLogger('huggingface_hub')
  former = log.level
  # What fails is told by our sentence alone.
  log.setLevel(logging.CRITICAL)
  try:
    if _COMMIT.fullmatch(revision):
      there = _there(hub, name, options)
      if there is not None:
        return there
    return pathlib.Path(hub.snapshot_download(name, **options))
  except hub.errors.GatedRepoError:
    raise DataError(
      f'access to the model {name} is restricted; ask for it at '
      f'https://huggingface.co/{name}, then log in: hf auth login'
    ) from None
  except hub.errors.RepositoryNotFoundError:
    raise DataError(
      f'the model {name} is neither a folder here nor on the hub, or it is '
      'private; check the name, or log in: hf auth login'
    ) from None
  except hub.errors.RevisionNotFoundError:
    raise DataError(
      f'the model {name} has no revision {revision!r} on the hub; give a '
      'branch, tag or commit that it has, after an @'
    ) from None
  except hub.errors.LocalEntryNotFoundError:
    raise DataError(
      f'the model {name} was not downloaded before, and the hub cannot be '
      f'reached; check the network, or give {_FOLDER_LAYOUT}'
    ) from None
  except _failures(hub) as error:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    raise DataError(
      f'the model {name} cannot be downloaded from the hub ({lines[0][:200]}); '
      f'check the network, or give {_FOLDER_LAYOUT}'
    ) from None
  finally:
    log.setLevel(former)


def _there(hub: Any, name: str, options: dict[str, Any]) -> pathlib.Path | None:
  """Returns the folder of a commit if it was downloaded before."""
  try:
    found = hub.snapshot_download(name, **options, local_files_only=True)
  except _failures(hub):
    return None
  folder = pathlib.Path(found)
  return folder if _has_weights(folder) else None


def _has_weights(folder: pathlib.Path) -> bool:
  return any((folder / name).exists() for name in (weights.ONE, weights.INDEX))


def _failures(hub: Any) -> tuple[type[Exception], ...]:
  """Returns what the library is documented to raise.

  Failures of the network have the class of the HTTP library that all the hub's
  own errors extend.
  """
  errors = hub.errors
  found: Iterable[type] = (
    OSError,
    errors.EntryNotFoundError,
    errors.HFValidationError,
    errors.OfflineModeIsEnabled,
    *errors.HfHubHTTPError.__bases__,
  )
  return tuple(kind for kind in found if issubclass(kind, Exception))


def _library(name: str) -> Any:
  try:
    import huggingface_hub
    import huggingface_hub.errors
  except ImportError as error:
    raise DataError(
      f'to download the model {name}, which is no folder here, huggingface_hub '
      f'is needed ({error}); install it: pip install '
      "'dreamprvr_jax[hub]', or give a folder"
    ) from None
  return huggingface_hub
