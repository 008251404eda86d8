"""The features that an index was made from, which its manifest remembers."""

from typing import Any

from ml_collections import ConfigDict

from dreamprvr_jax.archive.index.manifest import Manifest
from dreamprvr_jax.archive.jobs.indexing import anywhere
from dreamprvr_jax.cli import data
from dreamprvr_jax.errors import UserError

# Keys of `config.data` that say which features are read.
_KEYS = ('root', 'collection', 'feature', 'text_feature', 'prepared')


def origin_of(config: ConfigDict, *, all_videos: bool) -> dict[str, Any]:
  """Returns the `archive` of the manifest of an index of features.

  Args:
    config: The config of the command.
    all_videos: Whether every video of the features is taken, not a split.
  """
  found = anywhere(data.data_options(config))
  features = {key: config.data[key] for key in _KEYS}
  features |= {'root': found.root, 'prepared': found.prepared_dir}
  return {'features': {**features, 'all_videos': all_videos}}


def with_origin(
  config: ConfigDict, directory: str, *, is_named: bool
) -> ConfigDict:
  """Returns the config of --append with the features of the index, locked.

  A checkpoint's own config names the features that it was trained on, which
  may be others.

  Args:
    config: The config of the checkpoint.
    directory: The index.
    is_named: Whether the command line names features.

  Raises:
    UserError: If the index does not say which features it was made from, and
      the command line names none.
  """
  features = _features_of(Manifest.read(directory))
  if features is None:
    if is_named:
      return config
    raise UserError(
      f'{directory} does not say which features it was made from; name them '
      'with --config.data.root=DIR, or --config=configs/NAME.py as well'
    )
  config = config.copy_and_resolve_references().unlock()
  for key in _KEYS:
    config.data[key] = str(features[key])
  return config.lock()


def takes_all(config: ConfigDict, manifest: Manifest) -> bool:
  """Returns whether --append takes every video, as the index was made, though
  --all_videos is not given: from the same features."""
  features = _features_of(manifest)
  if features is None or not features.get('all_videos'):
    return False
  return all(config.data[key] == features[key] for key in _KEYS)


def _features_of(manifest: Manifest) -> dict[str, Any] | None:
  """Returns what a manifest says of its features; None if not enough."""
  found = manifest.archive.get('features')
  return found if isinstance(found, dict) and found.keys() >= {*_KEYS} else None
