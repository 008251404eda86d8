"""What a database has of an index: its points, and what they say.

A representative of a video (see `representatives`) is a point with the vector
`clip` or `frame` and the id of its video. Each video has a point without a
vector, which says how many points are its own and from which tokens they were
made. One more point says which index was exported.
"""

import dataclasses
import hashlib
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dreamprvr_jax.archive.index.layout import BRANCHES
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.lists.representatives import representatives

# What a point without a vector is about: a video or the index.
KIND, OF_VIDEO, OF_INDEX = 'kind', 'video', 'index'
VIDEO = 'video'
# Version of what is written here; another one is refused.
FORMAT = 1
_IDS = uuid.UUID('6d7a2f0a-3a5b-5d0e-9d6b-2f4f3f1f8d11')
ABOUT_ID = str(uuid.uuid5(_IDS, OF_INDEX))


@dataclasses.dataclass(frozen=True)
class Point:
  """A point.

  Attributes:
    id: A UUID.
    vectors: {branch: vector}, one or none.
    payload: Its facts.
  """

  id: str
  vectors: Mapping[str, np.ndarray]
  payload: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class About:
  """What a database says of the index that was exported to it.

  Attributes:
    weights: Digest of the weights that made the tokens.
    width: Numbers of a token.
    product: Whether a score is a product with a token; else it is a cosine.
    state: `state_of` the index; '' while an export has not finished.
    points: How many points there are, with this one.
    depth: How many neighbours a search keeps in the graph; 0: all vectors are
      compared.
    version: `FORMAT` of the program that wrote it.
  """

  weights: str
  width: int
  product: bool
  state: str = ''
  points: int = 0
  depth: int = 0
  version: int = FORMAT

  def point(self) -> Point:
    """Returns the point that says so."""
    facts = {KIND: OF_INDEX, **dataclasses.asdict(self)}
    return Point(ABOUT_ID, {}, facts)

  @classmethod
  def read(cls, payload: Mapping[str, Any] | None) -> 'About | None':
    """Returns what a point says; None if it is not one of these, or
    another version wrote it."""
    payload = dict(payload or {})
    if payload.pop(KIND, None) != OF_INDEX:
      return None
    types = {field.name: field.type for field in dataclasses.fields(cls)}
    if {k: type(v) for k, v in payload.items()} != types:
      return None
    return cls(**payload) if payload['version'] == FORMAT else None


@dataclasses.dataclass(frozen=True)
class Entry:
  """What a database says of a video.

  Attributes:
    digest: `digest_of` its tokens; '' while its points are written.
    counts: {branch: points}.
  """

  digest: str
  counts: Mapping[str, int]

  def point(self, video: str) -> Point:
    """Returns the point that says so."""
    facts = {KIND: OF_VIDEO, VIDEO: video, 'digest': self.digest}
    return Point(_id(video), {}, {**facts, **self.counts})

  @classmethod
  def read(cls, payload: Mapping[str, Any]) -> 'Entry':
    """Returns what the point of a video says."""
    counts = {branch: int(payload[branch]) for branch in BRANCHES}
    return cls(payload['digest'], counts)

  def ids(self, video: str, kept: Mapping[str, int] | None = None) -> list[str]:
    """Returns the ids of the points of a video, without the first `kept` of
    each branch."""
    kept = kept or {}
    return [
      _id(video, branch, i)
      for branch, count in self.counts.items()
      for i in range(kept.get(branch, 0), count)
    ]


def id_of(video: str) -> str:
  """Returns the id of the point that is about a video."""
  return _id(video)


def state_of(store: Store) -> str:
  """Returns a digest of which videos an index has, in which segments."""
  digest = hashlib.blake2b(digest_size=16)
  for segment in store.manifest.segments:
    digest.update(segment.name.encode() + b'\n')
  for video in store.rows_of():
    digest.update(video.encode() + b'\n')
  return digest.hexdigest()


class Videos:
  """Some videos of an index, whose tokens are read once."""

  def __init__(self, store: Store, videos: Sequence[tuple[str, range]]):
    """Reads the tokens.

    Args:
      store: The index.
      videos: The ids and rows of the videos.

    Raises:
      DamagedError: If tokens are damaged.
    """
    self._ends = np.cumsum([0, *(len(rows) for _, rows in videos)])
    rows = np.concatenate([np.asarray(x, np.int64) for _, x in videos])
    mask = store.take('frame_mask', rows)
    self._tokens, self._masks = {}, {}
    for branch in BRANCHES:
      found = store.tokens(branch, rows)
      store.check_finite(found, rows, 'tokens')
      self._tokens[branch] = found
      is_frame = branch == 'frame'
      self._masks[branch] = mask if is_frame else np.ones(found.shape[:2], bool)

  def digests(self) -> list[str]:
    """Returns a digest of the tokens of each video."""
    found = []
    for start, stop in zip(self._ends[:-1], self._ends[1:], strict=True):
      digest = hashlib.blake2b(digest_size=12)
      for branch in BRANCHES:
        digest.update(self._masks[branch][start:stop].tobytes())
        digest.update(self._tokens[branch][start:stop].tobytes())
      found.append(digest.hexdigest())
    return found

  def vectors(
    self, numbers: Sequence[int], *, product: bool
  ) -> list[dict[str, list[np.ndarray]]]:
    """Returns the representatives of some of the videos, {branch: vectors}.

    Args:
      numbers: Places of the videos, in rising order.
      product: Whether a score is a product with a token, not a cosine.
    """
    found = [{branch: [] for branch in BRANCHES} for _ in numbers]
    spans = [np.arange(*self._ends[i : i + 2]) for i in numbers]
    if not spans:
      return found
    rows = np.concatenate(spans)
    owners = np.repeat(np.arange(len(spans)), [len(x) for x in spans])
    for branch in BRANCHES:
      vectors, row = representatives(
        self._tokens[branch][rows], self._masks[branch][rows], unit=not product
      )
      for vector, owner in zip(vectors, owners[row], strict=True):
        found[owner][branch].append(vector)
    return found


def points_of(
  video: str, vectors: Mapping[str, Sequence[np.ndarray]]
) -> list[Point]:
  """Returns the points of the representatives of a video."""
  return [
    Point(_id(video, branch, i), {branch: vector}, {VIDEO: video})
    for branch, few in vectors.items()
    for i, vector in enumerate(few)
  ]


def _id(*names: Any) -> str:
  """Returns the same UUID for the same names, so that a point that is sent
  twice is stored once."""
  return str(uuid.uuid5(_IDS, repr(names)))
