"""Made archives and queries that judge a first pass of a search.

A first pass that is judged by queries near a stored token looks perfect and is
not: queries of text do not lie near the tokens of pictures. There are three
kinds of queries. `near`: a stored token and noise of the same length. `gap`: a
vector that all queries share comes on top, as between the two kinds of vectors
of an image-text model. `hard`: more noise, too.

A video is about one of some topics. Its tokens fall into shots of alike
tokens, as neighbouring frames do. Video v depends on the seed and on v alone,
so that each part of an archive can be made by itself.
"""

import concurrent.futures
import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

TOPICS = 500
# The length of the shared vector and that of the noise, for tokens of length 1.
KINDS = {'near': (0.0, 1.0), 'gap': (1.5, 1.5), 'hard': (1.5, 3.0)}
# Each of these, after the seed, starts a series of random numbers.
_TOPIC, _VIDEO, _QUERY, _SHARED = 1, 2, 3, 4
# Deviations of a video from its topic, a shot from its video, and a token from
# its shot, for a topic of length 1.
_OWN, _SHOT, _TOKEN = 0.8, 0.6, 0.3
# Videos that are made at a time.
_BLOCK = 32
# The two cores that the bars are for; most of the work is done outside Python.
_THREADS = 2


@dataclasses.dataclass(frozen=True)
class Recipe:
  """How an archive is made.

  Attributes:
    videos: Its videos.
    tokens: Tokens of a video.
    width: Numbers of a token.
    seed: Seed of all random numbers.
    shots: Shots of a video; 0 if each token is a shot of its own, so that no
      two tokens are alike. A shot may get no token.
    topics: Topics of the archive.
  """

  videos: int
  tokens: int
  width: int
  seed: int = 0
  shots: int = 4
  topics: int = TOPICS

  def made(
    self, first: int, count: int
  ) -> Float[np.ndarray, 'count tokens width']:
    """Returns the tokens of `count` videos from number `first` on, float32, of
    unit length."""
    centres = self._centres()
    found = np.empty((count, self.tokens, self.width), np.float32)
    fill = lambda start: self._fill(
      found[start : start + _BLOCK], first + start, centres
    )
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
      list(pool.map(fill, range(0, count, _BLOCK)))
    return found

  def queries(
    self, kind: str, count: int
  ) -> tuple[Float[np.ndarray, 'count width'], Int[np.ndarray, ' count']]:
    """Returns queries of unit length, float32, and the video that each was made
    from.

    Args:
      kind: A key of `KINDS`.
      count: Number of queries.
    """
    gap, noise = KINDS[kind]
    rng = np.random.default_rng([self.seed, _QUERY, sorted(KINDS).index(kind)])
    shared = np.random.default_rng([self.seed, _SHARED]).standard_normal(
      self.width, dtype=np.float32
    )
    source = rng.integers(self.videos, size=count)
    places = np.array([rng.integers(self.tokens) for _ in source], np.int64)
    centres = self._centres()
    near = np.empty((count, self.width), np.float32)
    one = np.empty((1, self.tokens, self.width), np.float32)
    for i, (video, place) in enumerate(zip(source, places, strict=True)):
      self._fill(one, int(video), centres)
      near[i] = one[0, place]
    spread = rng.standard_normal((count, self.width), dtype=np.float32)
    found = near + gap * unit(shared) + noise * spread / np.sqrt(self.width)
    return unit(found.astype(np.float32)), source

  def _centres(self) -> Float[np.ndarray, 'topics width']:
    rng = np.random.default_rng([self.seed, _TOPIC])
    shape = (self.topics, self.width)
    return unit(rng.standard_normal(shape, dtype=np.float32))

  def _fill(
    self,
    found: Float[np.ndarray, 'b tokens width'],
    first: int,
    centres: Float[np.ndarray, 'topics width'],
  ) -> None:
    """Writes the tokens of the videos from number `first` on."""
    shots = self.shots or self.tokens
    scale = np.float32(1 / np.sqrt(self.width))
    topics = np.empty(len(found), np.int64)
    own = np.empty((len(found), 1, self.width), np.float32)
    shot = np.empty((len(found), shots, self.width), np.float32)
    places = np.empty((len(found), self.tokens), np.int64)
    for i in range(len(found)):
      rng = np.random.default_rng([self.seed, _VIDEO, first + i])
      topics[i] = rng.integers(self.topics)
      rng.standard_normal(dtype=np.float32, out=own[i])
      rng.standard_normal(dtype=np.float32, out=shot[i])
      places[i] = (
        np.sort(rng.integers(shots, size=self.tokens))
        if self.shots
        else np.arange(self.tokens)
      )
      rng.standard_normal(dtype=np.float32, out=found[i])
    own *= _OWN * scale
    own += centres[topics][:, None]
    shot *= _SHOT * scale
    shot += own
    found *= _TOKEN * scale
    found += shot[np.arange(len(found))[:, None], places]
    found /= np.linalg.norm(found, axis=-1, keepdims=True)


def unit(x: Float[np.ndarray, '... d']) -> Float[np.ndarray, '... d']:
  """Returns vectors scaled to unit length."""
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


@dataclasses.dataclass(frozen=True)
class Branches:
  """Which tokens of a video are clip tokens; the rest are frame tokens.

  Attributes:
    tokens: Tokens of a video.
    clips: Clip tokens, which are spread evenly over the others.
  """

  tokens: int
  clips: int

  def __post_init__(self):
    if not 0 < self.clips < self.tokens:
      raise ValueError(f'{self.clips} clip tokens of {self.tokens} tokens')

  @property
  def clip_places(self) -> Int[np.ndarray, ' clips']:
    """The places of the clip tokens among all tokens, in order."""
    return np.arange(self.clips) * self.tokens // self.clips

  def split(
    self, tokens: Float[np.ndarray, 'b tokens d']
  ) -> tuple[Float[np.ndarray, 'b clips d'], Float[np.ndarray, 'b frames d']]:
    """Returns the clip tokens and the frame tokens, both in order."""
    is_clip = np.zeros(self.tokens, bool)
    is_clip[self.clip_places] = True
    return tokens[:, is_clip], tokens[:, ~is_clip]


def parts(recipe: Recipe, size: int) -> Iterator[tuple[int, np.ndarray]]:
  """Yields (first video, tokens) of the archive, `size` videos at a time."""
  for first in range(0, recipe.videos, size):
    yield first, recipe.made(first, min(size, recipe.videos - first))
