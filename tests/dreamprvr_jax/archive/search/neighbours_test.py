"""Similar videos, found by their registers."""

import jax
import numpy as np
import pytest

from dreamprvr_jax.archive.index import encoding, writer
from dreamprvr_jax.archive.index.compaction import remove
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.search.neighbours import Neighbours
from dreamprvr_jax.cli import indexing
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.models.base import RetrievalModel
from dreamprvr_jax.models.dreamprvr import DreamPRVR
from dreamprvr_jax.trained.inference import load
from tests.helpers.commands import call, untrained
from tests.helpers.searching import made, retriever, videos_of


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def check(neighbours, ids, likeness):
  for row, video in enumerate(ids):
    found = neighbours.nearest(video, 5)
    order = [i for i in np.argsort(-likeness[row], kind='stable') if i != row]
    values = [value for _, value in found]
    assert {name for name, _ in found} <= set(ids) - {video}
    np.testing.assert_allclose(values, likeness[row][order[:5]], atol=8e-3)


@pytest.mark.parametrize('tokens', ['float16', 'int8'])
def test_means_of_clips(tokens, tmp_path, monkeypatch):
  monkeypatch.setattr('dreamprvr_jax.archive.search.neighbours._ROWS', 7)
  data = made(30, 1)
  writer.create(
    tmp_path / 'i', retriever(), videos_of(data, range(20)), tokens=tokens
  )
  writer.append(tmp_path / 'i', retriever(), videos_of(data, range(20, 30)))
  remove(tmp_path / 'i', ['v0', 'v7', 'v22'])
  left = [i for i in range(30) if i not in (0, 7, 22)]
  means = unit(unit(data['clips'][left]).mean(axis=1))
  neighbours = Neighbours(Store(tmp_path / 'i'))
  assert neighbours.kind == 'clips'
  check(neighbours, [f'v{i}' for i in left], means @ means.T)
  assert len(neighbours.nearest('v1', 100)) == 26
  for video in ('v7', 'nobody'):
    with pytest.raises(UserError, match=f'no video {video!r}'):
      neighbours.nearest(video)


def test_a_video_alone_has_no_neighbour(tmp_path):
  writer.create(tmp_path / 'i', retriever(), videos_of(made(3, 1), [1]))
  assert Neighbours(Store(tmp_path / 'i')).nearest('v1') == []


@pytest.fixture(scope='module')
def dreamprvr(tmp_path_factory):
  place, corpus = untrained(
    tmp_path_factory.mktemp('registers'),
    'dreamprvr',
    (6, 4, 9),
    '--config.model.parallel_execution=batched',
    '--config.model.num_registers=3',
  )
  return place, corpus.splits['test']


def test_registers_are_stored_with_the_tokens(dreamprvr):
  checkpoint, split = dreamprvr
  place = checkpoint.parent / 'index'
  flags = ('--mode=index', f'--index={place}')
  assert (
    call(*flags, f'--checkpoint={checkpoint}', '--config.data.eval_split=val')
    == 0
  )
  assert call(*flags, '--append') == 0
  store = Store(place)
  assert store.manifest.registers == 3
  stored = store.read('registers', 4, 13)
  assert stored.dtype == np.float16
  model, variables = load(checkpoint)
  videos = indexing.videos_of(split, np.arange(9), 4)
  expected = []
  encode = jax.jit(
    lambda *arrays: model.apply(
      variables, *arrays, train=False, method='encode_branches'
    )
  )
  names = 'clip_features', 'frame_features', 'frame_mask'
  for batch in videos.batches():
    _, kept = encode(*(batch[name] for name in names))
    expected.append(np.asarray(kept.tokens)[batch['video_mask']])
  expected = np.concatenate(expected)
  np.testing.assert_allclose(stored, expected, rtol=2e-3, atol=2e-3)
  neighbours = Neighbours(store)
  assert neighbours.kind == 'registers'
  registers = unit(store.read('registers', 0, 13).astype(np.float32))
  likeness = np.einsum('ard,brd->ab', registers, registers) / 3
  check(neighbours, store.ids, likeness)


def test_an_index_without_registers_stays_so(dreamprvr, monkeypatch):
  checkpoint, _ = dreamprvr
  place = checkpoint.parent / 'former'
  flags = ('--mode=index', f'--index={place}')
  with monkeypatch.context() as patch:
    # As the models that have none, in a program of its own.
    patch.setattr(encoding, 'program', encoding.program.__wrapped__)
    patch.setattr(
      DreamPRVR,
      'encode_video_and_registers',
      RetrievalModel.encode_video_and_registers,
    )
    of_val = '--config.data.eval_split=val'
    assert call(*flags, f'--checkpoint={checkpoint}', of_val) == 0
  assert Store(place).manifest.registers == 0
  assert call(*flags, '--append') == 0
  store = Store(place)
  assert len(store) == 13
  assert not store.has('registers')
  assert Neighbours(store).kind == 'clips'
