"""--mode=inspect --index: what an index has, and where its videos come from."""

import dataclasses
import math
from typing import Any

from dreamprvr_jax.archive.folder.memory import Memory
from dreamprvr_jax.archive.folder.settings import Settings
from dreamprvr_jax.archive.folder.update import sources_of
from dreamprvr_jax.archive.index.layout import stored_bytes
from dreamprvr_jax.archive.index.manifest import Manifest
from dreamprvr_jax.archive.videos.files import shown
from dreamprvr_jax.cli import folder_report
from dreamprvr_jax.cli.columns import aligned
from dreamprvr_jax.cli.folder_config import follows_folders


@dataclasses.dataclass(frozen=True)
class Arguments:
  """The flags of inspect that are about an index; see `options.py`."""

  index: str


def run(arguments: Arguments) -> int:
  """Prints what an index has."""
  manifest = Manifest.read(arguments.index)
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


def describe(place: str, manifest: Manifest) -> list[tuple[Any, ...]]:
  """Returns (name, value) rows about an index."""
  rows: list[tuple[Any, ...]] = [
    ('videos', f'{manifest.num_videos:,}'),
    ('rows', f'{sum(s.videos - len(s.removed) for s in manifest.segments):,}'),
    ('segments', f'{len(manifest.segments):,}'),
    ('tokens', manifest.tokens),
    ('size', folder_report.size(stored_bytes(manifest))),
    ('retriever', manifest.retriever.get('name', manifest.checkpoint)),
  ]
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
