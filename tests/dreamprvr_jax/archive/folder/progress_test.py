"""Progress in seconds of video."""

import pytest

from dreamprvr_jax.archive.folder.progress import Progress
from tests.helpers.videos import make_video

pytest.importorskip('av', reason='videos are decoded with PyAV')


def test_seconds_of_video_are_counted(tmp_path, capsys):
  one = str(make_video(tmp_path / 'a.mp4', pictures=20))
  two = str(make_video(tmp_path / 'b.mp4', pictures=40))
  bad = str(tmp_path / 'bad.mp4')
  progress = Progress([one, two, bad], show=True)
  # A file without a length counts as the mean.
  assert progress._shown.total == pytest.approx(2 + 4 + 3)
  progress.tell(one, 1.5)
  assert progress._shown.n == pytest.approx(1.5)
  # A file that is read from its beginning again.
  progress.tell(one, 0.5)
  progress.finish(one, 2.0)
  progress.finish(bad, 0.0)
  assert (progress._shown.n, progress._shown.total) == (2.0, 6.0)
  progress.close()
  assert '2/3 files' in capsys.readouterr().err


def test_nothing_is_read_without_a_bar():
  progress = Progress(['/nowhere/a.mp4'], show=False)
  progress.tell('/nowhere/a.mp4', 1.0)
  progress.finish('/nowhere/a.mp4', 2.0)
  progress.close()
