"""The manifest of an index: its segments, and the checkpoint of its tokens.

Layout of an index:
  manifest.json       the manifest; written last, replaced in one step
  segments/NAME/      videos that were added together: ids.json, arrays
                      (`layout.array_specs`) and perhaps sources.json
The manifest has the sizes and checksums of all files, and a checksum of its
own content.
A video has one row of these arrays, or several that follow one another, for
its parts. A segment that no manifest names is left over from a write that was
stopped.
"""

import collections
import dataclasses
import itertools
import os
import pathlib
import re
from typing import Any

from dreamprvr_jax import folders, text
from dreamprvr_jax.archive.index import checksums
from dreamprvr_jax.archive.index.files import DamagedError
from dreamprvr_jax.archive.index.lists_record import (
  LISTS,
  ListsRecord,
  fault,
  record_of,
)
from dreamprvr_jax.errors import UserError

MANIFEST = 'manifest.json'
SEGMENTS = 'segments'
# Version 1 had no registers. Up to version 2, each video had one row, and a
# retriever was a checkpoint. Versions 2 and 3 could have product codes, alone
# or beside float16 tokens. Up to version 3, there were no checksums.
VERSION = 4
# How tokens are stored: as float16, as int8 with a scale per token, or both.
TOKENS = ('float16', 'int8', 'float16+int8')
# The sizes of a row, see `Manifest`.
SIZES = ('clips', 'frames', 'width', 'registers')
# Tokens of earlier versions: product codes. Beside float16, they are ignored.
_PRODUCTS = 'pq'
# Names of segments; those with a number are parts of a batch job.
_NAME = re.compile(r'[0-9a-f]{32}(-[0-9]{5,9})?')


def is_name(name: str) -> bool:
  """Returns whether a folder has the name of a segment."""
  return _NAME.fullmatch(name) is not None


@dataclasses.dataclass(frozen=True)
class Segment:
  """Videos that were added together.

  Attributes:
    name: Name of its folder.
    rows: Number of rows of its arrays.
    videos: Number of its videos, without removed ones.
    removed: Rows whose videos were removed, in rising order.
    files: Sizes and checksums of its files, see `checksums.record`; empty if it
      was written by an earlier version.
  """

  name: str
  rows: int
  videos: int
  removed: tuple[int, ...] = ()
  files: checksums.Files = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Manifest:
  """The contents of an index.

  Attributes:
    checkpoint: Absolute path of the checkpoint when the index was made; the
      name of a retriever that has none.
    digest: Digest of its weights; see `Retriever`.
    tokens: One of `TOKENS`.
    clips: Clip tokens of a row.
    frames: Frame tokens of a row, padded ones included.
    width: Numbers of a token.
    segments: The segments, in the order in which they were added.
    registers: Register tokens of a row, 0 if none are stored.
    parts: Whether rows say when they begin and which seconds they answer for;
      if not, each row is a whole video.
    retriever: What makes a retriever without a checkpoint, see
      `Retriever.facts`; empty for a checkpoint.
    archive: Settings of an index that follows folders of videos; empty for
      others.
    lists: Its inverted lists; None if there are none.
  """

  checkpoint: str
  digest: str
  tokens: str
  clips: int
  frames: int
  width: int
  segments: tuple[Segment, ...]
  registers: int = 0
  parts: bool = False
  retriever: dict[str, Any] = dataclasses.field(default_factory=dict)
  archive: dict[str, Any] = dataclasses.field(default_factory=dict)
  lists: ListsRecord | None = None

  @property
  def num_videos(self) -> int:
    """How many videos are searched."""
    return sum(segment.videos for segment in self.segments)

  @property
  def num_rows(self) -> int:
    """How many rows are searched."""
    return sum(segment.rows - len(segment.removed) for segment in self.segments)

  @property
  def sizes(self) -> dict[str, int]:
    """The sizes of a row, by the names in `SIZES`."""
    return {name: getattr(self, name) for name in SIZES}

  @property
  def files(self) -> dict[str, checksums.Files]:
    """Sizes and checksums of the files of each folder, by its path below the
    index."""
    found = {f'{SEGMENTS}/{one.name}': one.files for one in self.segments}
    if self.lists:
      found[f'{LISTS}/{self.lists.name}'] = self.lists.files
    return found

  def write(self, directory: os.PathLike[str] | str) -> None:
    """Replaces the manifest of an index in one step."""
    content = {'version': VERSION, **dataclasses.asdict(self)}
    written = checksums.sealed(content)
    folders.write_text(pathlib.Path(directory) / MANIFEST, written)

  @classmethod
  def read(cls, directory: os.PathLike[str] | str) -> 'Manifest':
    """Returns the manifest of an index.

    Raises:
      DamagedError: If its checksum is wrong.
      UserError: If there is none, it cannot be read, it has another version, or
        its tokens are stored in a form that is no longer read.
    """
    path = pathlib.Path(directory) / MANIFEST
    if path.is_symlink():
      raise UserError(
        f'{path} is a link where a file was expected; put the file itself there'
      )
    if not path.is_file():
      raise UserError(
        f'{directory} is no index: it has no {MANIFEST}; give the '
        'folder that --mode=index wrote, or make one with --mode=index '
        f'--videos=DIR --index={directory}'
      )
    try:
      written = text.read(path)
      content = text.parse_json(written, MANIFEST)
      _require(isinstance(content, dict), 'it is no JSON object')
      version = content.get('version')
      if _is_count(version, 1) and version <= VERSION:
        damage = version > 3 and checksums.seal_damage(written, content)
        if damage:
          raise DamagedError(path, damage)
        content = _current(content, version)
        if content.get('tokens') == _PRODUCTS:
          raise UserError(
            f'{path} is of an index that has only product codes (tokens '
            f'{_PRODUCTS}), which are no longer read; index the videos again, '
            'into another folder'
          )
        return _manifest_of(content)
    except (text.TextError, _WrongError) as error:
      reason = str(error).partition(';')[0]
      raise UserError(
        f'{path} is no manifest of an index ({reason}); restore it from a '
        'backup, or index again into another folder'
      ) from None
    raise UserError(
      f'{path} is of version {version!r:.40}, this program reads versions 1 to '
      f'{VERSION}; index again, or use the program that wrote it'
    )


