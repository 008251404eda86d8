"""Indexing in a batch job: a worker encodes some videos as a segment."""

import dataclasses
import functools
import json
import pathlib
import uuid
from collections.abc import Iterator, Sequence

import numpy as np

from data_pipeline.archive import open_archive
from data_pipeline.corpus import Split
from data_pipeline.opening import open_corpus
from data_pipeline.options import DataOptions
from data_pipeline.prefetch import Prefetcher
from dreamprvr_jax.archive.index.encoding import Videos
from dreamprvr_jax.archive.index.writer import Elsewhere, write_part
from dreamprvr_jax.archive.jobs.engine import Engine
from dreamprvr_jax.devices import meshes, programs
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.trained.retriever import Retriever
from dreamprvr_jax.training_free.rows import ROW_TOKENS

# Batches that are read in advance.
_AHEAD = 2
# Videos of an element, about: not too many to lose with a worker, and enough to
# get few segments.
_VIDEOS = 1024


@dataclasses.dataclass(frozen=True)
class Plan:
  """The settings that all elements of a job share, in plain values.

  Attributes:
    checkpoint: The folder of the checkpoint.
    digest: Digest of its weights, see `Retriever`.
    options: Options of the corpus.
    split: Split of the corpus; '' for all videos of the features.
    batch: Videos encoded at a time.
    num_devices: Devices of a worker's mesh, see `meshes.make_mesh`.
    corpus_devices: See `meshes.make_mesh`.
    programs: Where compiled programs are kept, see `devices.programs.keep`.
    facts: `Retriever.facts` as JSON; '' for a checkpoint.
    frames: Frame tokens of a row of the index; 0 for a new one.
  """

  checkpoint: str
  digest: str
  options: DataOptions
  split: str
  batch: int
  num_devices: int
  corpus_devices: int
  programs: str
  facts: str = ''
  frames: int = 0


@dataclasses.dataclass(frozen=True)
class Part:
  """Videos that become a segment.

  Attributes:
    plan: The settings.
    index: The folder of the index.
    name: Name of the segment.
    rows: Rows of the split.
    tokens: One of `manifest.TOKENS`.
    registers: Whether registers are stored.
  """

  plan: Plan
  index: str
  name: str
  rows: tuple[int, ...]
  tokens: str
  registers: bool


def anywhere(options: DataOptions) -> DataOptions:
  """Returns options with absolute paths."""
  absolute = lambda text: ','.join(
    path if '://' in path else str(pathlib.Path(path).absolute())
    for path in text.split(',')
    if path
  )
  return dataclasses.replace(
    options,
    root=absolute(options.root),
    prepared_dir=absolute(options.prepared_dir),
    moments=absolute(options.moments),
  )


def elsewhere(engine: Engine, plan: Plan, rows: Sequence[int]) -> Elsewhere:
  """Returns the `elsewhere` of `writer.create` and `append` with which an
  engine's workers encode some rows of the split."""

  def write(root: pathlib.Path, tokens: str, registers: bool) -> list[str]:
    job = uuid.uuid4().hex
    parts = [
      Part(
        plan,
        str(root.absolute()),
        f'{job}-{number:05}',
        tuple(map(int, few)),
        tokens,
        registers,
      )
      for number, few in enumerate(_cut(rows, plan.batch, engine.processes))
    ]
    engine.run(work, parts)
    return [part.name for part in parts]

  return write


def _cut(
  rows: Sequence[int], batch: int, workers: int
) -> Iterator[Sequence[int]]:
  """Yields parts of the rows, of whole batches, so that batches are the same
  for any number of parts."""
  size = min(_VIDEOS, -(-len(rows) // workers))
  size = -(-size // batch) * batch
  for start in range(0, len(rows), size):
    yield rows[start : start + size]


def work(part: Part) -> None:
  """Encodes and writes one part."""
  plan = part.plan
  programs.keep(plan.programs)
  retriever = _retriever(plan.checkpoint, plan.facts)
  if retriever.digest != plan.digest:
    raise UserError(
      f'{plan.checkpoint} has the weights {retriever.digest} for a worker, but '
      f'{plan.digest} where the job began; it has changed, or is another file '
      'on that machine'
    )
  split = _split(plan.options, plan.split)
  write_part(
    part.index,
    part.name,
    retriever,
    videos_of(split, np.asarray(part.rows, int), plan.batch, plan.frames),
    tokens=part.tokens,
    registers=part.registers,
    mesh=meshes.make_mesh(plan.num_devices, plan.corpus_devices),
  )


# A process keeps both for its next parts.
@functools.lru_cache(maxsize=1)
def _retriever(checkpoint: str, facts: str) -> Retriever:
  if facts:
    return Retriever.from_facts(json.loads(facts))
  return Retriever.load(checkpoint)


@functools.lru_cache(maxsize=1)
def _split(options: DataOptions, name: str) -> Split:
  return open_corpus(options).splits[name] if name else open_archive(options)


def videos_of(
  split: Split, rows: np.ndarray, batch: int, frames: int = 0
) -> Videos:
  """Returns some videos of a split, which are read while they are encoded.

  Without training a video has as many frame tokens as it has frames or moments.
  They are padded to those of the index, or for a new one to a multiple of
  `ROW_TOKENS`, so that videos of other splits may be added.

  Args:
    split: The split.
    rows: Its videos.
    batch: Videos encoded at a time.
    frames: Frame tokens of a row of the index; 0 for a new one.

  Raises:
    UserError: If a video has more tokens than a row.
  """
  length = split.max_frames
  if split.options.retriever:
    length = frames or -(-length // ROW_TOKENS) * ROW_TOKENS
    most = int(split.stored_frames[rows].max(initial=0))
    if most > length:
      raise UserError(
        f'a video has {most} tokens of {split.options.retriever}, but a row of '
        f'the index has room for {length}; index all videos again'
      )

  def make(start: int) -> dict[str, np.ndarray]:
    # All batches have one size, so that a video's encoding does not depend on
    # the others.
    here = np.full(batch, -1)
    few = rows[start : start + batch]
    here[: len(few)] = few
    found = {**split.read_videos(here), 'video_mask': here >= 0}
    for name in ('frame_features', 'frame_mask'):
      found[name] = _of_length(found[name], length)
    if split.frame_edges is not None:
      # Fractions of the videos; 1 at padded frames, and in padded rows.
      edges = np.ones((batch, length + 1), np.float32)
      for row, video in enumerate(few):
        borders = split.frame_edges[video]
        edges[row, : len(borders)] = borders / borders[-1]
      found['frame_edges'] = edges
    return found

  def batches() -> Iterator[dict[str, np.ndarray]]:
    found = Prefetcher(make, iter(range(0, len(rows), batch)), _AHEAD)
    try:
      yield from found
    finally:
      found.close()

  ids = [split.video_ids[row] for row in rows]
  return Videos(ids, split.durations[rows], batches)


def _of_length(x: np.ndarray, length: int) -> np.ndarray:
  """Returns an array whose second axis is cut, or padded with zeros."""
  if x.shape[1] == length:
    return x
  short = max(length - x.shape[1], 0)
  return np.pad(x[:, :length], ((0, 0), (0, short), *((0, 0),) * (x.ndim - 2)))
