"""What the points of a database say, and which of them change."""

import numpy as np
import pytest

from dreamprvr_jax.archive.database.points import (
  About,
  Entry,
  Videos,
  points_of,
  state_of,
)
from dreamprvr_jax.archive.index import writer
from dreamprvr_jax.archive.index.compaction import compact, remove
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.lists.representatives import representatives
from tests.helpers.searching import made, retriever, videos_of


@pytest.fixture
def store(tmp_path):
  writer.create(tmp_path / 'index', retriever(), videos_of(made(6, 1)))
  return Store(tmp_path / 'index')


def test_what_is_said_is_read_back():
  about = About('weights', 16, True, 'state', 7, 400)
  assert About.read(about.point().payload) == about
  assert About.read(None) is None
  assert About.read({'kind': 'index', 'weights': 'x'}) is None
  assert About.read({**about.point().payload, 'version': 2}) is None
  assert About.read({**about.point().payload, 'depth': '400'}) is None
  entry = Entry('digest', {'clip': 2, 'frame': 3})
  point = entry.point('v')
  assert (Entry.read(point.payload), point.payload['video']) == (entry, 'v')
  assert not point.vectors


def test_ids_are_the_same_again():
  vectors = {'clip': [np.zeros(4)] * 2, 'frame': [np.zeros(4)] * 3}
  entry = Entry('digest', {'clip': 2, 'frame': 3})
  ids = [point.id for point in points_of('v', vectors)]
  assert entry.ids('v') == ids
  assert len({*ids, *entry.ids('w')}) == 10
  assert entry.ids('v', kept={'clip': 1, 'frame': 5}) == ids[1:2]


def test_digests_are_those_of_the_tokens(store):
  videos = list(store.rows_of().items())
  whole = Videos(store, videos).digests()
  assert len(set(whole)) == 6
  assert Videos(store, videos[2:4]).digests() == whole[2:4]


def test_vectors_are_the_representatives(store):
  videos = list(store.rows_of().items())
  few = Videos(store, videos).vectors([1, 4], product=False)
  for number, found in zip((1, 4), few, strict=True):
    rows = np.array([number])
    mask = store.take('frame_mask', rows)
    expected, _ = representatives(store.tokens('frame', rows), mask, unit=True)
    np.testing.assert_allclose(found['frame'], expected, atol=1e-6)
  assert Videos(store, videos).vectors([], product=False) == []


def test_the_state_changes_with_the_videos(store):
  states = [state_of(store)]
  remove(store.directory, ['v3'])
  states.append(state_of(Store(store.directory)))
  compact(store.directory)
  states.append(state_of(Store(store.directory)))
  assert len(set(states)) == 3
