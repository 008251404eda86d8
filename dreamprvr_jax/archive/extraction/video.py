"""Features of one video file."""

import dataclasses
import functools
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from dreamprvr_jax.archive.encoders import Encoder, from_identity
from dreamprvr_jax.archive.extraction.decoders import Work
from dreamprvr_jax.archive.videos.frames import LIMITS, Limits

# Pictures that are encoded at a time.
BATCH = 32


@dataclasses.dataclass(frozen=True)
class Extracted:
  """The features of a video.

  Attributes:
    features: (n, d) float32, a row per sample.
    duration: Seconds.
  """

  features: Float[np.ndarray, 'n d']
  duration: float


def extract_file(
  path: str,
  identity: Mapping[str, Any],
  fps: float = 2.0,
  *,
  batch: int = BATCH,
  device: str = '',
  threads: int = 0,
  limits: Limits = LIMITS,
) -> Extracted:
  """Returns the features of one file; a process keeps its encoder.

  Args:
    path: The file.
    identity: Identity of the encoder, see `Encoder`.
    fps: Samples per second.
    batch: Pictures that are encoded at a time.
    device: See `encoders.build`.
    threads: Threads of the decoder; 0 lets it choose.
    limits: How long the file may be.

  Raises:
    VideoError: If the file is no complete video, or exceeds the limits.
    DataError: If the encoder cannot be built.
  """
  encoder = _encoder(json.dumps(identity, sort_keys=True), device)
  rows, duration = [], 0.0
  for found in Work.of(encoder, fps, batch, threads, limits).rows(path):
    if isinstance(found, np.ndarray):
      rows.append(encoder.frames(found) if encoder.on_device else found)
    else:
      duration = found
  return Extracted(np.concatenate(rows), duration)


@functools.lru_cache(maxsize=1)
def _encoder(identity: str, device: str) -> Encoder:
  return from_identity(json.loads(identity), device=device)
