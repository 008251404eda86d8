"""Which files browsers play."""

import pytest

from dreamprvr_jax.archive.serving.files import VideoFile
from dreamprvr_jax.archive.serving.playable import playing_of
from dreamprvr_jax.errors import UserError
from tests.helpers.videos import make_audio, make_video


def judged(path, most=1e9):
  return playing_of(VideoFile(path, '', path.parent), most)


@pytest.mark.parametrize(
  ('name', 'options', 'plays', 'kind', 'copied'),
  [
    ('a.mp4', {}, 'yes', 'video/mp4; codecs="avc1.640028"', True),
    (
      'b.mp4',
      {'sound': (0, 1)},
      'yes',
      'video/mp4; codecs="avc1.640028, mp4a.40.2"',
      True,
    ),
    ('c.mkv', {}, 'maybe', 'video/x-matroska; codecs="avc1.640028"', True),
    ('d.webm', {}, 'maybe', 'video/webm; codecs="vp09.00.40.08"', True),
    ('e.avi', {}, 'no', '', False),
    ('f.mov', {}, 'no', '', False),
    (
      'g.mp4',
      {'codec': 'libx265', 'pixels': 'yuv420p10le', 'size': (64, 64)},
      'maybe',
      'video/mp4; codecs="hvc1.2.4.L120.90"',
      False,
    ),
    ('h.mp4', {'pixels': 'yuv444p'}, 'no', '', False),
  ],
)
def test_kinds(name, options, plays, kind, copied, tmp_path):
  found = judged(make_video(tmp_path / name, pictures=10, **options))
  assert (found.plays, found.type, found.copied) == (plays, kind, copied)
  assert found.duration == pytest.approx(1.0, abs=0.2)
  assert found.start == 0


def test_large_files_are_not_copied_whole(tmp_path):
  path = make_video(tmp_path / 'a.mp4')
  assert judged(path).copied
  assert not judged(path, path.stat().st_size - 1).copied


def test_no_videos(tmp_path):
  for path in (make_audio(tmp_path / 'a.mp4'), tmp_path / 'b.mp4'):
    path.touch()
    with pytest.raises(UserError, match=path.name):
      judged(path)
