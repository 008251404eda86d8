"""Product codes, and indices that hold them."""

import json

import numpy as np
import pytest

from dreamprvr_jax.archive.index import writer
from dreamprvr_jax.archive.index.codes import (
  decode_products,
  encode_products,
  sub_vectors,
  train_codebook,
)
from dreamprvr_jax.archive.index.compaction import remove
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.search.index import Index
from dreamprvr_jax.devices import meshes
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.models.base import RetrievalModel
from tests.helpers.models import shared_fields
from tests.helpers.searching import made, retriever, videos_of

VIDEOS, QUERIES = 45, 70
# Bytes of a row: 8 tokens with 4 codes each, and the mask of 5 frames.
ROW = 8 * 4 + 5


@pytest.fixture(scope='module')
def data():
  return made(VIDEOS, QUERIES)


@pytest.fixture(scope='module')
def place(data, tmp_path_factory):
  folder = tmp_path_factory.mktemp('index') / 'made'
  writer.create(
    folder, retriever(), videos_of(data), tokens='pq', sub_vectors=4
  )
  return folder


def unit(x):
  return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def expected(store, data):
  """Returns the scores (queries, rows) of the codes in a store."""
  rows = np.arange(len(store))
  queries = unit(data['words'][:, 0])
  clip, frame = (
    np.einsum('nd,bsd->nbs', queries, store.tokens(branch, rows)).max(axis=-1)
    for branch in ('clip', 'frame')
  )
  return 0.7 * clip + 0.3 * frame


def test_codes_are_the_nearest_centres():
  tokens = np.random.default_rng(0).normal(size=(3, 300, 12)).astype(np.float32)
  codebook = np.asarray(train_codebook(tokens.reshape(-1, 12), 4))
  assert codebook.shape == (4, 256, 3)
  codes = np.asarray(encode_products(tokens, codebook))
  assert codes.shape == (3, 4, 300)
  parts = unit(tokens).reshape(3, 300, 4, 3)
  steps = parts[..., None, :] - codebook
  nearest = np.square(steps).sum(axis=-1).argmin(axis=-1)
  # If two centroids are equally near except for rounding, either may be taken.
  assert (codes == nearest.swapaxes(1, 2)).mean() > 0.999
  decoded = decode_products(codes, codebook)
  assert decoded.shape == tokens.shape
  error = np.square(decoded - unit(tokens)).sum(axis=-1).mean()
  chosen = unit(tokens).reshape(-1, 4, 3)[:256].swapaxes(0, 1)
  drawn = decode_products(np.asarray(encode_products(tokens, chosen)), chosen)
  assert error < 0.8 * np.square(drawn - unit(tokens)).sum(axis=-1).mean()


def test_codebooks_are_reproducible():
  tokens = np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32)
  first, again = (np.asarray(train_codebook(tokens, 2)) for _ in range(2))
  np.testing.assert_array_equal(first, again)


def test_few_tokens_do():
  tokens = np.eye(4, dtype=np.float32)
  codebook = np.asarray(train_codebook(tokens, 2))
  codes = np.asarray(encode_products(tokens[None], codebook))
  np.testing.assert_allclose(decode_products(codes, codebook)[0], tokens)


def test_sub_vectors():
  assert sub_vectors(384) == 48
  assert sub_vectors(12) == 2
  assert sub_vectors(7) == 1
  assert sub_vectors(12, 6) == 6
  with pytest.raises(UserError, match=r'=5 does not divide the width 12.*1, 2'):
    sub_vectors(12, 5)


@pytest.mark.parametrize('devices', [(1, 1), (8, 4)])
@pytest.mark.parametrize('rows', [None, 2])
def test_search_of_codes_alone(place, data, devices, rows):
  room = None if rows is None else 2 * rows * ROW
  index = Index.open(
    place,
    retriever(),
    mesh=meshes.make_mesh(*devices),
    device_bytes=room,
    products=64 * 8 * 2,
  )
  assert index.searcher.resident() == (rows is None)
  assert index.searcher.bytes_per_video() == ROW
  scores = expected(index.store, data)
  order = np.argsort(-scores, axis=1, kind='stable')[:, :10]
  hits = index.search(data['words'], k=10)
  names = [[hit.video_id for hit in row] for row in hits]
  found = [[hit.score for hit in row] for row in hits]
  np.testing.assert_allclose(
    found, np.take_along_axis(scores, order, axis=1), atol=1e-6
  )
  assert names == [[f'v{i}' for i in row] for row in order]
  assert not list(place.rglob('*_tokens.npy'))
  with pytest.raises(UserError, match=r'has pq tokens.*float16\+pq'):
    index.search(data['words'], first_pass='pq')