class _WrongError(ValueError):
  """A manifest has an impossible value."""


def _require(condition: bool, reason: str) -> None:
  if not condition:
    raise _WrongError(reason)


def _is_count(value: Any, least: int) -> bool:
  """Returns whether a JSON value is an integer that can count rows."""
  return type(value) is int and least <= value < 2**31


def _current(content: dict[str, Any], version: int) -> dict[str, Any]:
  """Returns the content of a manifest of an earlier version in the form of this
  one, as far as it is well-formed."""
  others = 'version', checksums.SEAL
  content = {name: x for name, x in content.items() if name not in others}
  if version < 4:
    content.pop('sub_vectors', None)
    if content.get('tokens') == f'float16+{_PRODUCTS}':
      content['tokens'] = 'float16'
  rows = content.get('segments')
  if version > 2 or not isinstance(rows, list):
    return content
  # A row was a video, and `videos` counted removed ones, too.
  segments = []
  for row in rows:
    if isinstance(row, dict) and 'rows' not in row and 'videos' in row:
      count, removed = row['videos'], row.get('removed', [])
      gone = len(removed) if isinstance(removed, list) else 0
      left = count - gone if _is_count(count, 1) else count
      row = {**row, 'rows': count, 'videos': left}
    segments.append(row)
  return {**content, 'segments': segments}


def _manifest_of(content: dict[str, Any]) -> Manifest:
  """Returns the manifest that a file describes.

  Raises:
    _WrongError: If a value is missing, unknown or impossible.
  """
  fields = dataclasses.fields(Manifest)
  _require_keys(content, fields, 'it')
  for name in ('checkpoint', 'digest'):
    value = content[name]
    is_text = isinstance(value, str) and not text.surrogate(value)
    _require(is_text, f'{name} is {value!r:.40}')
  _require(content['tokens'] in TOKENS, f'tokens is {content["tokens"]!r:.40}')
  for name, least in (
    ('clips', 1),
    ('frames', 1),
    ('width', 1),
    ('registers', 0),
  ):
    value = content.get(name, 0)
    _require(_is_count(value, least), f'{name} is {value!r:.40}')
  _require(
    type(content.get('parts', False)) is bool,
    f'parts is {content.get("parts")!r:.40}',
  )
  for name in ('retriever', 'archive'):
    value = content.get(name, {})
    _require(isinstance(value, dict), f'{name} is {value!r:.40}')
  rows = content['segments']
  _require(isinstance(rows, list), 'its segments are no list')
  segments = tuple(map(_segment_of, rows))
  counts = collections.Counter(segment.name for segment in segments)
  for name, count in counts.most_common(1):
    _require(count == 1, f'it names the segment {name} twice')
  lists = content.get('lists')
  if lists is not None:
    reason = fault(lists)
    _require(not reason, reason)
    _require(is_name(lists['name']), f'its lists are called {lists["name"]!r}')
    lists = record_of(lists)
  return Manifest(**{**content, 'segments': segments, 'lists': lists})


def _segment_of(row: Any) -> Segment:
  _require(isinstance(row, dict), f'a segment is {row!r:.40}')
  _require_keys(row, dataclasses.fields(Segment), 'a segment')
  name, removed = row['name'], row.get('removed', [])
  rows, videos = row['rows'], row['videos']
  _require(
    isinstance(name, str) and is_name(name),
    f'a segment is called {name!r:.80}, which is no name of a segment',
  )
  _require(_is_count(rows, 1), f'rows of {name} is {rows!r:.40}')
  _require(_is_count(videos, 0), f'videos of {name} is {videos!r:.40}')
  _require(
    isinstance(removed, list) and all(_is_count(r, 0) for r in removed),
    f'removed of {name} is {removed!r:.40}',
  )
  _require(
    all(a < b for a, b in itertools.pairwise(removed))
    and (not removed or removed[-1] < rows),
    f'removed of {name} is not rising from 0 to below {rows}: {removed!r:.40}',
  )
  files = row.get('files', {})
  _require(checksums.is_valid(files), f'files of {name} is {files!r:.40}')
  left = rows - len(removed)
  _require(
    (videos > 0) == (left > 0) and videos <= left,
    f'videos of {name} is {videos} of {left} rows',
  )
  return Segment(name, rows, videos, tuple(removed), files)


def _require_keys(
  row: dict[str, Any], fields: tuple[dataclasses.Field[Any], ...], what: str
) -> None:
  """Raises _WrongError unless a row has these fields and no others."""
  names = {field.name for field in fields}
  missing = dataclasses.MISSING
  needed = {
    field.name
    for field in fields
    if field.default is missing and field.default_factory is missing
  }
  lacking, more = sorted(needed - set(row)), sorted(set(row) - names)
  _require(not lacking, f'{what} lacks {", ".join(lacking)}')
  _require(not more, f'{what} has {", ".join(more)!r:.40}')
