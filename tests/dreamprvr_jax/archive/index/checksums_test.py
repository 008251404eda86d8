"""Checksums of files, and of pieces of them."""

import json
import os

import numpy as np
import pytest

from dreamprvr_jax.archive.index import checksums
from dreamprvr_jax.archive.index.files import DamagedError

# The check value of CRC-32/ISCSI in the catalogue of CRC algorithms.
CHECK = 'e3069283'


def test_the_value_of_the_standard():
  assert checksums.of_bytes(b'123456789') == {'bytes': 9, 'crc32c': CHECK}


def test_pieces():
  whole = np.random.default_rng(0).bytes(5000)
  for first in (0, 1, 7, 4096, 4999, 5000):
    parts = whole[:first], whole[first:]
    one, two = (checksums.extended(0, part) for part in parts)
    found = checksums.joined(one, two, len(parts[1]))
    assert found == checksums.extended(0, whole)


def test_a_folder(tmp_path, monkeypatch):
  monkeypatch.setattr(checksums, 'SMALL', 100)
  monkeypatch.setattr(checksums, '_BLOCK', 64)
  contents = {'a.npy': 99, 'b.npy': 100, 'ids.json': 300, 'c.npy': 0}
  rng = np.random.default_rng(0)
  for name, size in contents.items():
    (tmp_path / name).write_bytes(rng.bytes(size))
  files, blocks = checksums.record(tmp_path), []
  assert {name: known['bytes'] for name, known in files.items()} == contents
  assert checksums.is_valid(files)
  checksums.check(tmp_path, files)
  assert not list(checksums.damage(tmp_path, files, read=blocks.append))
  assert sum(blocks) == 499
  assert max(blocks) == 64
  for name, size in contents.items():
    path = tmp_path / name
    whole = path.read_bytes()
    if size:
      path.write_bytes(bytes([whole[0] ^ 16]) + whole[1:])
      with pytest.raises(
        DamagedError,
        match=rf'{name} has the checksum \w{{8}} where \w{{8}} was',
      ):
        checksums.check(tmp_path, files)
      errors = list(checksums.damage(tmp_path, files, small_only=True))
      assert len(errors) == (name != 'b.npy')
    path.write_bytes(whole + b'x')
    with pytest.raises(
      DamagedError, match=rf'{name} has {size + 1} bytes where {size} were'
    ):
      checksums.check(tmp_path, files, small_only=True)
    path.unlink()
    with pytest.raises(DamagedError, match=rf'{name} is missing'):
      checksums.check(tmp_path, files, small_only=True)
    os.symlink('/dev/null', path)
    with pytest.raises(DamagedError, match=rf'{name} is a link'):
      checksums.check(tmp_path, files, small_only=True)
    path.unlink()
    path.write_bytes(whole)


def test_a_file_with_its_own_checksum():
  content = {'version': 3, 'names': ['\u00e9'], 'half': 0.1}
  written = checksums.sealed(content)
  again = json.loads(written)
  assert list(again) == ['version', 'crc32c', 'names', 'half']
  assert checksums.seal_damage(written, again) == ''
  assert checksums.sealed(again) == written
  found = checksums.seal_damage(written, {**again, 'half': 0.2})
  assert f"where '{again['crc32c']}' was written" in found
  assert 'where None was written' in checksums.seal_damage(written, content)
  # The same values, written otherwise.
  other = written.replace('\\u00e9', '\\u00E9')
  assert 'white space or signs' in checksums.seal_damage(
    other, json.loads(other)
  )


@pytest.mark.parametrize(
  'files',
  [
    [],
    {'a': {}},
    {'a': {'bytes': -1, 'crc32c': CHECK}},
    {'a': {'bytes': 1.0, 'crc32c': CHECK}},
    {'a': {'bytes': 1, 'crc32c': CHECK.upper()}},
    {'a': {'bytes': 1, 'crc32c': CHECK + '\n'}},
    {'a': {'bytes': 1, 'crc32c': CHECK, 'more': 1}},
    {'../a': {'bytes': 1, 'crc32c': CHECK}},
    {'..': {'bytes': 1, 'crc32c': CHECK}},
    {'': {'bytes': 1, 'crc32c': CHECK}},
  ],
)
def test_what_is_no_record(files):
  assert not checksums.is_valid(files)