@pytest.mark.parametrize('rows', [None, 4])
def test_a_first_pass_that_keeps_all_is_exact(data, tmp_path, rows):
  writer.create(
    tmp_path / 'x', retriever(), videos_of(data), tokens='float16+pq'
  )
  room = None if rows is None else 2 * rows * (8 * 2 + 5)
  index = Index.open(tmp_path / 'x', retriever(), device_bytes=room)
  queries = index.searcher.encode(data['words'], data['word_mask'])
  exact, found = (
    index.searcher.search(queries, 9, first_pass=how, rescore=5)
    for how in (None, 'pq')
  )
  np.testing.assert_array_equal(exact[1], found[1])
  np.testing.assert_allclose(exact[0], found[0], atol=1e-6)


def test_a_first_pass_finds_most(tmp_path):
  data = made(500, QUERIES)
  videos = videos_of(data, batch=100)
  writer.create(
    tmp_path / 'x', retriever(), videos, tokens='float16+pq', sub_vectors=8
  )
  searcher = Index.open(tmp_path / 'x', retriever()).searcher
  queries = searcher.encode(data['words'], data['word_mask'])
  assert searcher.recall(queries, 10, first_pass='pq') >= 0.97
  # Codes alone are not enough: rescoring matters.
  assert searcher.recall(queries, 10, first_pass='pq', rescore=1) < 0.97


def test_videos_that_are_added_share_the_codebooks(data, tmp_path):
  place, rows = tmp_path / 'x', np.arange(VIDEOS)
  form = {'tokens': 'pq', 'sub_vectors': 4}
  writer.create(place, retriever(), videos_of(data, rows[:30]), **form)
  before = Store(place)
  writer.append(place, retriever(), videos_of(data, rows[30:]))
  after = Store(place)
  assert len(list(place.rglob('clip_codebook.npy'))) == 2
  for branch in ('clip', 'frame'):
    np.testing.assert_array_equal(
      before.codebooks[branch], after.codebooks[branch]
    )
    tokens = after.tokens(branch, rows[30:])
    codes = encode_products(data[f'{branch}s'][30:], after.codebooks[branch])
    again = decode_products(np.asarray(codes), after.codebooks[branch])
    if branch == 'frame':
      again *= data['mask'][30:, :, None]
    np.testing.assert_allclose(tokens, again, atol=1e-6)
  # The first segment can be removed: each one has the codebooks.
  remove(place, [f'v{i}' for i in range(30)])
  np.testing.assert_array_equal(
    Store(place).tokens('clip', np.arange(15)),
    after.tokens('clip', rows[30:]),
  )


def test_what_is_refused(data, tmp_path):
  videos = videos_of(data)
  with pytest.raises(UserError, match=r'sub_vectors=5 does not divide.* 16'):
    writer.create(
      tmp_path / 'x', retriever(), videos, tokens='pq', sub_vectors=5
    )

  class Other(RetrievalModel):
    def score(self, queries, videos):
      raise NotImplementedError

  with pytest.raises(UserError, match=r'best cosine.*that of Other is not'):
    writer.create(
      tmp_path / 'x', retriever(Other(**shared_fields())), videos, tokens='pq'
    )


def test_codebooks_that_are_damaged(data, tmp_path):
  place = tmp_path / 'x'
  writer.create(place, retriever(), videos_of(data), tokens='pq')
  (path,) = place.rglob('frame_codebook.npy')
  np.save(path, np.zeros((2, 256, 3), np.float32))
  with pytest.raises(UserError, match=r'frame_codebook.npy is float32'):
    Store(place)


def test_an_index_of_the_first_version_opens(data, tmp_path):
  place = tmp_path / 'x'
  writer.create(place, retriever(), videos_of(data))
  path = place / 'manifest.json'
  content = json.loads(path.read_text())
  content['version'] = 1
  del content['registers'], content['sub_vectors']
  path.write_text(json.dumps(content))
  index = Index.open(place, retriever())
  assert len(index.search(data['words'], k=VIDEOS)[0]) == VIDEOS
