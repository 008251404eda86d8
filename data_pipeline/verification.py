"""Whether prepared records match the options and the release."""

import logging

import google_crc32c
from etils import epath

from data_pipeline.errors import DataError
from data_pipeline.fingerprints import fingerprint, sha256, source_files
from data_pipeline.manifest import Manifest, dependent_options, load
from data_pipeline.options import DataOptions
from data_pipeline.paths import (
  dataset_dir,
  dataset_name,
  file_size,
  index_path,
  manifest_path,
  shard_name,
)
from data_pipeline.release import release_exists

_log = logging.getLogger(__name__)


def verified(options: DataOptions) -> Manifest:
  """Returns the manifest of prepared records that can be used.

  Records without their release (copied to a bucket, say) are trusted; where
  the release exists, they must have been made from it.

  Raises:
    DataError: With the reason if the records cannot be used.
  """
  manifest = load(options)
  _check_options(manifest, options)
  _check_shards(manifest, options)
  _check_sources(manifest, options)
  return manifest


def _check_options(manifest: Manifest, options: DataOptions) -> None:
  for name, value in dependent_options(options).items():
    # Older records do not say how clips are made: they are pooled.
    was = manifest.options.get(name, 'pooled' if name == 'clips' else None)
    if was != value:
      raise DataError(
        f'the records in {dataset_dir(options)} were prepared with '
        f'{name}={was!r}, but {name}={value!r} was requested; prepare them '
        'again, or choose another prepared_dir'
      )


def _check_shards(manifest: Manifest, options: DataOptions) -> None:
  folder, name = dataset_dir(options), dataset_name(options)
  for split, facts in manifest.splits.items():
    count = len(facts['shard_bytes'])
    if not index_path(options, split).exists():
      raise DataError(
        f'{index_path(options, split)} is missing; prepare the records again'
      )
    for shard in range(count):
      file = folder / shard_name(name, split, shard, count)
      expected = facts['shard_bytes'][shard]
      try:
        size = file_size(file)
      except OSError:
        raise DataError(
          f'{file} is missing; prepare the records again'
        ) from None
      if size != expected:
        raise DataError(
          f'{file} has {size} bytes where the manifest says {expected}; it is '
          'truncated, remove it and prepare the records again'
        )
      if options.verify == 'full' and (
        _crc32c(file) != facts['shard_crc32c'][shard]
      ):
        raise DataError(
          f'{file} is damaged; remove it and prepare the records again'
        )


def _crc32c(file: epath.Path) -> int:
  crc = 0
  with file.open('rb') as stream:
    while block := stream.read(1 << 22):
      crc = google_crc32c.extend(crc, block)
  return crc


def _check_sources(manifest: Manifest, options: DataOptions) -> None:
  if not release_exists(options):
    _log.info('the records have no release beside them and are not compared')
    return
  try:
    files = source_files(options)
  except DataError as error:
    _log.warning(
      'the release is incomplete, so the records are used: %s', error
    )
    return
  since = f'since the records in {dataset_dir(options)} were prepared'
  for name in sorted(set(files) ^ set(manifest.sources)):
    change = 'was added' if name in files else 'was removed'
    raise DataError(f'{name} {change} {since}; prepare the records again')
  touched = False
  for name, file in files.items():
    old, new = manifest.sources[name], fingerprint(file)
    changed = (old['size'], old['sample']) != (new['size'], new['sample'])
    if not changed and (
      options.verify == 'full' or old['mtime_ns'] != new['mtime_ns']
    ):
      # A copy has a new time and the same content: only its hash can tell.
      changed = sha256(file) != old['sha256']
      touched |= old['mtime_ns'] != new['mtime_ns']
    if changed:
      raise DataError(
        f'{file} has changed {since} ({old["size"]} bytes then, {new["size"]} '
        'now); prepare the records again'
      )
    old['mtime_ns'] = new['mtime_ns']
  if touched:
    _save_times(manifest, options)


def _save_times(manifest: Manifest, options: DataOptions) -> None:
  """Saves the new times, so that the next start need not hash the files."""
  try:
    manifest.save(manifest_path(options))
  except OSError as error:
    _log.info('the manifest cannot be updated: %s', error)
