"""How well moments fit the clips that are planted in long videos.

python benchmarks/moments.py --videos=DIR [--seconds=1260] [--parts=20,60,inf]

Each clip of DIR is planted once, at a random time, in a long video of its own,
which else consists of the other clips in a random order. Only the features are
put together, so that many settings can be compared: the retriever, the length
of the parts, their overlap, and `LEVEL` of `archive.search.moments`. A query is
the features of one picture of the clip, between two that were indexed, or those
of the whole clip. For each setting: the shares of queries whose first moment in
the right video overlaps the clip, and has a temporal IoU of at least 0.5 with
it; the mean of that IoU; the median seconds of the moment; how many of the
first three moments touch the clip (1 if it is not in fragments), where one
does. Prints JSON lines. `planted.py` starts from files and the command, and
counts the right videos, too.
"""

import argparse
import dataclasses
import json
import math
import pathlib
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import harness
import numpy as np

from dreamprvr_jax.archive import encoders
from dreamprvr_jax.archive.extraction.stretches import Encoded
from dreamprvr_jax.archive.extraction.video import extract_file
from dreamprvr_jax.archive.folder.parts import rows_of_video
from dreamprvr_jax.archive.index import writer
from dreamprvr_jax.archive.search import moments
from dreamprvr_jax.archive.search.index import Index
from dreamprvr_jax.archive.search.picture_queries import PictureQueries
from dreamprvr_jax.archive.search.timelines import video_timelines
from dreamprvr_jax.metrics.moments import temporal_iou
from dreamprvr_jax.trained.retriever import Retriever

# Pictures of a clip that are asked for, and their rate over that of the index.
_PICTURES, _FINER = 3, 3
_ENOUGH = 0.5


@dataclasses.dataclass(frozen=True)
class Clip:
  """The features of a clip.

  Attributes:
    name: Its file.
    indexed: (n, d) at the rate of the index.
    asked: (m, d) at a finer rate.
  """

  name: str
  indexed: np.ndarray
  asked: np.ndarray


@dataclasses.dataclass(frozen=True)
class Planted:
  """A clip in the features of a long video.

  Attributes:
    clip: The clip.
    features: (n, d) of the long video.
    span: Start and end of the clip there, in seconds.
    queries: Features of each query, (1, d) of a picture or (m, d) of the clip.
  """

  clip: Clip
  features: np.ndarray
  span: tuple[float, float]
  queries: tuple[np.ndarray, ...]


def planted(
  clips: Sequence[Clip], fps: float, seconds: float, seed: int
) -> list[Planted]:
  """Returns a long video for each clip."""
  rng = np.random.default_rng(seed)
  found = []
  for clip in clips:
    others = [one.indexed for one in clips if one is not clip]
    at, now, row, start = rng.uniform(0, seconds) * fps, 0, [], -1
    while now < seconds * fps or start < 0:
      if start < 0 and now >= at:
        start, here = now, clip.indexed
      else:
        here = others[rng.integers(len(others))]
      row.append(here)
      now += len(here)
    span = start / fps, (start + len(clip.indexed)) / fps
    few = min(_PICTURES, len(clip.asked))
    some = rng.choice(len(clip.asked), few, replace=False)
    queries = (*(clip.asked[i : i + 1] for i in some), clip.asked)
    found.append(Planted(clip, np.concatenate(row), span, queries))
  return found


def indexed(
  place: pathlib.Path,
  retriever: Retriever,
  videos: Sequence[Planted],
  fps: float,
  part: float,
  overlap: float,
) -> None:
  """Makes an index of long videos."""
  with writer.open_segment(place, retriever) as segment:
    for one in videos:
      read = Encoded(one.clip.name, fps)
      read.add(one.features)
      read.duration = len(one.features) / fps
      segment.add(one.clip.name, rows_of_video(retriever, read, part, overlap))
      read.close()


def measured(
  index: Index, queries: PictureQueries, videos: Sequence[Planted]
) -> dict[str, Any]:
  """Returns how well pictures and clips are found in their videos."""
  found = {}
  model, rows_of = index.retriever.model, index.store.rows_of()
  for kind, pick in (('picture', slice(0, -1)), ('clip', slice(-1, None))):
    touching, lengths, overlaps = [], [], []
    for one in videos:
      vectors = np.stack([queries.encoded(few) for few in one.queries[pick]])
      rows = rows_of[one.clip.name]
      lines = video_timelines(index.store, model, vectors, rows)
      for line in lines.values:
        best = moments.find_moments(line, lines.seconds, score=0.0)
        spans = np.array([(each.start, each.end) for each in best])
        shares = temporal_iou(spans, np.array([one.span]))
        overlaps.append(shares[0])
        lengths.append(np.diff(spans[0])[0])
        if shares.any():
          touching.append(np.count_nonzero(shares))
    found[kind] = {
      'overlap': round(float(np.mean(np.array(overlaps) > 0)), 2),
      'IoU >= 0.5': round(float(np.mean(np.array(overlaps) >= _ENOUGH)), 2),
      'mean IoU': round(float(np.mean(overlaps)), 2),
      'median seconds': round(float(np.median(lengths)), 1),
      'fragments': round(float(np.mean(touching)), 2) if touching else math.nan,
    }
  return found


def read_clips(
  folder: pathlib.Path, identity: dict[str, Any], fps: float
) -> Iterator[Clip]:
  """Yields the clips of a folder."""
  for path in sorted(folder.iterdir()):
    if path.suffix in ('.mp4', '.avi', '.mov', '.mkv', '.webm'):
      rates = (fps, _FINER * fps)
      few, many = (
        extract_file(str(path), identity, rate).features for rate in rates
      )
      yield Clip(path.name, few, many)


def main() -> None:
  """Compares the settings, and prints what is found."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--videos', required=True)
  parser.add_argument('--seconds', type=float, default=1260.0)
  parser.add_argument('--fps', type=float, default=2.0)
  parser.add_argument('--parts', default='20,60,120,inf')
  parser.add_argument('--overlaps', default='4')
  parser.add_argument('--retrievers', default='best_frame,tf_prvr')
  parser.add_argument('--levels', default=f'{moments.LEVEL}')
  parser.add_argument('--encoder', default='embedded')
  parser.add_argument('--seed', type=int, default=0)
  options = parser.parse_args()
  numbers = lambda text: [float(one) for one in text.split(',')]
  encoder = encoders.build(options.encoder)
  clips = read_clips(
    pathlib.Path(options.videos), dict(encoder.identity), options.fps
  )
  videos = planted(list(clips), options.fps, options.seconds, options.seed)
  for name in options.retrievers.split(','):
    retriever = Retriever.free(name, encoder.identity)
    queries = PictureQueries(retriever, encoder)
    for part in numbers(options.parts):
      # Whole videos do not overlap.
      kinds = [0.0] if math.isinf(part) else numbers(options.overlaps)
      for overlap in kinds:
        with tempfile.TemporaryDirectory() as folder:
          place = pathlib.Path(folder) / 'index'
          indexed(place, retriever, videos, options.fps, part, overlap)
          index = Index.open(place, retriever)
          for level in numbers(options.levels):
            moments.LEVEL = level
            row = {
              'retriever': name,
              'part seconds': part,
              'overlap seconds': overlap,
              'level': level,
              'rows': index.manifest.num_rows,
              **measured(index, queries, videos),
            }
            print(json.dumps(row), flush=True)
  print(json.dumps(harness.memory_gib()))


if __name__ == '__main__':
  main()
