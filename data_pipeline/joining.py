"""Captions joined with features: what belongs together, and what is bad."""

import collections
import dataclasses
import pathlib
from collections.abc import Iterable

from data_pipeline.bigfile import BigFileStore
from data_pipeline.captions import Caption, gallery_path
from data_pipeline.errors import BadItemError, DataError
from data_pipeline.hdf5 import Hdf5Store

VisualStore = BigFileStore | Hdf5Store


@dataclasses.dataclass
class ReleaseSplit:
  """One split of the release.

  Attributes:
    name: 'train', 'val' or 'test'.
    path: The caption file.
    video_ids: Videos in order of first appearance, or those that
      <collection><split>.videos.txt lists, in its order.
    captions: Captions in file order, without those that were left out.
  """

  name: str
  path: pathlib.Path
  video_ids: list[str]
  captions: list[Caption]


def common_width(store: VisualStore, ids: Iterable[str]) -> int:
  """Returns the width of most matrices; a matrix of another width is bad."""
  widths = collections.Counter(
    store.shape(name)[1]
    for name in ids
    if name in store and store.problem(name) is None
  )
  return widths.most_common(1)[0][0] if widths else 0


class Checker:
  """Joins captions with features and finds those that cannot be joined."""

  def __init__(self, visual: VisualStore, text: Hdf5Store, skip_bad: bool):
    self._visual = visual
    self._text = text
    self._skip_bad = skip_bad
    self._bad_videos: dict[str, BadItemError | None] = {}
    self.visual_width = self.text_width = 0
    self.skipped: list[tuple[str, str]] = []

  def join(
    self,
    name: str,
    path: pathlib.Path,
    captions: list[Caption],
    gallery: list[str],
  ) -> ReleaseSplit:
    self.visual_width = self.visual_width or common_width(
      self._visual, dict.fromkeys(c.video for c in captions)
    )
    self.text_width = self.text_width or common_width(
      self._text, dict.fromkeys(c.id for c in captions)
    )
    kept = []
    for caption in captions:
      known = caption.video in self._bad_videos
      error = self._video_error(caption, path)
      if error is None:
        error = self._caption_error(caption, path)
      elif known:
        continue  # one line for each bad video, not one for each caption
      if error is None:
        kept.append(caption)
      elif self._skip_bad:
        self.skipped.append((error.item, error.reason))
      else:
        raise error
    if not kept:
      raise DataError(
        f'nothing is left of {path}: all {len(captions)} captions or their '
        f'videos are bad, the last one because {self.skipped[-1][1]}'
      )
    videos = dict.fromkeys(caption.video for caption in kept)
    if gallery:
      missing = videos.keys() - set(gallery)
      if missing:
        raise DataError(
          f'{gallery_path(path)} lacks the video {min(missing)!r}, which '
          f'{path} has captions of; add it, or remove the file'
        )
      videos = self._usable(gallery, gallery_path(path))
    return ReleaseSplit(name, path, list(videos), kept)

  def _usable(self, gallery: list[str], path: pathlib.Path) -> list[str]:
    """Returns the videos of a list that can be read."""
    kept = []
    for video in gallery:
      if video not in self._bad_videos:
        reason = matrix_problem(self._visual, video, self.visual_width, 'frame')
        self._bad_videos[video] = (
          BadItemError(f'video {video!r} ({path})', reason) if reason else None
        )
        error = self._bad_videos[video]
        if error is not None and not self._skip_bad:
          raise error
        if error is not None:
          self.skipped.append((error.item, error.reason))
      if self._bad_videos[video] is None:
        kept.append(video)
    return kept

  def _video_error(self, caption: Caption, path) -> BadItemError | None:
    if caption.video not in self._bad_videos:
      reason = matrix_problem(
        self._visual, caption.video, self.visual_width, 'frame'
      )
      where = f'caption {caption.id!r} ({path}:{caption.line})'
      self._bad_videos[caption.video] = (
        BadItemError(f'video {caption.video!r} of {where}', reason)
        if reason
        else None
      )
    return self._bad_videos[caption.video]

  def _caption_error(self, caption: Caption, path) -> BadItemError | None:
    reason = matrix_problem(self._text, caption.id, self.text_width, 'word')
    if not reason:
      return None
    where = f'caption {caption.id!r} ({path}:{caption.line})'
    return BadItemError(where, reason)


def matrix_problem(
  store: VisualStore, name: str, width: int, kind: str
) -> str | None:
  """Returns what is wrong with one item's matrix, or None."""
  if name not in store:
    return (
      f'has no {kind} features in {store.path}; extract them or remove the '
      'caption'
    )
  problem = store.problem(name)
  if problem:
    return problem
  rows, found = store.shape(name)
  if rows == 0:
    return f'has no {kind}s: its matrix in {store.path} is empty'
  if found != width:
    return (
      f'has {kind} features of width {found} in {store.path} where the others '
      f'have {width}; extract all of them with one model'
    )
  return None
