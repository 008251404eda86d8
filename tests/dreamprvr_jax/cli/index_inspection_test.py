"""--mode=inspect --index."""

import json

import pytest

from dreamprvr_jax.archive.index import writer
from dreamprvr_jax.archive.index.compaction import compact
from tests.helpers.commands import answer
from tests.helpers.searching import made, retriever, videos_of


@pytest.fixture
def place(tmp_path):
  writer.create(tmp_path / 'x', retriever(), videos_of(made(9, 2)))
  return tmp_path / 'x'


def test_all_files_are_read(place):
  flags = 'inspect', f'--index={place}', '--verify'
  code, out, _ = answer(*flags)
  assert code == 0
  assert '9 files, ' in out
  (folder,) = (place / 'segments').iterdir()
  for name in ('clip_tokens.npy', 'ids.json'):
    raw = (folder / name).read_bytes()
    (folder / name).write_bytes(raw[:-2] + bytes([raw[-2] ^ 8]) + raw[-1:])
  code, out, err = answer(*flags)
  assert code == 2
  for name in ('clip_tokens.npy', 'ids.json'):
    assert f'damaged: {folder}/{name} has the checksum' in out
  assert f'2 of 9 files of {place} are damaged; restore' in err
  # Without the flag, only the manifest is read.
  assert answer(*flags[:2])[0] == 0


def test_an_index_of_an_earlier_version(place):
  path = place / 'manifest.json'
  content = {**json.loads(path.read_text()), 'version': 3}
  del content['crc32c'], content['segments'][0]['files']
  path.write_text(json.dumps(content))
  flags = 'inspect', f'--index={place}', '--verify'
  code, out, _ = answer(*flags)
  assert code == 0
  assert '1 of 1 segments were written by an earlier version' in out
  compact(place)
  code, out, _ = answer(*flags)
  assert code == 0
  assert '9 files, ' in out
