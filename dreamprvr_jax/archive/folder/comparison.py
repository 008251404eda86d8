"""What differs between an index and the folders that it follows."""

import collections
import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence, Set

from dreamprvr_jax.archive.folder.memory import Memory, Unreadable
from dreamprvr_jax.archive.folder.sources import (
  Source,
  Stamp,
  content_hash,
  ids_of,
)
from dreamprvr_jax.archive.videos.files import UNREAD, shown
from dreamprvr_jax.archive.videos.finding import File, Listing


@dataclasses.dataclass(frozen=True)
class Task:
  """A file to encode.

  Attributes:
    id: The id that its video gets.
    file: The file.
    stamp: Its size and time now.
    replaces: Whether the index has a video of this id, from its former content.
  """

  id: str
  file: File
  stamp: Stamp
  replaces: bool = False


@dataclasses.dataclass
class Plan:
  """What makes an index agree with its folders.

  Attributes:
    new: Files that the index does not have.
    changed: Files whose content has changed.
    moved: (former, new) sources of files with another path.
    touched: Sources of files whose content is as it was, with their new time.
    gone: Sources of files that are no longer there.
    lost: Folder -> its videos, for folders of which no file is there: they
      stay, since a disk may not be mounted.
    unread: Folder -> its videos, for folders that cannot be read: they stay.
    removed: Ids of files that were removed on purpose.
    unreadable: Files that could not be read and are unchanged.
    unchanged: Number of videos whose files are as they were.
  """

  new: list[Task] = dataclasses.field(default_factory=list)
  changed: list[Task] = dataclasses.field(default_factory=list)
  moved: list[tuple[Source, Source]] = dataclasses.field(default_factory=list)
  touched: list[Source] = dataclasses.field(default_factory=list)
  gone: list[Source] = dataclasses.field(default_factory=list)
  lost: dict[str, list[Source]] = dataclasses.field(default_factory=dict)
  unread: dict[str, list[Source]] = dataclasses.field(default_factory=dict)
  removed: list[str] = dataclasses.field(default_factory=list)
  unreadable: list[Unreadable] = dataclasses.field(default_factory=list)
  unchanged: int = 0

  @property
  def tasks(self) -> list[Task]:
    """The files to encode, sorted by path."""
    return sorted([*self.new, *self.changed], key=lambda task: task.file.path)


def compare(
  listing: Listing,
  known: Sequence[Source],
  memory: Memory,
  *,
  take_out_lost: bool = False,
) -> Plan:
  """Returns what differs.

  A file is as it was if its path, size and time are. Otherwise its content is
  compared: with the same content it has moved, or was only touched. Contents
  are read only where a size fits.

  Args:
    listing: What the folders have.
    known: The sources of the index.
    memory: What the index remembers of other files.
    take_out_lost: Whether videos go even if all of a folder's files are gone;
      those of a folder that cannot be read stay.
  """
  plan = Plan()
  pending, left = _settle(plan, listing.files, known, memory)
  _match(plan, pending, left, known, memory)
  _sort_out_missing(plan, left, known, listing, take_out_lost)
  return plan


def _settle(
  plan: Plan, files: Iterable[File], known: Sequence[Source], memory: Memory
) -> tuple[list[tuple[File, Stamp]], dict[str, Source]]:
  """Finds the files that are as they were.

  Returns:
    The other files; the sources of other paths, by path.
  """
  left = {source.file: source for source in known}
  pending = []
  for file in files:
    path = str(file.path)
    try:
      stamp = Stamp.of(path)
    except OSError as error:
      # It stays in the index, if it is there: the disk may have a fault.
      left.pop(path, None)
      why = f'{UNREAD} ({error.strerror})'
      plan.unreadable.append(Unreadable(path, Stamp(-1, -1), why))
      continue
    former = left.get(path)
    if former is not None and former.stamp == stamp:
      del left[path]
      plan.unchanged += 1
    elif (bad := memory.unreadable_at(path, stamp)) is not None:
      plan.unreadable.append(bad)
    elif (
      former is None and (name := memory.removed_id(path, stamp)) is not None
    ):
      plan.removed.append(name)
    else:
      pending.append((file, stamp))
  return pending, left


