"""Whether the JSON of a manifest is one, before anything relies on it."""

import itertools
from typing import Any

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


def is_whole(content: dict[str, Any]) -> bool:
  """Returns whether all facts of a manifest are there, each of its kind."""
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
