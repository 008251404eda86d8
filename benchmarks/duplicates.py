"""Whether copies of videos are told from other videos.

python benchmarks/duplicates.py --videos=DIR

Each video of a folder is encoded again in several ways, with other codecs,
sizes and rates of bits. Copies are all pairs of versions of one video; others
are all pairs of different videos, and the two halves of each video, which are
as long and show the same scene. Prints one JSON line: for each retriever the
share of each that is taken for a copy (`archive/search/duplicates.py`), and the
largest D / B of copies and the smallest of others.
"""

import argparse
import itertools
import json
import pathlib
import tempfile
from fractions import Fraction
from typing import Any

import av
import numpy as np

from dreamprvr_jax.archive.encoders import build
from dreamprvr_jax.archive.extraction.video import extract_file
from dreamprvr_jax.archive.search.duplicates import (
  TIMES,
  Look,
  are_copies,
  distance,
  typical,
)
from dreamprvr_jax.archive.search.timelines import unit
from dreamprvr_jax.archive.videos.finding import find_videos
from dreamprvr_jax.training_free.rows import tokens_of

# Ending, codec, scale of the sides, options of the codec.
_VERSIONS: tuple[tuple[str, str, float, dict[str, str]], ...] = (
  ('.mp4', 'libx264', 1.0, {'crf': '38', 'preset': 'ultrafast'}),
  ('.mkv', 'libx264', 0.35, {'crf': '30', 'preset': 'ultrafast'}),
  ('.webm', 'libvpx-vp9', 0.6, {'crf': '45', 'b': '0', 'cpu-used': '8'}),
)
_TICKS = 1000


def encode_again(
  source: pathlib.Path,
  target: pathlib.Path,
  codec: str,
  scale: float,
  options: dict[str, str],
) -> None:
  """Writes a video with other settings."""
  with av.open(str(source)) as film, av.open(str(target), 'w') as out:
    pictures = film.streams.video[0]
    rate = Fraction(pictures.average_rate or 25)
    stream: Any = out.add_stream(codec, rate=round(rate), options=options)
    stream.width = int(pictures.width * scale) // 2 * 2
    stream.height = int(pictures.height * scale) // 2 * 2
    stream.pix_fmt = 'yuv420p'
    stream.codec_context.time_base = Fraction(1, _TICKS)
    for number, frame in enumerate(film.decode(pictures)):
      small = frame.reformat(stream.width, stream.height, 'yuv420p')
      small.pts = round(number * _TICKS / rate)
      small.time_base = Fraction(1, _TICKS)
      out.mux(stream.encode(small))
    out.mux(stream.encode(None))


def look(retriever: str, features: np.ndarray, seconds: float) -> Look:
  """Returns what a video looks like, from the features of its frames."""
  tokens, edges = tokens_of(retriever, features)
  times = (np.arange(TIMES) + 0.5) / TIMES * edges[-1]
  place = np.searchsorted(edges[1:-1], times, side='right')
  return Look.of(unit(tokens)[place], seconds)


def measure(folder: pathlib.Path) -> list[dict[str, object]]:
  """Returns the results of each retriever."""
  identity = build('embedded').identity
  features: dict[tuple[str, int], tuple[np.ndarray, float]] = {}
  with tempfile.TemporaryDirectory() as made:
    for name, path in find_videos(folder).items():
      paths = [path]
      for number, (ending, codec, scale, options) in enumerate(_VERSIONS):
        paths.append(pathlib.Path(made) / f'{number}{ending}')
        encode_again(path, paths[-1], codec, scale, options)
      for number, version in enumerate(paths):
        found = extract_file(str(version), identity)
        features[name, number] = found.features, found.duration
  return [
    _results(retriever, features) for retriever in ('best_frame', 'tf_prvr')
  ]


def _results(
  retriever: str, features: dict[tuple[str, int], tuple[np.ndarray, float]]
) -> dict[str, object]:
  looks = {key: look(retriever, *x) for key, x in features.items()}
  scale = typical([x for (_, number), x in looks.items() if not number])
  pairs: dict[str, list[tuple[Look, Look]]] = {
    'copies': [],
    'others': [],
    'halves': [],
  }
  for (one, first), (other, second) in itertools.combinations(looks.items(), 2):
    kind = 'copies' if one[0] == other[0] else 'others'
    pairs[kind].append((first, second))
  for (_, number), (rows, seconds) in features.items():
    half = len(rows) // 2
    if not number and half > 1:
      pairs['halves'].append(
        (
          look(retriever, rows[:half], seconds / 2),
          look(retriever, rows[half : 2 * half], seconds / 2),
        )
      )
  found: dict[str, object] = {'retriever': retriever}
  for kind, of_kind in pairs.items():
    far = [distance(*pair) / scale for pair in of_kind]
    found[kind] = {
      'pairs': len(of_kind),
      'taken for copies': float(
        np.mean([are_copies(*pair, scale) for pair in of_kind])
      ),
      'D / B': max(far) if kind == 'copies' else min(far),
    }
  return found


def main() -> None:
  """Prints the results."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--videos', required=True, type=pathlib.Path)
  print(json.dumps(measure(parser.parse_args().videos)))


if __name__ == '__main__':
  main()
