"""Exports an index to a database; only what changed is sent.

A video's entry is written without a digest before its points, and with it after
them. If the export is stopped between, the next one writes this video again.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from dreamprvr_jax.archive.database.database import about_of, open_engine
from dreamprvr_jax.archive.database.engine import Engine
from dreamprvr_jax.archive.database.points import (
  VIDEO,
  Entry,
  Videos,
  id_of,
  points_of,
  state_of,
)
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.progress import bar

# Videos that are read and written at a time.
_BATCH = 256
# Points after which the graph is brought up to date.
_BUILT = 200_000


@dataclasses.dataclass(frozen=True)
class Exported:
  """What an export did.

  Attributes:
    videos: Videos that the database has now.
    sent: Those of them that were written.
    removed: Videos that were deleted.
    vectors: Vectors of all videos.
  """

  videos: int
  sent: int
  removed: int
  vectors: int


def export(
  place: str, store: Store, *, product: bool = False, show: bool = False
) -> Exported:
  """Writes the videos of an index to a database that may have some already.

  Args:
    place: See `Database`; made if it does not exist.
    store: The index.
    product: Whether the score of a video is a product with its tokens; else it
      is a cosine.
    show: Whether progress bars are shown.

  Raises:
    UserError: If Qdrant's client is not installed, the index is empty or
      damaged, the database cannot be reached or written, has other content or
      that of another index, or if another process uses the folder.
  """
  videos = store.rows_of()
  if not videos:
    raise UserError(f'the index {store.directory} has no videos to export')
  engine = open_engine(place)
  try:
    return _export(engine, place, store, product, show)
  finally:
    engine.close()


def _export(
  engine: Engine, place: str, store: Store, product: bool, show: bool
) -> Exported:
  """Brings an opened database up to date."""
  videos = store.rows_of()
  if not engine.exists():
    engine.create(store.manifest.width, product=product)
  about = about_of(engine, place, store, product=product)
  former = {x[VIDEO]: Entry.read(x) for x in engine.videos()}
  is_whole = all(entry.digest for entry in former.values())
  if former and is_whole and engine.count() != _points(former):
    # Points were lost: nobody knows of which videos.
    former = {
      video: dataclasses.replace(entry, digest='')
      for video, entry in former.items()
    }
  gone = [video for video in former if video not in videos]
  if former and len(gone) == len(former):
    raise UserError(
      f'the database {place} has {len(former):,} videos, {min(gone)!r} among '
      f'them, and none of the index {store.directory}; name another --database'
    )
  engine.put([dataclasses.replace(about, state='').point()])
  for start in bar(range(0, len(gone), _BATCH), 'removing', show=show):
    few = gone[start : start + _BATCH]
    # The entries last: a stopped export goes on.
    engine.delete([x for video in few for x in former[video].ids(video)])
    engine.delete([id_of(video) for video in few])
  sent = vectors = waiting = 0
  rows = list(videos.items())
  with bar((), 'exporting', total=len(rows), unit='video', show=show) as shown:
    for start in range(0, len(rows), _BATCH):
      few = rows[start : start + _BATCH]
      entries, written = _write(engine, store, few, former, about.product)
      sent += len(written)
      vectors += sum(sum(entry.counts.values()) for entry in entries.values())
      waiting += sum(sum(entries[video].counts.values()) for video in written)
      if waiting >= _BUILT:
        engine.build(final=False)
        waiting = 0
      shown.update(len(few))
  engine.build(show=show)
  state, points = state_of(store), engine.count()
  if points != vectors + len(videos) + 1:
    raise UserError(
      f'the database {place} has {points:,} points where '
      f'{vectors + len(videos) + 1:,} were written; export again, and if that '
      'does not help, name another --database'
    )
  done = dataclasses.replace(about, state=state, points=points)
  engine.put([done.point()])
  return Exported(len(videos), sent, len(gone), vectors)


def _points(entries: Mapping[str, Entry]) -> int:
  """Returns how many points there are with these videos, and with that of the
  index."""
  return sum(1 + sum(entry.counts.values()) for entry in entries.values()) + 1


def _write(
  engine: Engine,
  store: Store,
  few: Sequence[tuple[str, range]],
  former: Mapping[str, Entry],
  product: bool,
) -> tuple[dict[str, Entry], list[str]]:
  """Writes those of some videos that changed; returns the entries of all, and
  the ids of those written."""
  read = Videos(store, few)
  names = [video for video, _ in few]
  digests = read.digests()
  changed = [
    i
    for i, (name, digest) in enumerate(zip(names, digests, strict=True))
    if name not in former or former[name].digest != digest
  ]
  entries = {name: former[name] for name in names if name in former}
  announced, points, spare = [], [], []
  vectors = read.vectors(changed, product=product)
  for i, found in zip(changed, vectors, strict=True):
    name = names[i]
    counts = {branch: len(x) for branch, x in found.items()}
    old = former.get(name, Entry('', dict.fromkeys(counts, 0)))
    most = {branch: max(n, old.counts[branch]) for branch, n in counts.items()}
    announced.append(Entry('', most).point(name))
    points += points_of(name, found)
    spare += old.ids(name, kept=counts)
    entries[name] = Entry(digests[i], counts)
  written = [names[i] for i in changed]
  if written:
    engine.put(announced)
    engine.put(points)
    if spare:
      engine.delete(spare)
    engine.put([entries[name].point(name) for name in written])
  return entries, written
