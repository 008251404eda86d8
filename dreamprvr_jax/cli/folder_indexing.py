"""--mode=index --videos: makes an index agree with folders of videos."""

import dataclasses
import os
import sys

import jax
from ml_collections import ConfigDict

from dreamprvr_jax.archive.folder.comparison import Plan, compare
from dreamprvr_jax.archive.folder.memory import Memory
from dreamprvr_jax.archive.folder.settings import Settings
from dreamprvr_jax.archive.folder.sources import Source
from dreamprvr_jax.archive.folder.update import (
  Options,
  Update,
  held,
  sources_of,
)
from dreamprvr_jax.archive.index.compaction import remove
from dreamprvr_jax.archive.videos.files import shown
from dreamprvr_jax.archive.videos.finding import Listing, list_videos
from dreamprvr_jax.archive.videos.frames import Limits
from dreamprvr_jax.cli import console, folder_config, folder_report
from dreamprvr_jax.cli.folder_tools import Tools, check_same
from dreamprvr_jax.cli.places import ids_in, places
from dreamprvr_jax.cli.stopping import answered
from dreamprvr_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Arguments:
  """The flags of index; see `options.py`."""

  index: str
  videos: str
  checkpoint: str
  retriever: str
  encoder: str
  dtype: str
  append: bool
  remove: str
  restore: str
  gone: bool
  compact: bool
  all_videos: bool
  tokens: str
  max_seconds: float
  batch: int
  engine: str
  engine_options: str
  workers: int
  recall: float
  memory: float
  progress: bool


def run(config: ConfigDict, arguments: Arguments) -> int:
  """Makes an index of folders, or makes one agree with them again.

  Raises:
    UserError: If a flag does not fit the index, or there is nothing to index.
  """
  _check(arguments)
  place = arguments.index
  manifest = folder_config.manifest_of(place)
  if manifest is not None and not folder_config.follows_folders(manifest):
    raise UserError(
      f'{place} was made from features, not from folders of videos; give '
      'another --index with --videos'
    )
  if manifest is None and not arguments.videos:
    raise UserError(
      f'{place} is no index yet; make one with --videos=DIR --index={place}'
    )
  settings = Settings.of(manifest.archive) if manifest else None
  if manifest is not None:
    check_same(
      manifest,
      encoder=arguments.encoder,
      dtype=arguments.dtype,
      tokens=arguments.tokens,
      checkpoint=arguments.checkpoint,
    )
  known = settings.roots if settings else ()
  roots = [*known, *map(str, places(arguments.videos, known))]
  listing = list_videos(dict.fromkeys(roots))
  if listing.passed:
    console.say(folder_report.passed(listing.passed))
  if settings is None and not listing.files:
    raise UserError(
      f'{shown(arguments.videos)} has no video; the endings that are read are '
      'in docs/search.md'
    )
  tools = Tools(
    config,
    manifest,
    encoder=arguments.encoder,
    dtype=arguments.dtype,
    batch=arguments.batch,
    checkpoint=arguments.checkpoint,
  )
  if settings is None:
    settings = tools.settings()
  with held(place):
    return _agree(arguments, tools, settings.with_roots(roots), listing)


def _agree(
  arguments: Arguments, tools: Tools, settings: Settings, listing: Listing
) -> int:
  """Compares index and folders, does what is due, and reports it."""
  place = arguments.index
  limits = Limits(seconds=arguments.max_seconds)
  memory = Memory.read(place).with_limits(limits.conditions())
  if arguments.restore:
    memory.restore(ids_in('restore', arguments.restore, memory.removed))
  known = _known(place, memory)
  plan = compare(listing, known, memory, take_out_lost=arguments.gone)
  _tell_missing(plan, listing)
  if arguments.gone:
    unread = {source.root for few in plan.unread.values() for source in few}
    settings = settings.with_roots(
      root for root in settings.roots if root in unread or os.path.exists(root)
    )
  options = Options(
    arguments.tokens,
    arguments.batch,
    arguments.workers,
    limits,
    arguments.progress,
  )
  update = Update(place, settings, plan, memory, tools, options)
  try:
    with answered(lambda: _stopping(update)):
      update.run()
  except KeyboardInterrupt:
    print(_saved(update), file=sys.stderr)
    raise
  _report(update, plan, place)
  return 0


def _check(arguments: Arguments) -> None:
  """Raises UserError if a flag is out of its range, or of another form."""
  if jax.process_count() > 1:
    raise UserError('--mode=index runs as one process; start it once')
  if arguments.engine:
    raise UserError(
      '--engine reads features; --videos runs on this machine: leave it out'
    )
  for name in ('all_videos', 'compact'):
    if getattr(arguments, name):
      raise UserError(
        f'--{name} is not for an index that takes videos from folders at the '
        'same time; leave it out, or leave --videos, --restore and --gone out'
      )
  if arguments.remove:
    raise UserError(
      '--remove does not go together with --videos, --restore or --gone; give '
      'them one after the other'
    )
  if arguments.retriever and arguments.checkpoint:
    raise UserError(
      f'--retriever={arguments.retriever} needs no checkpoint; leave '
      '--checkpoint out, or --retriever'
    )
  if not arguments.max_seconds > 0:
    raise UserError(
      f'--max_seconds={arguments.max_seconds} must be above 0; 43200 is usual'
    )
  for name in ('batch', 'workers'):
    value = getattr(arguments, name)
    if value < 0:
      raise UserError(f'--{name}={value}; give 0 or more')


def _tell_missing(plan: Plan, listing: Listing) -> None:
  """Names the folders of which no file is there, or that cannot be read.

  Raises:
    UserError: If there is no file at all: nothing is changed then.
  """
  stays = '\n'.join(
    [*folder_report.lost(plan.lost), *folder_report.unread(plan.unread)]
  )
  if stays and not listing.files and not plan.gone:
    raise UserError(f'{stays}; nothing was changed')
  goes = folder_report.gone(plan.gone)
  for told in filter(None, (stays, *goes)):
    console.say(told)


def _known(place: str, memory: Memory) -> list[Source]:
  """Returns the sources of an index; finishes a removal that was stopped."""
  known = sources_of(place)
  left = [
    source.id
    for source in known
    if source.id in memory.removed
    and source.hash == memory.removed[source.id].hash
  ]
  if left:
    remove(place, left)
  return [source for source in known if source.id not in left]


def _stopping(update: Update) -> str:
  return f'stopping; what is finished is being saved ({_saved(update)} so far)'


def _saved(update: Update) -> str:
  total = len(update.plan.tasks)
  return f'{len(update.saved):,} of {total:,} files are in the index'


def _report(update: Update, plan: Plan, place: str) -> None:
  """Prints the files that cannot be read, the summary, and what comes next."""
  bad = [*plan.unreadable, *update.unreadable]
  if bad:
    console.say(folder_report.table(bad))
  done = {
    'new': update.done(plan.new),
    'changed': update.done(plan.changed),
    'unreadable': len(bad),
  }
  manifest = folder_config.manifest_of(place)
  if manifest is None:
    raise UserError(f'none of the {len(bad):,} files could be read')
  console.say(
    f'{place}: {manifest.num_videos:,} videos: '
    + folder_report.summary(plan, done)
  )
