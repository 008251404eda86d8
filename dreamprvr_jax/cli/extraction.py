"""--mode=extract: turns the user's videos and captions into features.

It uses JAX only for an encoder that computes on its devices.
"""

import dataclasses
import pathlib
import time

from dreamprvr_jax import folders
from dreamprvr_jax.archive import encoders
from dreamprvr_jax.archive.extraction.captions import write_captions
from dreamprvr_jax.archive.extraction.jobs import (
  Options,
  Summary,
  extract_folder,
)
from dreamprvr_jax.archive.extraction.state import FEATURE
from dreamprvr_jax.archive.jobs.engine import Engine
from dreamprvr_jax.archive.jobs.extraction import results_of
from dreamprvr_jax.archive.videos.files import shown
from dreamprvr_jax.archive.videos.frames import Limits
from dreamprvr_jax.errors import UserError

_SHOWN = 20


@dataclasses.dataclass(frozen=True)
class Request:
  """The flags of extract; see `options.py`."""

  videos: str
  out: str
  collection: str
  encoder: str
  captions: str
  fps: float
  max_seconds: float
  max_samples: int
  workers: int
  engine: str
  engine_options: str
  batch: int
  device: str
  dtype: str
  progress: bool


def run(request: Request) -> int:
  """Extracts the files that are not extracted yet; returns the exit code.

  Raises:
    UserError: If a flag is out of its range, or no file could be read.
  """
  _check(request)
  if not request.encoder.startswith('embedded'):
    # The others compute with JAX.
    from dreamprvr_jax.devices import programs

    programs.keep(programs.AUTO)
  encoder = encoders.build(
    request.encoder,
    device=request.device,
    dtype=request.dtype,
    batch=request.batch,
  )
  folder = pathlib.Path(request.out) / request.collection
  found = _extract(request, encoder, folder)
  if found.skipped:
    print(_table(found.skipped, folder))
  if not found.durations:
    raise UserError(
      f'{shown(request.videos)}: none of the {found.found:,} files could be '
      'read'
    )
  if request.captions:
    _write_captions(request, encoder, folder, found)
  print(
    f'{shown(folder)}: {len(found.durations):,} videos, '
    f'{encoder.visual_width} numbers a frame (FeatureData/{FEATURE}), '
    f'encoder {request.encoder}'
  )
  if not encoder.semantic:
    print(
      'note: embedded is not a semantic encoder: it sees colours, edges and '
      'motion, and\nspelling, not what is shown or meant. Use it to try things '
      'out; for search that\nunderstands, extract with --encoder=siglip2, '
      'siglip or clip (into another\n--collection).'
    )
  return 0


def _check(request: Request) -> None:
  """Raises UserError if a flag is out of its range."""
  if not request.fps > 0:
    raise UserError(f'--fps={request.fps} must be above 0; 2 is usual')
  if not request.max_seconds > 0:
    raise UserError(
      f'--max_seconds={request.max_seconds} must be above 0; 43200 is usual'
    )
  if request.max_samples < 1:
    raise UserError(f'--max_samples={request.max_samples}; give 1 or more')
  if request.workers < 0:
    raise UserError(f'--workers={request.workers}; give 0 or more')
  if request.batch < 0:
    raise UserError(f'--batch={request.batch}; give 0 or more')


def _extract(
  request: Request, encoder: encoders.Encoder, folder: pathlib.Path
) -> Summary:
  """Extracts the videos, prints the counts and returns them."""
  options = Options(
    fps=request.fps,
    batch=request.batch or encoder.batch,
    device=request.device,
    workers=request.workers,
    progress=request.progress,
    limits=Limits(request.max_seconds, request.max_samples),
  )
  workers = options.processes
  # Each worker of an engine would load the weights, and take the device.
  own = 1 if encoder.on_device and not request.workers else workers
  engine = Engine.of(request.engine, request.engine_options, own)
  results = results_of(engine) if engine else None
  start = time.monotonic()
  found = extract_folder(request.videos, folder, encoder, options, results)
  took = time.monotonic() - start
  print(_told(found, took, request.engine or f'{workers} processes'))
  return found


def _write_captions(
  request: Request,
  encoder: encoders.Encoder,
  folder: pathlib.Path,
  found: Summary,
) -> None:
  """Writes the captions of the videos and prints their number."""
  with folders.held(folder, 'collection'):
    written = write_captions(
      request.captions,
      folder,
      request.collection,
      encoder,
      found.durations,
      progress=request.progress,
    )
  counts = ', '.join(f'{n:,} {split}' for split, n in written.splits.items())
  print(
    f'captions: {counts}'
    + f'; {written.left_out:,} of videos that are not there were left out'
    * bool(written.left_out)
  )


def _told(found: Summary, took: float, how: str) -> str:
  """Returns a summary of the work and its speed."""
  line = (
    f'{found.found:,} files: {found.done:,} extracted now, {found.there:,} '
    f'before, {len(found.skipped):,} skipped'
  )
  if found.done:
    line += (
      f'\n{took:.1f} s with {how}: {found.done / took:.2f} '
      f'videos/s, {found.seconds / took:.1f} s of video per second'
    )
  return line


def _table(skipped: dict[str, dict], folder: pathlib.Path) -> str:
  """Returns a table of the files that cannot be read, and the reasons."""
  rows = [(name, row['reason']) for name, row in sorted(skipped.items())]
  width = max(len(name) for name, _ in rows[:_SHOWN])
  lines = [f'  {name.ljust(width)}  {why}' for name, why in rows[:_SHOWN]]
  if len(rows) > _SHOWN:
    lines.append(f'  and {len(rows) - _SHOWN:,} more')
  where = shown(folder / 'skipped.json')
  return '\n'.join([f'skipped ({where}; tried again if changed):', *lines])
