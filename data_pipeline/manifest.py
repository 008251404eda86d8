"""The manifest of prepared records: what they were made of, and how."""

import concurrent.futures
import dataclasses
import hashlib
import json
import logging
import pathlib
import threading
from typing import Any

import google_crc32c
import numpy as np
from etils import epath

from data_pipeline.dataset import (
  dataset_dir,
  dataset_name,
  index_path,
  shard_name,
)
from data_pipeline.errors import DataError
from data_pipeline.manifest_facts import is_whole
from data_pipeline.moments import companions, find_moments
from data_pipeline.options import DataOptions
from data_pipeline.records import write_atomically
from data_pipeline.release import (
  caption_files,
  find_text,
  find_visual,
  release_exists,
)
from dreamprvr_jax import text

_log = logging.getLogger(__name__)

FORMAT = 1
_BLOCK = 1 << 16
_SAMPLES = 8
# The options that change what a record holds.
_OPTIONS = (
  'collection',
  'feature',
  'text_feature',
  'num_clips',
  'clips',
  'merge_threshold',
  'max_frames',
  'max_words',
  'skip_bad',
)


@dataclasses.dataclass
class Manifest:
  """Facts about prepared records.

  Attributes:
    format: version of the layout.
    name: of the dataset.
    options: the options that the records depend on.
    visual_width: width of the frame features.
    text_width: width of the word features.
    splits: by name: videos, captions, shard_lengths, shard_bytes,
      shard_crc32c.
    skipped: (item, reason) of what was left out.
    sources: by name: size, mtime_ns, sample, sha256.
    versions: of the libraries that wrote the records.
  """

  format: int
  name: str
  options: dict[str, Any]
  visual_width: int
  text_width: int
  splits: dict[str, dict[str, Any]]
  skipped: list[tuple[str, str]]
  sources: dict[str, dict[str, Any]]
  versions: dict[str, str]

  def save(self, target: epath.Path) -> None:
    """Writes the manifest, atomically."""
    content = json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True)
    write_atomically(target, content.encode('utf-8'))


def path(options: DataOptions) -> epath.Path:
  """Returns where the manifest lies."""
  return dataset_dir(options) / 'manifest.json'


def load(options: DataOptions) -> Manifest:
  """Returns the manifest.

  Raises:
    DataError: if it is missing, damaged or of another format.
  """
  source = path(options)
  try:
    content = text.parse_json(text.read(source), str(source))
  except FileNotFoundError:
    raise DataError(
      f'{source} is missing: there are no prepared records; prepare them '
      '(--mode=prepare) or set storage to release'
    ) from None
  except (OSError, text.TextError) as error:
    raise DataError(
      f'{source} cannot be read ({error}); prepare the records again'
    ) from None
  version = content.get('format') if isinstance(content, dict) else None
  if version != FORMAT:
    raise DataError(
      f'{source} is of format {version}, this program reads format {FORMAT}; '
      'prepare the records again'
    )
  if not is_whole(content):
    raise DataError(
      f'{source} lacks facts that a manifest holds, or has some of another '
      'kind; prepare the records again'
    )
  content['skipped'] = [tuple(pair) for pair in content['skipped']]
  return Manifest(**content)


def dependent_options(options: DataOptions) -> dict[str, Any]:
  """Returns the options that the records depend on."""
  unused = () if options.merged else ('merge_threshold',)
  return {n: getattr(options, n) for n in _OPTIONS if n not in unused}


def source_files(options: DataOptions) -> dict[str, pathlib.Path | epath.Path]:
  """Returns the files that records are made of, by a name for each.

  Raises:
    DataError: if the release is not whole.
  """
  visual = find_visual(options)
  files: list[Any] = list(caption_files(options).values())
  if visual.is_file():
    files.append(visual)
  else:
    names = ('feature.bin', 'id.txt', 'shape.txt', 'video2frames.txt')
    files += [visual / name for name in names]
  files.append(find_text(options))
  moments = find_moments(options)
  files += [*moments, *companions(moments)]
  root = f'{options.folder}/'
  # Names that stay when the folder moves.
  return {
    str(f).removeprefix(root) if str(f).startswith(root) else f.name: f
    for f in files
    if f.exists()
  }


