"""What an index holds: its segments, and whose tokens they are.

Layout of an index:
  manifest.json       this; replaced in one step, and the last to be written
  segments/NAME/      videos that were added together: ids.json, and arrays
                      with one row per video (`store.array_specs`)
A segment that no manifest names is the rest of a write that was stopped.
"""

import dataclasses
import json
import os
import pathlib
from typing import Any

from dreamprvr_jax import checkpoints
from dreamprvr_jax.errors import UserError

MANIFEST = 'manifest.json'
SEGMENTS = 'segments'
# 1 had neither registers nor product codes.
VERSION = 2
# How tokens are stored: as float16, as int8 with a scale per token, as product
# codes, or the first with one of the others.
TOKENS = ('float16', 'int8', 'float16+int8', 'pq', 'float16+pq')


@dataclasses.dataclass(frozen=True)
class Segment:
  """Videos that were added together.

  Attributes:
    name: Its folder.
    videos: Rows of its arrays.
    removed: Rows that count no more, rising.
  """

  name: str
  videos: int
  removed: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Manifest:
  """The contents of an index.

  Attributes:
    checkpoint: Where the checkpoint was, absolute.
    digest: Of the checkpoint's weights; see `Retriever`.
    tokens: One of `TOKENS`.
    clips: Clip tokens of a video.
    frames: Frame tokens of a video, padded ones included.
    width: Of a token.
    segments: In the order in which they were added.
    registers: Register tokens of a video, 0 if none are stored.
    sub_vectors: Bytes of a token's product code, 0 if there are none.
  """

  checkpoint: str
  digest: str
  tokens: str
  clips: int
  frames: int
  width: int
  segments: tuple[Segment, ...]
  registers: int = 0
  sub_vectors: int = 0

  @property
  def num_videos(self) -> int:
    """Videos that are searched."""
    return sum(s.videos - len(s.removed) for s in self.segments)

  def write(self, directory: os.PathLike[str] | str) -> None:
    """Puts this in the place of the index's manifest, in one step."""
    content = {'version': VERSION, **dataclasses.asdict(self)}
    checkpoints.write_json(pathlib.Path(directory) / MANIFEST, content)

  @classmethod
  def read(cls, directory: os.PathLike[str] | str) -> 'Manifest':
    """Returns the manifest of an index.

    Raises:
      UserError: If there is none, it cannot be read, or its version is
        another.
    """
    path = pathlib.Path(directory) / MANIFEST
    if not path.exists():
      raise UserError(
        f'{directory} holds no index: there is no {MANIFEST} in it; give the '
        'folder that --mode=index wrote, or make one with --mode=index '
        f'--checkpoint=... --index={directory}'
      )
    try:
      content = json.loads(path.read_text())
      version = content.pop('version')
      if version in range(1, VERSION + 1):
        return cls._of(content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
      raise UserError(
        f'{path} is no manifest of an index ({type(error).__name__}: {error}); '
        'restore it from a backup, or index anew'
      ) from error
    raise UserError(
      f'{path} is of version {version!r}, this program reads versions 1 to '
      f'{VERSION}; index anew, or use the program that wrote it'
    )

  @classmethod
  def _of(cls, content: dict[str, Any]) -> 'Manifest':
    if content['tokens'] not in TOKENS:
      raise ValueError(f'tokens is {content["tokens"]!r}')
    segments = tuple(
      Segment(str(s['name']), int(s['videos']), tuple(map(int, s['removed'])))
      for s in content.pop('segments')
    )
    return cls(**content, segments=segments)
