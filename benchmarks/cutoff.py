"""How well queries that nothing fits are told from answered ones.

python benchmarks/cutoff.py --features=ROOT/flat --retriever=tf_prvr

ROOT/flat has folders with `videos.h5` (a matrix of frame vectors per video),
`queries.h5` (a sentence vector per query) and `annotations.jsonl` (rows
{"query_id", "video_ids"}), all in one space. Archives of several sizes are
drawn from the videos. A query is answered if its right video is in the archive
and comes first, and unanswered if the right video was left out. There are two
kinds of queries: sentences, and noisy pictures of a frame. For each statistic,
all sizes and kinds together: the AUC of answered against unanswered queries,
and for `gumbel`, the one that search uses (`archive/search/calibration.py`),
the shares of unanswered and answered ones that are weak or better, and strong.

Prints one JSON line.
"""

import argparse
import json
import pathlib
from collections.abc import Callable

import h5py
import numpy as np

from dreamprvr_jax.archive.search.calibration import levels_of, sample_of
from dreamprvr_jax.archive.search.timelines import unit
from dreamprvr_jax.training_free.rows import tokens_of

_SIZES = (25, 50, 200, 1000)
_DRAWS = 4
_QUERIES = 2000
_EACH = 100
# Length of the noise that is added to the unit vector of a frame.
_NOISE = 0.6


def read(
  root: pathlib.Path, retriever: str
) -> tuple[list[np.ndarray], dict[str, tuple[np.ndarray, np.ndarray]]]:
  """Returns the tokens of the videos, and {kind: (queries, right videos)}."""
  rng = np.random.default_rng(0)
  tokens, frames, place = [], [], {}
  sentences, right = [], []
  for folder in sorted(path for path in root.iterdir() if path.is_dir()):
    with h5py.File(folder / 'videos.h5') as file:
      for name in file:
        vectors = np.asarray(file[name])
        place[name] = len(tokens)
        tokens.append(tokens_of(retriever, vectors)[0])
        frames.append(vectors[rng.integers(len(vectors))])
    with h5py.File(folder / 'queries.h5') as file:
      for line in (folder / 'annotations.jsonl').read_text().splitlines():
        row = json.loads(line)
        sentences.append(np.asarray(file[row['query_id']]))
        right.append(place[row['video_ids'][0]])
  few = rng.permutation(len(sentences))[:_QUERIES]
  shown = rng.permutation(len(frames))[:_QUERIES]
  pictures = unit(np.asarray(frames)[shown])
  pictures += _NOISE * unit(rng.standard_normal(pictures.shape))
  return tokens, {
    'sentence': (unit(np.asarray(sentences)[few]), np.asarray(right)[few]),
    'picture': (unit(pictures), shown),
  }


def auc(answered: np.ndarray, unanswered: np.ndarray) -> float:
  """Returns how often an answered query is above an unanswered one."""
  order = np.sort(unanswered)
  below = np.searchsorted(order, answered, side='left')
  upto = np.searchsorted(order, answered, side='right')
  return float((below + upto).mean() / 2 / len(order))


def statistics() -> dict[str, Callable[[np.ndarray, int], np.ndarray]]:
  """Returns the statistics of the scores of queries with a whole archive."""

  def gumbel(scores: np.ndarray, rows: int) -> np.ndarray:
    levels = levels_of(scores[:, sample_of(np.arange(rows))], rows)
    weak, strong = levels.T
    return (scores.max(axis=1) - weak) / (strong - weak)

  def gap(scores: np.ndarray, rows: int) -> np.ndarray:
    del rows
    best = np.sort(scores, axis=1)[:, -2:]
    return best[:, 1] - best[:, 0]

  return {
    'gumbel': gumbel,
    'flat threshold': lambda scores, rows: scores.max(axis=1),
    'standard score': lambda scores, rows: (
      (scores.max(axis=1) - scores.mean(axis=1)) / scores.std(axis=1)
    ),
    'gap to the second': gap,
  }


def measure(root: pathlib.Path, retriever: str) -> dict[str, object]:
  """Returns the results of a retriever."""
  tokens, kinds = read(root, retriever)
  scores = {
    kind: np.stack([(queries @ one.T).max(axis=1) for one in tokens], axis=1)
    for kind, (queries, _) in kinds.items()
  }
  rng = np.random.default_rng(1)
  found: dict[str, dict[bool, list[np.ndarray]]] = {}
  for size in (size for size in _SIZES if size < len(tokens)):
    for _ in range(_DRAWS):
      archive = np.sort(rng.choice(len(tokens), size, replace=False))
      for kind, (_, right) in kinds.items():
        here = scores[kind][:, archive]
        first = archive[here.argmax(axis=1)] == right
        there = np.isin(right, archive)
        for name, statistic in statistics().items():
          values = statistic(here, size)
          lists = found.setdefault(name, {True: [], False: []})
          # As many of each kind and size, with repetition.
          for key, chosen in ((True, there & first), (False, ~there)):
            lists[key].append(rng.choice(values[chosen], _EACH))
  joined = {
    name: {key: np.concatenate(rows) for key, rows in lists.items()}
    for name, lists in found.items()
  }
  share = lambda is_answered, level: float(
    (joined['gumbel'][is_answered] >= level).mean()
  )
  return {
    'retriever': retriever,
    'videos': len(tokens),
    'auc': {n: auc(x[True], x[False]) for n, x in joined.items()},
    'unanswered': {'weak': share(False, 0), 'strong': share(False, 1)},
    'answered': {'weak': share(True, 0), 'strong': share(True, 1)},
  }


def main() -> None:
  """Prints the results."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--features', required=True, type=pathlib.Path)
  parser.add_argument(
    '--retriever', default='tf_prvr', choices=('tf_prvr', 'best_frame')
  )
  given = parser.parse_args()
  print(json.dumps(measure(given.features, given.retriever)))


if __name__ == '__main__':
  main()
