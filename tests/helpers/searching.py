"""A retriever that computes nothing, and generated videos to index."""

import json
import pathlib

import numpy as np

from dreamprvr_jax.archive.index import checksums
from dreamprvr_jax.archive.index.checksums import sealed
from dreamprvr_jax.archive.index.encoding import Videos
from dreamprvr_jax.models.base import RetrievalModel
from dreamprvr_jax.trained.retriever import Retriever
from dreamprvr_jax.types import VideoEncoding
from tests.helpers.models import shared_fields
from tests.helpers.retrieval import features, padded

WIDTH = 16


class Plain(RetrievalModel):
  """Uses features as tokens and the first word as the query."""

  def encode_query(self, words, word_mask, *, train=False):
    return words[:, 0]

  def encode_video(
    self, clip_features, frame_features, frame_mask, clip_sizes=None, *, train=0
  ):
    return VideoEncoding(clip_features, frame_features, frame_mask)


def retriever(model=None, variables=None, digest='plain', **stored):
  stored = {
    'text_width': WIDTH,
    'config': {'data': {'max_words': 2}},
    **stored,
  }
  model = model or Plain(**shared_fields())
  return Retriever('nowhere', model, variables or {}, digest, stored)


def made(videos=45, queries=37, **options):
  """Returns features that float16 represents exactly."""
  data = features(videos, queries, width=WIDTH, **options)
  for name in ('clips', 'frames', 'words'):
    data[name] = data[name].astype(np.float16).astype(np.float32)
  return data


def ids_of(count):
  return [f'v{i}' for i in range(count)]


def videos_of(data, rows=None, *, batch=8, **more):
  """Returns some videos of generated features."""
  total = len(data['clips'])
  rows = np.arange(total) if rows is None else np.asarray(rows)

  def batches():
    for start in range(0, len(rows), batch):
      here = rows[start : start + batch]
      found = {
        'clip_features': padded(data['clips'][here], batch),
        'frame_features': padded(data['frames'][here], batch),
        'frame_mask': padded(data['mask'][here], batch),
        'video_mask': np.arange(batch) < len(here),
      }
      for name, value in more.items():
        found[name] = padded(value[here], batch)
      yield found

  durations = np.where(rows % 5 == 4, np.nan, 10.0 + rows)
  return Videos([f'v{i}' for i in rows], durations, batches)


def seal(place: pathlib.Path, content=None):
  """Gives an index the checksums of its files as they are now.

  Args:
    place: The index.
    content: What its manifest says instead of what it says now.
  """
  path = place / 'manifest.json'
  content = content or json.loads(path.read_text())
  for segment in content['segments']:
    folder = place / 'segments' / segment['name']
    segment['files'] = checksums.record(folder, segment['files'])
  path.write_text(sealed(content))
