"""Paths of prepared records, on a local disk or in a bucket."""

import contextlib
import os
import re
import uuid
from collections.abc import Iterator
from typing import Any

from etils import epath

from data_pipeline.options import DataOptions
from dreamprvr_jax import folders

# The version that TensorFlow Datasets reads from the path.
VERSION = '1.0.0'
# Files that a killed process left; earlier versions named them '.tmp-*'.
_PARTIAL = ('.*.partial.*', '.tmp-*')


def dataset_name(options: DataOptions) -> str:
  """Returns the collection's name as TensorFlow Datasets allows it."""
  name = re.sub(r'[^a-z0-9_]+', '_', options.collection.lower()).strip('_')
  return name if name[:1].isalpha() else f'corpus_{name}'


def dataset_dir(options: DataOptions) -> epath.Path:
  """Returns the folder of the shards."""
  return options.prepared / dataset_name(options) / VERSION


def manifest_path(options: DataOptions) -> epath.Path:
  """Returns the path of the manifest."""
  return dataset_dir(options) / 'manifest.json'


def index_path(options: DataOptions, split: str) -> epath.Path:
  """Returns the path of the index of a split."""
  return dataset_dir(options) / f'index-{split}.npz'


def shard_name(name: str, split: str, shard: int, count: int) -> str:
  """Returns the file name of a shard."""
  return f'{name}-{split}.tfrecord-{shard:05d}-of-{count:05d}'


def is_remote(path: os.PathLike[str] | str) -> bool:
  """Returns whether a path is in a bucket."""
  return '://' in str(path)


def file_size(path: Any) -> int:
  """Returns the bytes of a file, local or in a bucket."""
  stat = path.stat()
  return int(getattr(stat, 'st_size', getattr(stat, 'length', -1)))


@contextlib.contextmanager
def replacing(path: epath.Path) -> Iterator[epath.Path]:
  """Gives a path to write; what is written replaces `path` in one step.

  If the block fails, `path` is as it was and nothing else is left. See
  `dreamprvr_jax.folders.replacing`, which this is on a local disk.
  """
  if not is_remote(path):
    with folders.replacing(path) as partial:
      yield epath.Path(partial)
    return
  # Machines that write to one bucket may have the same process ids.
  partial = path.parent / f'.{uuid.uuid4().hex[:12]}.partial.{path.name}'
  try:
    yield partial
    partial.replace(path)
  finally:
    partial.unlink(missing_ok=True)


def remove_partial_files(folder: epath.Path) -> None:
  """Removes the partial files that killed processes left in a folder."""
  for pattern in _PARTIAL:
    for path in folder.glob(pattern):
      path.unlink(missing_ok=True)
