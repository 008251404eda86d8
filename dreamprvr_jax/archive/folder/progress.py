"""Progress in seconds of video, with an estimate of the time that is left."""

import contextlib
from collections.abc import Sequence

import tqdm

from dreamprvr_jax.archive.videos.files import VideoError, opened
from dreamprvr_jax.archive.videos.presentation import Presentation

_FORMAT = (
  '{desc}: {percentage:3.0f}%|{bar}| {n:,.0f}/{total:,.0f} s of video '
  '[{elapsed}<{remaining}{postfix}]'
)


class Progress:
  """A progress bar over files, by the seconds that they last.

  A file that does not state its length counts as long as the mean of the
  others, until it is done.
  """

  def __init__(self, paths: Sequence[str], *, show: bool):
    """Reads the lengths of files; decodes nothing.

    Args:
      paths: The files, each once.
      show: Whether a bar is shown; otherwise nothing is read.
    """
    stated = dict.fromkeys(paths, 0.0)
    if show:
      for path in tqdm.tqdm(
        paths, 'looking at files', leave=False, dynamic_ncols=True
      ):
        stated[path] = _stated_seconds(path)
    known = [seconds for seconds in stated.values() if seconds > 0]
    mean = sum(known) / len(known) if known else 1.0
    self._lasts = {path: seconds or mean for path, seconds in stated.items()}
    self._so_far = dict.fromkeys(paths, 0.0)
    self._files = 0
    self._shown = tqdm.tqdm(
      total=sum(self._lasts.values()),
      desc='indexing',
      bar_format=_FORMAT,
      leave=False,
      dynamic_ncols=True,
      mininterval=0.5,
      disable=not show,
    )
    self._count()

  def tell(self, path: str, seconds: float) -> None:
    """Says how many seconds of a file are encoded so far."""
    seconds = min(seconds, self._lasts[path])
    self._shown.update(seconds - self._so_far[path])
    self._so_far[path] = seconds

  def finish(self, path: str, seconds: float) -> None:
    """Says that a file is done, and how many seconds it really has; 0 if it
    could not be read."""
    self._shown.total += seconds - self._lasts[path]
    self._lasts[path] = seconds
    self.tell(path, seconds)
    self._files += 1
    self._count()

  def close(self) -> None:
    """Removes the bar."""
    self._shown.close()

  def _count(self) -> None:
    self._shown.set_postfix_str(f'{self._files:,}/{len(self._lasts):,} files')


def _stated_seconds(path: str) -> float:
  """Returns the seconds that a file states; 0 if it states none, or cannot be
  read."""
  with (
    contextlib.suppress(VideoError),
    opened(path, threads=1) as (
      container,
      stream,
    ),
  ):
    return max(Presentation(path, container, stream).stated, 0.0)
  return 0.0
