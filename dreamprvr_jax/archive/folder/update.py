"""Making an index agree with the folders that it follows."""

import contextlib
import dataclasses
import os
import pathlib
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from dreamprvr_jax import folders
from dreamprvr_jax.archive.encoders import Encoder
from dreamprvr_jax.archive.extraction.stretches import Encoded, encode_files
from dreamprvr_jax.archive.folder.comparison import Plan, Task
from dreamprvr_jax.archive.folder.memory import Memory, Unreadable
from dreamprvr_jax.archive.folder.parts import rows_of_video
from dreamprvr_jax.archive.folder.progress import Progress
from dreamprvr_jax.archive.folder.settings import Settings
from dreamprvr_jax.archive.folder.sources import Source, Stamp, content_hash
from dreamprvr_jax.archive.folder.stops import Stops
from dreamprvr_jax.archive.index import compaction, writer
from dreamprvr_jax.archive.index.encoding import TokensError
from dreamprvr_jax.archive.index.manifest import MANIFEST, Manifest
from dreamprvr_jax.archive.index.segments import locked
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.videos.files import UNREAD
from dreamprvr_jax.archive.videos.frames import LIMITS, Limits
from dreamprvr_jax.trained.retriever import Retriever

# Folder in an index with what is remembered and the lock of a command.
_OWN = 'archive'
# Seconds after which the finished videos are made part of the index.
_COMMIT = 20.0
# Seconds of a video whose features are checked at a time.
_CHECKED = 600.0


@contextlib.contextmanager
def held(directory: os.PathLike[str] | str) -> Iterator[None]:
  """Lets one command at a time make an index agree with its folders.

  Raises:
    UserError: If another one does, or the folder has files of others.
  """
  # The writer of the index claims the folder, and has a lock of its own, which
  # it takes for each change.
  with locked(directory):
    pass
  with folders.held(pathlib.Path(directory) / _OWN, 'index'):
    yield


def remove_on_purpose(
  directory: os.PathLike[str] | str, ids: Sequence[str]
) -> Manifest:
  """Removes videos from an index of folders, and remembers them.

  Raises:
    UserError: If the index lacks one of them; then none is removed.
  """
  known = {source.id: source for source in sources_of(directory)}
  memory = Memory.read(directory)
  there = [known[name] for name in ids if name in known]
  if len(there) == len(ids):
    # First what is remembered: if the command is stopped here, the next one
    # removes them.
    memory.removed |= {source.id: source for source in there}
    memory.write(directory)
  return compaction.remove(directory, ids)


def sources_of(directory: os.PathLike[str] | str) -> list[Source]:
  """Returns the sources of the videos of an index; none if there is none."""
  if not (pathlib.Path(directory) / MANIFEST).exists():
    return []
  return [Source.of_row(row) for row in Store(directory).sources()]


class Tools(Protocol):
  """What makes rows of videos; each is loaded when it is first needed."""

  @property
  def encoder(self) -> Encoder:
    """The encoder of pictures."""
    ...

  @property
  def retriever(self) -> Retriever:
    """What makes rows of the features of pictures."""
    ...


@dataclasses.dataclass(frozen=True)
class Options:
  """How videos are read and stored.

  Attributes:
    tokens: How tokens of a new index are stored, see `manifest.TOKENS`.
    batch: Pictures that are encoded at a time; 0 for the encoder's number.
    workers: Processes that decode; 0 for one per core.
    limits: How long a file may be.
    show: Whether a progress bar is shown.
  """

  tokens: str = 'float16'
  batch: int = 0
  workers: int = 0
  limits: Limits = LIMITS
  show: bool = False


