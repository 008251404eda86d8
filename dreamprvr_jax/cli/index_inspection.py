"""--mode=inspect --index: what an index has, and where its videos come from."""

import dataclasses
import math
import pathlib
from typing import Any

from dreamprvr_jax.archive.folder.memory import Memory
from dreamprvr_jax.archive.folder.settings import Settings
from dreamprvr_jax.archive.folder.update import sources_of
from dreamprvr_jax.archive.index.layout import stored_bytes
from dreamprvr_jax.archive.index.manifest import Manifest
from dreamprvr_jax.archive.index.segments import verify
from dreamprvr_jax.archive.videos.files import shown
from dreamprvr_jax.cli import console, folder_report
from dreamprvr_jax.cli.columns import aligned
from dreamprvr_jax.cli.folder_config import follows_folders
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.progress import bar


@dataclasses.dataclass(frozen=True)
class Arguments:
  """The flags of inspect that are about an index; see `options.py`."""

  index: str
  verify: bool
  progress: bool


def run(arguments: Arguments) -> int:
  """Prints what an index has, and with --verify reads all of its files.

  Raises:
    UserError: If there is no index, or a file of it is damaged.
  """
  manifest = Manifest.read(arguments.index)
  if arguments.verify:
    # First: what follows opens some of these files.
    _verify(arguments.index, manifest, show=arguments.progress)
  print(aligned(describe(arguments.index, manifest)))
  if follows_folders(manifest):
    memory = Memory.read(arguments.index)
    if memory.unreadable:
      print(folder_report.table(memory.unreadable.values(), most=None))
    if memory.removed:
      print('removed on purpose (--restore=ID takes one in again):')
      for source in memory.removed.values():
        print(f'  {source.id}  {shown(source.file)}')
  return 0


def _verify(place: str, manifest: Manifest, *, show: bool) -> None:
  """Compares all files of an index with their checksums.

  Raises:
    UserError: If one is damaged; all of them were printed.
  """
  known = [
    facts for files in manifest.files.values() for facts in files.values()
  ]
  size, damaged = sum(facts['bytes'] for facts in known), 0
  with bar(
    [], 'checking files', total=size, show=show, unit='B', unit_scale=True
  ) as progress:
    for folder, files in manifest.files.items():
      for error in verify(place, folder, files, progress.update):
        path = pathlib.Path(error.path)
        console.say(f'damaged: {shown(path)} {error.what}')
        damaged += 1
  older = sum(not files for files in manifest.files.values())
  if older:
    console.say(
      f'{older:,} of {len(manifest.files):,} segments were written by an '
      'earlier version and have no checksums; --mode=index --compact adds them'
    )
  if damaged:
    raise UserError(
      f'{damaged:,} of {len(known):,} files of {place} are damaged; restore '
      'them from a backup, or index the videos again'
    )
  console.say(
    f'{len(known):,} files, {folder_report.size(size)}, are as they were '
    'written'
  )


def describe(place: str, manifest: Manifest) -> list[tuple[Any, ...]]:
  """Returns (name, value) rows about an index."""
  rows: list[tuple[Any, ...]] = [
    ('videos', f'{manifest.num_videos:,}'),
    ('rows', f'{manifest.num_rows:,}'),
    ('segments', f'{len(manifest.segments):,}'),
    ('tokens', manifest.tokens),
    ('size', folder_report.size(stored_bytes(manifest))),
    ('retriever', manifest.retriever.get('name', manifest.checkpoint)),
  ]
  if lists := manifest.lists:
    rows.append(
      (
        'lists',
        f'{lists.probes:,} are looked into, and {lists.depth:,} videos scored; '
        f'recall@10 {lists.found:.4f} (wanted: {lists.recall:g})',
      )
    )
  if not follows_folders(manifest):
    return rows
  settings, sources = Settings.of(manifest.archive), sources_of(place)
  seconds = sum(s.duration for s in sources if not math.isnan(s.duration))
  memory = Memory.read(place)
  return [
    *rows,
    ('encoder', settings.encoder_name),
    ('length', folder_report.length(seconds)),
    ('pictures per second', f'{settings.fps:g}'),
    ('seconds of a part', f'{settings.part_seconds:g}'),
    ('seconds of an overlap', f'{settings.overlap_seconds:g}'),
    *(('folder', shown(root)) for root in settings.roots),
    ('not readable', f'{len(memory.unreadable):,}'),
    ('removed on purpose', f'{len(memory.removed):,}'),
  ]
