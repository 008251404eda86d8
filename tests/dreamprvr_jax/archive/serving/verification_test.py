"""A server finds damaged files, and does not mind files that change."""

import shutil
import time

import numpy as np
import pytest

from dreamprvr_jax.archive.index import checksums, writer
from dreamprvr_jax.archive.index.compaction import remove
from dreamprvr_jax.archive.index.manifest import Manifest
from dreamprvr_jax.archive.serving.verification import Background
from tests.helpers.searching import made, retriever, videos_of

VIDEOS = 12


@pytest.fixture
def place(tmp_path):
  """An index of two segments."""
  place, data, rows = tmp_path / 'index', made(VIDEOS, 5), np.arange(VIDEOS)
  writer.create(place, retriever(), videos_of(data, rows[:8]))
  writer.append(place, retriever(), videos_of(data, rows[8:]))
  return place


def wait_for(condition):
  end = time.monotonic() + 30
  while not condition():
    assert time.monotonic() < end
    time.sleep(0.01)


def test_a_server_finds_damage(place, caplog, monkeypatch):
  # So that commands open an index with a damaged array.
  monkeypatch.setattr(checksums, 'SMALL', 0)
  background = Background(place, pace=1e9, look=0.05)
  background.start()
  size = lambda: sum(
    known['bytes']
    for files in Manifest.read(place).files.values()
    for known in files.values()
  )
  wait_for(lambda: background.read == size())
  before = background.read
  assert background.damaged == []
  # New files are read, known ones not again.
  writer.append(place, retriever(), videos_of(made(VIDEOS + 1, 1), [VIDEOS]))
  wait_for(lambda: background.read > before)
  wait_for(lambda: background.read == size())
  background.stop()
  name = Manifest.read(place).segments[-1].name
  path = place / 'segments' / name / 'clip_tokens.npy'
  raw = path.read_bytes()
  path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
  background = Background(place, pace=1e9, look=0.05)
  background.start()
  wait_for(lambda: background.damaged)
  assert background.damaged == [f'segments/{name}/clip_tokens.npy']
  assert f'{name}/clip_tokens.npy has the checksum' in caplog.text
  # It is forgotten with its segment.
  remove(place, [f'v{VIDEOS}'])
  wait_for(lambda: not background.damaged)
  background.stop()


def test_a_server_that_cannot_read_the_manifest(place, caplog):
  background = Background(place, pace=1e9, look=0.02)
  path = place / 'manifest.json'
  shutil.move(path, place / 'away')
  background.start()
  wait_for(lambda: 'cannot be checked' in caplog.text)
  assert background.damaged == []
  whole = (place / 'away').read_text()
  path.write_text(whole.replace('"clips": 3', '"clips": 2'))
  wait_for(lambda: background.damaged == ['manifest.json'])
  shutil.move(place / 'away', path)
  wait_for(lambda: background.read and not background.damaged)
  background.stop()
  # Each complaint comes once.
  assert caplog.text.count('cannot be checked') == 2


def test_it_is_slow_and_ends_at_once(place):
  background = Background(place, pace=1)
  background.start()
  wait_for(lambda: background.read)
  began, read = time.monotonic(), background.read
  background.stop()
  assert time.monotonic() < began + 5
  assert background.read == read
