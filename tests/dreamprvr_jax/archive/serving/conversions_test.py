"""Videos that are converted on request, and kept in a bounded folder."""

import asyncio
import os
import threading

import av
import pytest

from dreamprvr_jax.archive.serving import conversions
from dreamprvr_jax.archive.serving.conversions import (
  Conversions,
  NotConvertedError,
  cache_folder,
)
from dreamprvr_jax.archive.serving.files import VideoFile
from dreamprvr_jax.archive.serving.limits import Busy, Gone
from tests.helpers.videos import make_video


@pytest.fixture
def anyio_backend():
  return 'asyncio'


def file_of(path):
  return VideoFile(path, '', path.parent)


def made_in(folder, **options):
  options = {'most_bytes': 1e9, 'running': 1, 'waiting': 4, **options}
  return Conversions(folder, **options)


async def here():
  return False


def facts(opened):
  """Returns codec, size, and seconds of a converted file; closes it."""
  with opened, av.open(opened) as container:
    stream = container.streams.video[0]
    codec = stream.codec_context
    return codec.name, codec.width, codec.height, container.duration / 1e6


@pytest.mark.anyio
async def test_pieces_and_whole_files(tmp_path, monkeypatch):
  monkeypatch.setattr(conversions, 'PIECE_SECONDS', 1.0)
  monkeypatch.setattr(conversions, '_LINES', 16)
  film = file_of(make_video(tmp_path / 'a.avi', pictures=25, sound=(0, 2.5)))
  made = made_in(tmp_path / 'cache')
  lengths = []
  for number in range(3):
    name, width, height, seconds = facts(await made.piece(film, number, here))
    assert (name, width, height) == ('h264', 24, 16)
    lengths.append(seconds)
  assert lengths == pytest.approx([1, 1, 0.5], abs=0.15)
  with pytest.raises(NotConvertedError, match=r'a\.avi cannot be converted'):
    await made.piece(film, 3, here)
  film = file_of(make_video(tmp_path / 'b.mkv', sound=(0, 2)))
  name, *size, seconds = facts(await made.whole(film, here))
  assert (name, *size) == ('h264', 48, 32)
  assert seconds == pytest.approx(2, abs=0.15)
  with pytest.raises(NotConvertedError, match='have to be encoded again'):
    await made.whole(file_of(tmp_path / 'a.avi'), here)
  name, *_, seconds = facts(await made.clip(film, 0.5, 1.5, here))
  # It may begin at an earlier key frame.
  assert seconds == pytest.approx(1, abs=0.75)


@pytest.mark.anyio
async def test_what_was_made_is_kept_until_the_file_changes(
  tmp_path, monkeypatch
):
  path = make_video(tmp_path / 'a.avi', pictures=5)
  made, calls = made_in(tmp_path / 'cache'), []
  save = conversions.save_clip
  monkeypatch.setattr(
    conversions, 'save_clip', lambda *a, **k: (calls.append(a), save(*a, **k))
  )
  # Two who ask at once wait for one conversion.
  for opened in await asyncio.gather(
    *(made.piece(file_of(path), 0, here) for _ in range(2))
  ):
    opened.close()
  assert len(calls) == 1
  (kept,) = (tmp_path / 'cache').glob('*.mp4')
  assert oct(kept.parent.stat().st_mode)[-2:] == '00'
  make_video(path, pictures=6)
  (await made.piece(file_of(path), 0, here)).close()
  assert len(calls) == 2


@pytest.mark.anyio
async def test_the_folder_stays_small(tmp_path):
  film = file_of(make_video(tmp_path / 'a.mp4', pictures=30))
  folder = tmp_path / 'cache'
  made = made_in(folder)
  for i in range(3):
    (await made.clip(film, 0.1 * i, 0.1 * i + 0.4, here)).close()
  kept = sorted(folder.glob('*.mp4'), key=lambda x: x.stat().st_mtime_ns)
  (folder / 'foreign.mp4').write_bytes(b'x' * 10**6)
  old = folder / '.1-2.partial.x.mp4'
  old.touch()
  os.utime(old, (0, 0))
  for age, path in enumerate(reversed(kept)):
    os.utime(path, (1e9 - age, 1e9 - age))
  # The oldest one is used again, so that the second is the next to go.
  (await made.clip(film, 0.0, 0.4, here)).close()
  size = max(path.stat().st_size for path in kept)
  made = made_in(folder, most_bytes=3.5 * size)
  (await made.clip(film, 0.5, 0.9, here)).close()
  assert kept[0].exists()
  assert not kept[1].exists()
  assert kept[2].exists()
  assert not old.exists()
  assert (folder / 'foreign.mp4').exists()


@pytest.mark.anyio
async def test_few_at_a_time(tmp_path, monkeypatch):
  film = file_of(make_video(tmp_path / 'a.mp4', pictures=30))
  made = made_in(tmp_path / 'cache', running=1, waiting=2)
  go, most, now = threading.Event(), [], []
  save = conversions.save_clip

  def slow(*args, **options):
    now.append(1)
    most.append(len(now))
    go.wait(30)
    save(*args, **options)
    now.pop()

  monkeypatch.setattr(conversions, 'save_clip', slow)
  waiting = [
    asyncio.create_task(made.clip(film, i, i + 0.5, here)) for i in range(2)
  ]
  await asyncio.sleep(0.1)
  with pytest.raises(Busy, match='waiting to be converted'):
    await made.clip(film, 2, 2.5, here)
  go.set()
  for opened in await asyncio.gather(*waiting):
    opened.close()
  assert max(most) == 1
  # For a client that has left, nothing is made.

  async def gone():
    return True

  with pytest.raises(Gone):
    await made.clip(film, 2, 2.5, gone)
  assert len(most) == 2


def test_the_folder_of_a_user(monkeypatch, tmp_path):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  assert cache_folder() == tmp_path / 'dreamprvr_jax' / 'converted'
  monkeypatch.delenv('XDG_CACHE_HOME')
  assert cache_folder().parts[-3:] == ('.cache', 'dreamprvr_jax', 'converted')