class Update:
  """Brings an index up to date; each finished video is kept.

  Attributes:
    plan: What to do.
    unreadable: Files that could not be read this time.
    saved: Ids of the videos that were encoded and are in the index.
  """

  def __init__(
    self,
    directory: os.PathLike[str] | str,
    settings: Settings,
    plan: Plan,
    memory: Memory,
    tools: Tools,
    options: Options,
  ):
    """Args:
    directory: The index, which need not exist yet.
    settings: What it is made with, and its folders.
    plan: What to do.
    memory: What the index remembers of other files.
    tools: What makes the rows.
    options: How videos are read and stored.
    """
    self.unreadable: list[Unreadable] = []
    self.saved: set[str] = set()
    self._outdated: list[str] = []
    self._directory = pathlib.Path(directory)
    self._settings, self.plan, self._memory = settings, plan, memory
    self._tools, self._options = tools, options

  def run(self) -> None:
    """Does it all.

    Raises:
      UserError: If the index cannot be written, or an encoder loaded.
      KeyboardInterrupt: When it is told to stop; the videos that are finished
        are saved first.
    """
    self._known_videos()
    self._remember()
    if self.plan.tasks:
      try:
        self._encode()
      finally:
        self._remember()

  def done(self, tasks: Iterable[Task]) -> int:
    """Returns how many of some files were encoded and are in the index."""
    return sum(task.id in self.saved for task in tasks)

  def _known_videos(self) -> None:
    """Changes the rows of videos that need no encoding."""
    plan, place = self.plan, self._directory
    # First those that go: others may get their ids.
    if plan.gone:
      compaction.remove(place, [source.id for source in plan.gone])
    changes = {former.id: now.row() for former, now in plan.moved}
    changes |= {source.id: source.row() for source in plan.touched}
    if changes:
      compaction.rename(place, changes)
    self._store_settings()

  def _store_settings(self) -> None:
    """Writes the folders that the index follows now, if it exists."""
    if not (self._directory / MANIFEST).exists():
      return
    stored = self._settings.stored()
    if Manifest.read(self._directory).archive != stored:
      with locked(self._directory) as root:
        manifest = Manifest.read(root)
        dataclasses.replace(manifest, archive=stored).write(root)

  def _remember(self) -> None:
    """Writes what is known of files that are not in the index."""
    bad = [*self.plan.unreadable, *self.unreadable]
    kept = {one.file: one for one in bad if one.stamp.size >= 0}
    memory = dataclasses.replace(self._memory, unreadable=kept)
    if memory != Memory.read(self._directory):
      memory.write(self._directory)

  def _encode(self) -> None:
    """Encodes the files, and saves them a few at a time."""
    options = self._options
    tasks = {str(task.file.path): task for task in self.plan.tasks}
    progress = Progress(list(tasks), show=options.show)
    files = encode_files(
      tasks,
      self._tools.encoder,
      self._settings.fps,
      batch=options.batch,
      workers=options.workers,
      limits=options.limits,
      folder=str(self._directory / _OWN),
      tell=progress.tell,
    )
    with (
      Stops() as stops,
      contextlib.closing(progress),
      contextlib.closing(files),
    ):
      videos = self._readable(files, tasks, progress)
      while self._save_some(videos, stops):
        pass

  def _readable(
    self, files: Iterable[Encoded], tasks: dict[str, Task], progress: Progress
  ) -> Iterator[tuple[Task, Encoded]]:
    """Yields the files that can be read; remembers the others."""
    for found in files:
      task = tasks[found.path]
      reason = found.reason or _problem(found)
      progress.finish(found.path, 0.0 if reason else found.duration)
      if reason:
        self._leave_out(task, found.path, reason)
      else:
        yield task, found

  def _leave_out(self, task: Task, path: str, reason: str) -> None:
    """Remembers why a file is not in the index."""
    passing = reason.startswith(UNREAD)
    # Without its stamp it is not remembered, and so tried again.
    stamp = Stamp(-1, -1) if passing else task.stamp
    self.unreadable.append(Unreadable(path, stamp, reason))
    if task.replaces and not passing:
      # Its former content is nowhere any more.
      self._outdated.append(task.id)

  def _save_some(
    self, videos: Iterator[tuple[Task, Encoded]], stops: Stops
  ) -> bool:
    """Makes the next videos part of the index, all in one step.

    Returns:
      Whether more may follow.
    """
    here = next(videos, None)
    if here is None:
      self._drop_outdated()
      return False
    stopped, added = None, []
    with stops.held():
      with self._segment() as segment:
        until = time.monotonic() + _COMMIT
        while here is not None:
          try:
            added.append(self._add(segment, *here))
          except TokensError as error:
            # The segment has the other files.
            task, found = here
            self._leave_out(task, found.path, str(error))
          if time.monotonic() > until:
            break
          try:
            with stops.released():
              here = next(videos, None)
          except KeyboardInterrupt as asked:
            stopped = asked
            break
      self.saved |= set(added)
      self._drop_outdated()
    if stopped is not None:
      raise stopped
    return here is not None

  def _segment(self) -> Any:
    """Opens a segment of the index, which takes videos one by one."""
    return writer.open_segment(
      self._directory,
      self._tools.retriever,
      tokens=self._options.tokens,
      archive=self._settings.stored(),
    )

  def _add(self, segment: Any, task: Task, found: Encoded) -> str:
    """Adds the rows of a video to a segment; returns its id."""
    settings = self._settings
    source = Source(
      task.id,
      found.path,
      str(task.file.root),
      task.stamp,
      _hash(found.path, task.stamp),
      found.duration,
    )
    rows = rows_of_video(
      self._tools.retriever,
      found,
      settings.part_seconds,
      settings.overlap_seconds,
    )
    segment.add(task.id, rows, source=source.row())
    return task.id

  def _drop_outdated(self) -> None:
    """Removes the videos whose changed files cannot be read."""
    if self._outdated:
      compaction.remove(self._directory, self._outdated)
      self._outdated = []


def _hash(path: str, stamp: Stamp) -> str:
  """Returns the hash of a file's content; '' if it has changed since it was
  listed, so that the next command encodes it again."""
  try:
    return content_hash(path) if Stamp.of(path) == stamp else ''
  except OSError:
    return ''


def _problem(found: Encoded) -> str:
  """Returns why features cannot be indexed; '' if they can."""
  for part in found.stretches(_CHECKED):
    norms = np.linalg.norm(part.features, axis=1)
    if not np.isfinite(norms).all():
      return 'gives features that are not finite; encode it again'
    if not norms.all():
      return 'has a picture without features; encode it again'
  return ''
