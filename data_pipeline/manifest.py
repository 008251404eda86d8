"""The manifest of prepared records: their sources, options and shards."""

import dataclasses
import itertools
import json
from typing import Any

import numpy as np
from etils import epath

from data_pipeline.errors import DataError
from data_pipeline.options import DataOptions
from data_pipeline.paths import manifest_path, replacing
from dreamprvr_jax import text

FORMAT = 1
# The options that change the content of records.
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
  'retriever',
  'sentence',
  'wavelet',
  'beta',
)


# Types of the facts of a manifest.
_KINDS = {
  'format': int,
  'name': str,
  'options': dict,
  'visual_width': int,
  'text_width': int,
  'splits': dict,
  'skipped': list,
  'sources': dict,
  'versions': dict,
}
_SHARD_FACTS = ('shard_lengths', 'shard_bytes', 'shard_crc32c')
_SOURCE_FACTS = {'size', 'mtime_ns', 'sample', 'sha256'}
_SPLIT_FACTS = {'videos', 'captions', *_SHARD_FACTS}


@dataclasses.dataclass
class Manifest:
  """Facts about prepared records.

  Attributes:
    format: Version of the layout.
    name: Name of the dataset.
    options: The options that the records depend on.
    visual_width: Width of the frame features.
    text_width: Width of the word features.
    splits: For each split videos, captions, shard_lengths, shard_bytes and
      shard_crc32c.
    skipped: (item, reason) of each item that was left out.
    sources: For each official file size, mtime_ns, sample and sha256.
    versions: Versions of the libraries that wrote the records.
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
    with replacing(target) as partial:
      partial.write_text(content)


def load(options: DataOptions) -> Manifest:
  """Returns the manifest.

  Raises:
    DataError: If it is missing, damaged or of another format.
  """
  source = manifest_path(options)
  try:
    content = text.parse_json(text.read(source), str(source))
  except FileNotFoundError:
    raise DataError(
      f'{source} is missing, so there are no prepared records; prepare them '
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
  if not _is_whole(content):
    raise DataError(
      f'{source} lacks facts of a manifest, or has some of another type; '
      'prepare the records again'
    )
  content['skipped'] = [tuple(pair) for pair in content['skipped']]
  return Manifest(**content)


def dependent_options(options: DataOptions) -> dict[str, Any]:
  """Returns the options that the records depend on."""
  unused = () if options.merged else ('merge_threshold',)
  if options.retriever != 'tf_prvr':
    unused += ('wavelet', 'beta')
  if not options.retriever:
    unused += ('retriever', 'sentence')
  return {n: getattr(options, n) for n in _OPTIONS if n not in unused}


def versions() -> dict[str, str]:
  """Returns the versions of the libraries that write records."""
  import h5py
  import tensorflow_datasets as tfds

  return {
    'numpy': np.__version__,
    'h5py': h5py.__version__,
    'tensorflow_datasets': tfds.__version__,
  }


def _is_whole(content: dict[str, Any]) -> bool:
  """Returns whether a manifest has all its facts, each of the right type."""
  return (
    content.keys() == _KINDS.keys()
    and all(isinstance(content[key], kind) for key, kind in _KINDS.items())
    and all(_is_count(content[key]) for key in ('visual_width', 'text_width'))
    and all(map(_is_split, content['splits'].values()))
    and all(
      isinstance(facts, dict) and facts.keys() >= _SOURCE_FACTS
      for facts in content['sources'].values()
    )
    and all(
      isinstance(pair, list) and list(map(type, pair)) == [str, str]
      for pair in content['skipped']
    )
  )


def _is_split(facts: Any) -> bool:
  if not isinstance(facts, dict) or not facts.keys() >= _SPLIT_FACTS:
    return False
  lists = [facts[key] for key in _SHARD_FACTS]
  if not all(isinstance(values, list) for values in lists):
    return False
  numbers = [facts['videos'], facts['captions'], *itertools.chain(*lists)]
  return len(set(map(len, lists))) == 1 and all(map(_is_count, numbers))


def _is_count(value: Any) -> bool:
  return type(value) is int and 0 <= value < 1 << 63
