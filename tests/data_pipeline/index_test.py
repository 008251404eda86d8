"""Tests of the index of prepared records."""

import dataclasses

import numpy as np
import pytest

from data_pipeline import limits
from data_pipeline.errors import DataError
from data_pipeline.index import load_arrays, save_arrays
from data_pipeline.opening import open_corpus
from data_pipeline.paths import index_path
from data_pipeline.prepare import prepare
from dreamprvr_jax.errors import UserError


def _records(options):
  return open_corpus(dataclasses.replace(options, storage='records'))


def _far_offset(index):
  index['offsets'][0, 1] = 1 << 50


def _negative_frames(index):
  index['num_frames'][0] = -1


def _other_video(index):
  index['caption_video'][0] = 5


def _long_shard(index):
  index['shard_lengths'][0] = 1 << 40


def _lost_caption(index):
  index['caption_ids'] = index['caption_ids'][:9]


def _no_text(index):
  index['captions'] = np.full(9, 0xFF, np.uint8)


def _other_type(index):
  index['num_words'] = index['num_words'].astype(np.float32)


def _lost_array(index):
  del index['durations']


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (_far_offset, 'an offset is past the end of its shard'),
    (_negative_frames, "'num_frames' has impossible numbers"),
    (_other_video, "'caption_video' has impossible numbers"),
    (_long_shard, "'shard_lengths' has impossible numbers"),
    (_lost_caption, 'it has 1 caption_ids, not'),
    (_no_text, 'not UTF-8'),
    (_other_type, "'num_words' has another shape or type"),
    (_lost_array, "'durations' is missing"),
  ],
)
def test_an_index_that_does_not_fit(
  content, options, tmp_path, change, message
):
  content.write(tmp_path)
  prepare(options, progress=False)
  path = index_path(options, 'train')
  index = load_arrays(path)
  index = {name: array.copy() for name, array in index.items()}
  change(index)
  save_arrays(path, index)
  with pytest.raises(UserError, match=message):
    _records(options)


def test_an_index_that_unpacks_too_far(content, options, tmp_path, monkeypatch):
  monkeypatch.setattr(limits, 'FREE_BYTES', 1000)
  content.write(tmp_path)
  prepare(options, progress=False)
  path = index_path(options, 'train')
  np.savez_compressed(path, **load_arrays(path), zeros=np.zeros(10**6))
  with pytest.raises(DataError, match=r"array 'zeros' takes .* more than 64"):
    _records(options)
