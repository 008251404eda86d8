"""The config of an index that follows folders of videos.

It needs no --config: what an index was made with is in its manifest.
"""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from absl.flags import FlagValues
from ml_collections import ConfigDict

from configs import common
from dreamprvr_jax.archive.index.manifest import MANIFEST, Manifest
from dreamprvr_jax.cli.key_sets import MACHINE
from dreamprvr_jax.errors import UserError

# Keys of `config.archive` that a manifest stores.
KEYS = ('fps', 'part_seconds', 'overlap_seconds')


def manifest_of(directory: str) -> Manifest | None:
  """Returns the manifest of an index; None if there is none yet.

  Raises:
    UserError: If it cannot be read.
  """
  path = pathlib.Path(directory) / MANIFEST
  if not directory or not (path.exists() or path.is_symlink()):
    return None
  return Manifest.read(directory)


def follows_folders(manifest: Manifest | None) -> bool:
  """Returns whether an index was made with --videos."""
  return manifest is not None and 'roots' in manifest.archive


def of_folders(
  directory: str,
  retriever: str,
  encoder: str,
  given: Callable[[str], ConfigDict] | None = None,
) -> ConfigDict:
  """Returns the config of an index of folders, with its stored settings.

  Args:
    directory: The index, which need not exist yet.
    retriever: The argument of --retriever.
    encoder: The argument of --encoder.
    given: Function from the name of a model to the config of --config.

  Raises:
    UserError: If the index cannot be read, or the retriever is unknown.
  """
  manifest = manifest_of(directory)
  stored: Mapping[str, Any] = {}
  if manifest is not None and follows_folders(manifest):
    stored = manifest.retriever
  name = retriever or stored.get('name', '') or _suited(encoder)
  if name not in common.FREE:
    raise UserError(
      f'--retriever={name} is unknown; choose {" or ".join(common.FREE)}, or '
      'give a trained one with --checkpoint=DIR'
    )
  if given is None:
    config = common.with_model(common.base_config(), name)
  else:
    config = given(name)
  config = config.copy_and_resolve_references().unlock()
  config.archive.retriever = name
  for key, value in stored_keys(manifest).items():
    section, _, last = key.partition('.')
    if last in config[section]:
      config[section][last] = value
  return config.lock()


def _suited(encoder: str) -> str:
  """Returns the retriever that finds most with an encoder.

  Moments are for sentences. Features of looks are all alike in their broad
  lines, so that smoothing them over a video hides what differs: a picture is
  found by its best frame (docs/search.md has the numbers).
  """
  return 'best_frame' if encoder.partition(':')[0] == 'embedded' else 'tf_prvr'


def stored_keys(manifest: Manifest | None) -> dict[str, Any]:
  """Returns {key: value} of the config's keys that an index was made with."""
  if manifest is None or not follows_folders(manifest):
    return {}
  found = {f'archive.{key}': manifest.archive[key] for key in KEYS}
  facts: Mapping[str, Any] = manifest.retriever
  if facts:
    found['archive.retriever'] = facts['name']
    found |= {
      f'model.{key}': value
      for key, value in facts.items()
      if key not in ('name', 'width', 'encoder')
    }
  return found


def check(values: FlagValues, before: ConfigDict) -> None:
  """Refuses keys that would be ignored, or that differ from the index.

  Args:
    values: The parsed flags.
    before: The config before the keys of the command line were applied.

  Raises:
    UserError: If there is such a key; it names it.
  """
  config, stored = values.config, stored_keys(manifest_of(values.index))
  name = config.archive.retriever
  if values.retriever and values.retriever != name:
    whose = values.index if stored else 'config.archive.retriever'
    raise UserError(
      f'--retriever={values.retriever}, but that of {whose} is {name!r}; leave '
      'the flag out, or give another --index'
    )
  used = {'archive', *(() if values.checkpoint else ('model',)), *MACHINE}
  for section, value in config.items():
    if section not in used and value != before[section]:
      what = 'a checkpoint' if section == 'model' else 'an index of folders'
      raise UserError(
        f'a key of config.{section} is set, but {what} takes none; leave it out'
      )
  for key, there in stored.items():
    section, _, last = key.partition('.')
    now = config[section].get(last)
    if now != there:
      raise UserError(
        f'config.{key} is {now!r}, but {values.index} was made with {there!r}: '
        'leave it out, or give another --index'
      )
