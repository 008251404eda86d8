"""Fingerprints of the files that records are made of."""

import concurrent.futures
import hashlib
import pathlib
import threading
from typing import Any

from etils import epath

from data_pipeline import bigfile, stored_moments
from data_pipeline.captions import gallery_path
from data_pipeline.moments import companions, find_moments
from data_pipeline.options import DataOptions
from data_pipeline.paths import file_size
from data_pipeline.release import caption_files, find_text, find_visual

_BLOCK = 1 << 16
_SAMPLES = 8


def source_files(options: DataOptions) -> dict[str, pathlib.Path | epath.Path]:
  """Returns the files that records are made of, by name.

  Raises:
    DataError: If the release is incomplete.
  """
  visual = find_visual(options)
  captions = caption_files(options).values()
  files: list[Any] = [*captions, *map(gallery_path, captions)]
  if visual.is_file():
    files += [visual, visual.with_name(stored_moments.FILE)]
  else:
    files += [visual / name for name in bigfile.FILES]
  files.append(find_text(options))
  moments = find_moments(options)
  files += [*moments, *companions(moments)]
  root = f'{options.folder}/'
  # Relative names stay the same when the folder moves.
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
  """Returns the hash of a whole file; '' if `stop` was set before its end."""
  digest = hashlib.sha256()
  with source.open('rb') as file:
    while block := file.read(1 << 22):
      if stop is not None and stop.is_set():
        return ''
      digest.update(block)
  return digest.hexdigest()


def fingerprint(source: Any) -> dict[str, Any]:
  """Returns size, time and a sample's hash of a file, without reading all of
  it."""
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