def _match(
  plan: Plan,
  pending: list[tuple[File, Stamp]],
  left: dict[str, Source],
  known: Sequence[Source],
  memory: Memory,
) -> None:
  """Tells new, changed, moved and touched files apart; takes the sources that
  were found again out of `left`."""
  sizes = {source.stamp.size for source in left.values()}
  by_content: dict[str, list[Source]] = collections.defaultdict(list)
  for source in left.values():
    by_content[source.hash].append(source)
  others: list[tuple[File, Stamp]] = []
  moves: list[tuple[Source, File, Stamp]] = []
  for file, stamp in pending:
    former = None
    if stamp.size in sizes:
      former = _same_content(file, by_content)
    if former is None:
      others.append((file, stamp))
      continue
    del left[former.file]
    by_content[former.hash].remove(former)
    if former.file == str(file.path):
      plan.touched.append(dataclasses.replace(former, stamp=stamp))
      plan.unchanged += 1
    else:
      moves.append((former, file, stamp))
  # What was where a file has moved to is no longer there.
  for path in [str(file.path) for _, file, _ in moves]:
    if path in left:
      plan.gone.append(left.pop(path))
  changed = []
  for file, stamp in others:
    former = left.pop(str(file.path), None)
    if former is not None:
      changed.append(Task(former.id, file, stamp, replaces=True))
  plan.changed = changed
  places = {str(task.file.path) for task in changed}
  fresh = [(f, stamp) for f, stamp in others if str(f.path) not in places]
  # An id of a file that has moved away is free for another.
  free = {former.id for former, *_ in moves} | {one.id for one in plan.gone}
  ids = ({source.id for source in known} - free) | memory.removed.keys()
  names = ids_of([*(file for _, file, _ in moves), *(f for f, _ in fresh)], ids)
  for (former, file, stamp), name in zip(moves, names, strict=False):
    now = dataclasses.replace(
      former,
      id=name,
      file=str(file.path),
      root=str(file.root),
      stamp=stamp,
    )
    plan.moved.append((former, now))
  plan.new = [
    Task(name, file, stamp)
    for (file, stamp), name in zip(fresh, names[len(moves) :], strict=True)
  ]


def _same_content(
  file: File, by_content: Mapping[str, list[Source]]
) -> Source | None:
  """Returns a source with a file's content, with the same path or name if there
  are several; None if there is none, or the file cannot be read."""
  try:
    found = by_content.get(content_hash(file.path), [])
  except OSError:
    return None
  name = file.path.name
  rank = lambda s: (
    s.file != str(file.path),
    pathlib.PurePath(s.file).name != name,
  )
  return min(found, key=rank, default=None)


def _sort_out_missing(
  plan: Plan,
  left: Mapping[str, Source],
  known: Sequence[Source],
  listing: Listing,
  take_out_lost: bool,
) -> None:
  """Says what becomes of the videos whose files were not found."""
  totals = collections.Counter(source.root for source in known)
  missing = collections.Counter(source.root for source in left.values())
  unread, away = set(listing.unread), set(listing.away)
  for source in left.values():
    if (above := _above(source, unread)) is not None:
      plan.unread.setdefault(shown(above), []).append(source)
    elif take_out_lost:
      plan.gone.append(source)
    elif (above := _above(source, away)) is not None:
      plan.lost.setdefault(shown(above), []).append(source)
    elif missing[source.root] == totals[source.root]:
      plan.lost.setdefault(shown(source.root), []).append(source)
    else:
      plan.gone.append(source)


def _above(source: Source, places: Set[pathlib.Path]) -> pathlib.Path | None:
  """Returns the nearest of some places that a file is in or below; the file
  itself may be one, such as a link into a disk that is not mounted."""
  path = pathlib.Path(source.file)
  return next((p for p in (path, *path.parents) if p in places), None)
