"""Opening a corpus, from prepared records or from the official files."""

import logging

import numpy as np

from data_pipeline.corpus import Corpus, Split, Splits
from data_pipeline.errors import DataError
from data_pipeline.index import frame_edges, load_index
from data_pipeline.joining import ReleaseSplit
from data_pipeline.manifest import Manifest
from data_pipeline.moments import Moments
from data_pipeline.options import SPLITS, DataOptions
from data_pipeline.paths import (
  dataset_dir,
  index_path,
  manifest_path,
  shard_name,
)
from data_pipeline.records import RecordSource, RecordTable, word_starts
from data_pipeline.release import Release, open_release
from data_pipeline.source import ReleaseSource
from data_pipeline.verification import verified

_log = logging.getLogger(__name__)


def open_corpus(
  options: DataOptions, manifest: Manifest | None = None
) -> Corpus:
  """Returns the corpus; ids and counts are read, the arrays are not.

  Args:
    options: The corpus to open.
    manifest: The manifest of its records if they were verified just now, as
      by `prepare`; otherwise they are verified here.

  Raises:
    DataError: If files are missing or bad, or if storage is 'records' and the
      records cannot be used.
  """
  if options.storage == 'release':
    return open_release_corpus(options)
  if manifest is None:
    try:
      manifest = verified(options)
    except DataError as error:
      if options.storage == 'records':
        raise
      if manifest_path(options).exists():
        _log.warning('%s; reading the release instead', error)
      else:
        _log.info('reading the release: %s', error)
      return open_release_corpus(options)
  return _open_record_corpus(options, manifest)


def _open_record_corpus(options: DataOptions, manifest: Manifest) -> Corpus:
  return Corpus(
    options=options,
    storage='records',
    visual_width=manifest.visual_width,
    text_width=manifest.text_width,
    splits=Splits(
      {
        name: _record_split(name, manifest, options)
        for name in SPLITS
        if name in manifest.splits
      },
      options,
    ),
    skipped=manifest.skipped,
  )


def _record_split(name: str, manifest: Manifest, options: DataOptions) -> Split:
  index, texts = load_index(index_path(options, name), manifest.splits[name])
  lengths = index['shard_lengths']
  folder = dataset_dir(options)
  paths = [
    folder / shard_name(manifest.name, name, shard, len(lengths))
    for shard in range(len(lengths))
  ]
  num_frames, edges = index['num_frames'], frame_edges(index)
  caption_video, num_words = index['caption_video'], index['num_words']
  table = RecordTable(
    shard=np.repeat(np.arange(len(lengths)), lengths),
    offsets=index['offsets'],
    num_frames=(
      options.stored_frames(num_frames)
      if edges is None
      else np.array([len(e) - 1 for e in edges], np.int32)
    ),
    caption_video=caption_video,
    num_words=num_words,
    word_start=word_starts(caption_video, num_words),
    clip_plan=index.get('clip_plan'),
  )
  widths = (manifest.visual_width, manifest.text_width)
  return Split(
    name=name,
    **texts,
    caption_video=caption_video,
    num_frames=num_frames,
    num_words=num_words,
    durations=index['durations'],
    moments=index['moments'],
    visual_width=widths[0],
    text_width=widths[1],
    source=RecordSource(paths, table, *widths, options),
    options=options,
    frame_edges=edges,
  )


def open_release_corpus(options: DataOptions) -> Corpus:
  """Returns the corpus, its arrays computed from the official files when they
  are read.

  Raises:
    DataError: If files are missing, malformed or do not belong together.
  """
  release = open_release(options)
  moments = Moments(options)
  return Corpus(
    options=options,
    storage='release',
    visual_width=release.visual_width,
    text_width=release.text_width,
    splits=Splits(
      {
        name: _release_split(release, release.splits[name], moments, options)
        for name in SPLITS
        if name in release.splits
      },
      options,
    ),
    skipped=release.skipped,
  )


def _release_split(
  release: Release,
  part: ReleaseSplit,
  moments: Moments,
  options: DataOptions,
) -> Split:
  if options.skip_bad:
    part = _without_bad_values(release, part, options)
  index = {video: i for i, video in enumerate(part.video_ids)}
  spans, durations = moments.join(part.captions, part.video_ids)
  frames = [release.visual.shape(video)[0] for video in part.video_ids]
  assert release.text is not None
  words = [release.text.shape(c.id)[0] for c in part.captions]
  source = ReleaseSource(release, part, options)
  return Split(
    name=part.name,
    video_ids=part.video_ids,
    caption_ids=[c.id for c in part.captions],
    captions=[c.text for c in part.captions],
    caption_video=np.array([index[c.video] for c in part.captions], np.int32),
    num_frames=np.array(frames, np.int32),
    num_words=np.minimum(words, options.max_words).astype(np.int32),
    durations=durations,
    moments=spans,
    visual_width=release.visual_width,
    text_width=release.text_width,
    source=source,
    options=options,
    frame_edges=source.all_edges(),
  )


def _without_bad_values(
  release: Release, part: ReleaseSplit, options: DataOptions
) -> ReleaseSplit:
  """Returns the split without items that have NaN or infinite values; reads
  every value once."""
  videos, captions = ReleaseSource(release, part, options).bad_values()
  bad = {part.video_ids[i] for i in videos}
  new = [(f'video {part.video_ids[i]!r}', why) for i, why in videos.items()]
  new += [
    (f'caption {part.captions[i].id!r}', why) for i, why in captions.items()
  ]
  for name, reason in new:
    _log.debug('left out %s: %s', name, reason)
  release.skipped += new
  kept = [
    caption
    for i, caption in enumerate(part.captions)
    if i not in captions and caption.video not in bad
  ]
  if not kept:
    raise DataError(
      f'nothing is left of {part.path}: all its items are bad, the last one '
      f'because it {new[-1][1]}'
    )
  named = {caption.video for caption in kept}
  captioned = {caption.video for caption in part.captions}
  return ReleaseSplit(
    part.name,
    part.path,
    # A video that lost all its captions is no candidate, unless it had none.
    [
      video
      for video in part.video_ids
      if video not in bad and (video in named or video not in captioned)
    ],
    kept,
  )
