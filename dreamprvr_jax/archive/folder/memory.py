"""What an index remembers of files that are not in it.

`archive/files.json`, in the folder of the index, has the files that could not
be read, with the reasons, and the videos that were removed on purpose.
"""

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from dreamprvr_jax import folders, text
from dreamprvr_jax.archive.folder.sources import Source, Stamp, content_hash
from dreamprvr_jax.archive.index import checksums
from dreamprvr_jax.archive.videos.files import shown
from dreamprvr_jax.errors import UserError

NAME = 'archive/files.json'
# Version 1 had no checksum.
_VERSION = 2


@dataclasses.dataclass(frozen=True)
class Unreadable:
  """A file that could not be read.

  Attributes:
    file: Its absolute path.
    stamp: Its size and time then.
    reason: The problem, and what to do about it.
  """

  file: str
  stamp: Stamp
  reason: str


@dataclasses.dataclass
class Memory:
  """The files that are not in an index.

  Attributes:
    removed: Id -> source of each video that was removed on purpose.
    unreadable: Path -> file that could not be read.
    limits: What else decides whether a file can be read, see
      `frames.Limits.conditions`: if it has changed, a file is tried again.
  """

  removed: dict[str, Source] = dataclasses.field(default_factory=dict)
  unreadable: dict[str, Unreadable] = dataclasses.field(default_factory=dict)
  limits: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @classmethod
  def read(cls, directory: os.PathLike[str] | str) -> 'Memory':
    """Returns the memory of an index; an empty one if it has none.

    Raises:
      UserError: If the file cannot be read.
    """
    path = pathlib.Path(directory) / NAME
    try:
      written = text.read(path)
      content = text.parse_json(written, str(path))
    except FileNotFoundError:
      return cls()
    try:
      if content['version'] not in (1, _VERSION):
        raise ValueError('it is of another version')
      is_sealed = content['version'] == _VERSION
      damage = is_sealed and checksums.seal_damage(written, content)
      if damage:
        raise ValueError(f'it {damage}')
      removed = [Source.of_row(row) for row in content['removed']]
      unreadable = [
        Unreadable(
          str(row['file']),
          Stamp(int(row['size']), int(row['mtime_ns'])),
          str(row['reason']),
        )
        for row in content['unreadable']
      ]
      limits = dict(content['limits'])
    except (TypeError, KeyError, ValueError) as error:
      raise UserError(
        f'{path} does not say which files are not in the index ({error}); '
        'restore it, or delete it: then these files are tried again'
      ) from None
    return cls(
      {source.id: source for source in removed},
      {bad.file: bad for bad in unreadable},
      limits,
    )

  def write(self, directory: os.PathLike[str] | str) -> None:
    """Replaces the memory of an index in one step."""
    content = {
      'version': _VERSION,
      'limits': dict(self.limits),
      'removed': [source.row() for source in self.removed.values()],
      'unreadable': [
        {
          'file': bad.file,
          'size': bad.stamp.size,
          'mtime_ns': bad.stamp.mtime_ns,
          'reason': bad.reason,
        }
        for bad in self.unreadable.values()
      ],
    }
    path = pathlib.Path(directory) / NAME
    folders.write_text(path, checksums.sealed(content))

  def with_limits(self, limits: Mapping[str, Any]) -> 'Memory':
    """Returns the memory for these limits; if they are others than before, all
    files are tried again."""
    same = dict(limits) == dict(self.limits)
    unreadable = self.unreadable if same else {}
    return Memory(dict(self.removed), dict(unreadable), dict(limits))

  def unreadable_at(self, path: str, stamp: Stamp) -> Unreadable | None:
    """Returns the file of a path if it could not be read and is unchanged."""
    found = self.unreadable.get(path)
    return found if found is not None and found.stamp == stamp else None

  def removed_id(self, path: str, stamp: Stamp) -> str | None:
    """Returns the id of a file that was removed on purpose, known by its path
    or its content; None if it was not."""
    for name, source in self.removed.items():
      if source.file == path:
        return name
    sizes = [s for s in self.removed.values() if s.stamp.size == stamp.size]
    if sizes:
      try:
        found = content_hash(path)
      except OSError:
        return None
      for source in sizes:
        if source.hash == found:
          return source.id
    return None

  def restore(self, ids: Iterable[str]) -> None:
    """Lets videos that were removed on purpose be indexed again.

    Raises:
      UserError: If one was not removed.
    """
    wanted = list(ids)
    unknown = [name for name in wanted if name not in self.removed]
    if unknown:
      raise UserError(
        f'no video {shown(unknown[0])!r} was removed from this index; '
        f'{len(self.removed):,} were: see --mode=inspect --index=INDEX'
      )
    for name in wanted:
      del self.removed[name]