def _sample(file, size: int) -> str:
  """Returns a hash of a few blocks spread over a file."""
  digest = hashlib.sha256(str(size).encode())
  last = max(size - _BLOCK, 0)
  for i in range(_SAMPLES):
    file.seek(last * i // (_SAMPLES - 1))
    digest.update(file.read(_BLOCK))
  return digest.hexdigest()


def sha256(source: Any, stop: threading.Event | None = None) -> str:
  """Returns the hash of a whole file; '' if stopped before the end."""
  digest = hashlib.sha256()
  with source.open('rb') as file:
    while block := file.read(1 << 22):
      if stop is not None and stop.is_set():
        return ''
      digest.update(block)
  return digest.hexdigest()


def fingerprint(source: Any) -> dict[str, Any]:
  """Returns what can be seen of a file without reading all of it."""
  stat, size = source.stat(), file_size(source)
  mtime = getattr(stat, 'st_mtime_ns', None) or getattr(stat, 'mtime', 0)
  with source.open('rb') as file:
    sample = _sample(file, size)
  return {'size': size, 'mtime_ns': int(mtime), 'sample': sample}


def fingerprints(options: DataOptions) -> dict[str, dict[str, Any]]:
  """Returns the fingerprints of all sources."""
  return {n: fingerprint(f) for n, f in source_files(options).items()}


def hash_sources(options: DataOptions, stop: threading.Event) -> dict[str, str]:
  """Returns the sha256 of all sources, several files at a time."""
  files = source_files(options)
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    hashes = pool.map(lambda file: sha256(file, stop), files.values())
    return dict(zip(files, hashes, strict=True))


def problem(options: DataOptions) -> str | None:
  """Returns why prepared records cannot be used, or None if they can.

  Records that lie somewhere without their release (copied to a bucket) are
  taken at their word; where the release is there, it must be the same.
  """
  try:
    manifest = load(options)
  except DataError as error:
    return str(error)
  return (
    _options_problem(manifest, options)
    or _shards_problem(manifest, options)
    or _sources_problem(manifest, options)
  )


def _options_problem(manifest: Manifest, options: DataOptions) -> str | None:
  for name, value in dependent_options(options).items():
    # Older records say nothing of how clips are made: they are pooled.
    was = manifest.options.get(name, 'pooled' if name == 'clips' else None)
    if was != value:
      return (
        f'the records in {path(options).parent} were prepared with '
        f'{name}={was!r}, but {name}={value!r} is asked for; prepare them '
        'again, or choose another prepared_dir'
      )
  return None


def _shards_problem(manifest: Manifest, options: DataOptions) -> str | None:
  folder, name = dataset_dir(options), dataset_name(options)
  for split, facts in manifest.splits.items():
    count = len(facts['shard_bytes'])
    if not index_path(options, split).exists():
      return f'{index_path(options, split)} is missing; prepare it again'
    for shard in range(count):
      file = folder / shard_name(name, split, shard, count)
      expected = facts['shard_bytes'][shard]
      try:
        size = file_size(file)
      except OSError:
        return f'{file} is missing; prepare the records again'
      if size != expected:
        return (
          f'{file} has {size} bytes where the manifest says {expected}; it is '
          'truncated, remove it and prepare the records again'
        )
      if options.verify == 'full' and (
        _crc(file) != facts['shard_crc32c'][shard]
      ):
        return f'{file} is damaged; remove it and prepare the records again'
  return None


def file_size(file: Any) -> int:
  """Returns the size of a file, local or on a bucket."""
  stat = file.stat()
  return int(getattr(stat, 'st_size', getattr(stat, 'length', -1)))


def _crc(file: epath.Path) -> int:
  crc = 0
  with file.open('rb') as stream:
    while block := stream.read(1 << 22):
      crc = google_crc32c.extend(crc, block)
  return crc


def _sources_problem(manifest: Manifest, options: DataOptions) -> str | None:
  if not release_exists(options):
    _log.info('no release next to the records; they are taken as they are')
    return None
  try:
    files = source_files(options)
  except DataError as error:
    _log.warning('the release is not whole, the records are used: %s', error)
    return None
  again = 'prepare the records again'
  for name in sorted(set(files) ^ set(manifest.sources)):
    change = 'is new' if name in files else 'is gone'
    return (
      f'{name} {change} since the records in {path(options).parent} were '
      f'prepared; {again}'
    )
  touched = False
  for name, file in files.items():
    old, new = manifest.sources[name], fingerprint(file)
    changed = (old['size'], old['sample']) != (new['size'], new['sample'])
    if not changed and (
      options.verify == 'full' or old['mtime_ns'] != new['mtime_ns']
    ):
      # A copy has a new time and the same content: only a full look can tell.
      changed = sha256(file) != old['sha256']
      touched |= old['mtime_ns'] != new['mtime_ns']
    if changed:
      return (
        f'{file} has changed since the records in {path(options).parent} were '
        f'prepared ({old["size"]} bytes then, {new["size"]} now); {again}'
      )
    old['mtime_ns'] = new['mtime_ns']
  if touched:
    _remember(manifest, options)
  return None


def _remember(manifest: Manifest, options: DataOptions) -> None:
  """Saves the new times, so that the next start is quick again."""
  try:
    manifest.save(path(options))
  except OSError as error:
    _log.info('the manifest cannot be updated: %s', error)


def versions() -> dict[str, str]:
  """Returns the versions of the libraries that write records."""
  import h5py
  import tensorflow_datasets as tfds

  return {
    'numpy': np.__version__,
    'h5py': h5py.__version__,
    'tensorflow_datasets': tfds.__version__,
  }
