"""A flipped bit anywhere in an index is found and named."""

import dataclasses

import numpy as np
import pytest

from dreamprvr_jax.archive.index import checksums, writer
from dreamprvr_jax.archive.index.compaction import compact, remove, rename
from dreamprvr_jax.archive.index.files import DamagedError
from dreamprvr_jax.archive.index.manifest import Manifest
from dreamprvr_jax.archive.index.segments import verify
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.errors import UserError
from tests.helpers.searching import made, retriever, videos_of

VIDEOS = 12
# Flipped bits of each file.
FLIPS = 25


@pytest.fixture(scope='module')
def data():
  return made(VIDEOS, 5)


@pytest.fixture
def place(data, tmp_path):
  """An index after each change that there is, with every kind of file."""
  place, rows = tmp_path / 'index', np.arange(VIDEOS)
  videos = videos_of(data, rows[:8])
  writer.create(place, retriever(), videos, tokens='float16+int8')
  writer.append(place, retriever(), videos_of(data, rows[8:]))
  remove(place, ['v2', 'v3'])
  rename(place, {'v9': {'id': 'caf\u00e9', 'path': 'caf\u00e9.mp4'}})
  return place


def damaged(place):
  """Returns the paths of damaged files below an index."""
  try:
    manifest = Manifest.read(place)
  except UserError as error:
    return ['manifest.json'] if 'manifest.json' in str(error) else []
  return [
    f'{folder}/{error.path.rpartition("/")[2]}'
    for folder, files in manifest.files.items()
    for error in verify(place, folder, files)
  ]


def test_every_file_has_a_checksum(place):
  for change in (lambda _: None, compact):
    change(place)
    manifest = Manifest.read(place)
    for folder, files in manifest.files.items():
      assert files == checksums.record(place / folder)
    assert damaged(place) == []


def test_a_flipped_bit_is_found_and_named(place):
  rng = np.random.default_rng(0)
  named = Manifest.read(place).files
  paths = [
    'manifest.json',
    *(f'{f}/{n}' for f, names in named.items() for n in names),
  ]
  assert any(path.endswith('sources.json') for path in paths)
  assert len(paths) == 28
  for name in paths:
    path = place / name
    whole = path.read_bytes()
    for at in rng.integers(8 * len(whole), size=FLIPS):
      flipped = bytearray(whole)
      flipped[at // 8] ^= 1 << at % 8
      path.write_bytes(flipped)
      assert damaged(place) == [name]
      # All files of this index are small, so whoever opens it is told.
      with pytest.raises(UserError, match=path.name.replace('.', r'\.')):
        Store(place)
    path.write_bytes(whole)
  assert damaged(place) == []
  Store(place)


def test_bits_of_the_manifest(place):
  """Those of white space and of the checksum itself, too."""
  path = place / 'manifest.json'
  whole = path.read_bytes()
  rng = np.random.default_rng(0)
  for at in (*range(8 * 60), *rng.integers(8 * len(whole), size=400)):
    flipped = bytearray(whole)
    flipped[at // 8] ^= 1 << at % 8
    path.write_bytes(flipped)
    with pytest.raises(UserError, match=r'manifest\.json'):
      Manifest.read(place)


def test_large_files_are_not_read_by_who_opens_the_index(place, monkeypatch):
  monkeypatch.setattr(checksums, 'SMALL', 200)
  folder = place / 'segments' / Manifest.read(place).segments[0].name
  path = folder / 'clip_codes.npy'
  whole = path.read_bytes()
  path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
  Store(place)
  assert damaged(place) == [str(path.relative_to(place))]


def test_a_manifest_that_lacks_a_file(place, monkeypatch):
  manifest = Manifest.read(place)
  first, *others = manifest.segments
  files = {name: x for name, x in first.files.items() if name != 'cores.npy'}
  changed = dataclasses.replace(first, files=files), *others
  dataclasses.replace(manifest, segments=changed).write(place)
  with pytest.raises(
    DamagedError, match=rf'has no checksum of cores\.npy of {first.name}'
  ):
    Store(place)


def test_a_folder_that_another_command_removes(place):
  """What the manifest no longer names is not missed."""
  (folder, files), *_ = Manifest.read(place).files.items()
  remove(place, [f'v{i}' for i in (0, 1, 4, 5, 6, 7)])
  compact(place)
  assert not (place / folder).exists()
  assert list(verify(place, folder, files)) == []
