"""Manifests of earlier versions."""

import json

import numpy as np
import pytest

from dreamprvr_jax.archive.index import writer
from dreamprvr_jax.archive.index.compaction import compact, remove, rename
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.search.index import Index
from dreamprvr_jax.errors import UserError
from tests.helpers.searching import made, retriever, videos_of

VIDEOS = 20


@pytest.fixture(scope='module')
def data():
  return made(VIDEOS + 2, 9)


@pytest.fixture
def place(data, tmp_path):
  folder = tmp_path / 'index'
  writer.create(folder, retriever(), videos_of(data, np.arange(VIDEOS)))
  return folder


def write_as(place, version, **changes):
  """Writes a manifest as an earlier version did."""
  path = place / 'manifest.json'
  content = {**json.loads(path.read_text()), 'version': version}
  del content['crc32c']
  for segment in content['segments']:
    del segment['files']
  if version > 1:
    content['sub_vectors'] = 0
  else:
    del content['registers']
  path.write_text(json.dumps({**content, **changes}))


def add_products(place):
  """Adds the files of product codes that version 3 had beside float16."""
  (folder,) = (place / 'segments').iterdir()
  for branch in ('clip', 'frame'):
    count = np.load(folder / f'{branch}_tokens.npy').shape[1]
    codes = np.zeros((VIDEOS, 2, count), np.uint8)
    np.save(folder / f'{branch}_products.npy', codes)
    books = np.zeros((2, 256, 8), np.float32)
    np.save(folder / f'{branch}_codebook.npy', books)
  write_as(place, 3, tokens='float16+pq', sub_vectors=2)


@pytest.mark.parametrize('version', [1, 2, 3])
def test_an_index_of_an_earlier_version_opens(version, place, data):
  write_as(place, version)
  index = Index.open(place, retriever())
  assert len(index.search(data['words'], k=VIDEOS)[0]) == VIDEOS


def test_compaction_adds_checksums(place, data):
  known = Store(place).manifest
  write_as(place, 3)
  assert not any(Store(place).manifest.files.values())
  writer.append(place, retriever(), videos_of(data, [VIDEOS]))
  first, second = Store(place).manifest.segments
  assert second.files
  assert not first.files
  # Not both become one, which would be rewritten.
  remove(place, [f'v{VIDEOS}'])
  assert compact(place).files == known.files
  Store(place)


def test_product_codes_beside_tokens_are_ignored(place, data):
  def found():
    hits = Index.open(place, retriever()).search(data['words'], k=5)
    return [[(hit.video_id, hit.score) for hit in row] for row in hits]

  before = found()
  add_products(place)
  assert Store(place).manifest.tokens == 'float16'
  assert found() == before
  with pytest.raises(UserError, match='has float16 tokens'):
    Index.open(place, retriever()).search(data['words'], first_pass='int8')
  writer.append(place, retriever(), videos_of(data, [VIDEOS]))
  remove(place, ['v3', f'v{VIDEOS}'])
  before = found()
  codes = set(place.rglob('*_products.npy')) | set(
    place.rglob('*_codebook.npy')
  )
  assert len(codes) == 4
  # Nothing of the first segment is rewritten but its list of files.
  writer.append(place, retriever(), videos_of(data, [VIDEOS + 1]))
  remove(place, [f'v{VIDEOS + 1}'])
  assert all(path.exists() for path in codes)
  compact(place)
  assert not any(path.exists() for path in codes)
  assert found() == before


def test_compaction_drops_codes_of_a_segment_that_stays(place):
  add_products(place)
  (folder,) = (place / 'segments').iterdir()
  compact(place)
  assert [folder] == list((place / 'segments').iterdir())
  assert not list(folder.glob('*_products.npy'))
  assert len(Store(place)) == VIDEOS


def test_renamed_videos_lose_their_product_codes(place):
  add_products(place)
  rename(place, {'v3': {'id': 'other'}})
  compact(place)
  assert Store(place).ids[3] == 'other'
  assert not list(place.rglob('*_products.npy'))


def test_a_new_index_replaces_one_with_product_codes(place, data):
  add_products(place)
  writer.create(place, retriever(), videos_of(data, [1]))
  # A reader may still open what the former manifest named; then it goes.
  compact(place)
  assert len(list((place / 'segments').iterdir())) == 1


def test_product_codes_alone_are_refused(place):
  write_as(place, 3, tokens='pq', sub_vectors=2)
  for call in (Store, compact, lambda root: remove(root, ['v1'])):
    with pytest.raises(
      UserError,
      match=r'only product codes \(tokens pq\).*index the videos again',
    ):
      call(place)
