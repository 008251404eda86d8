"""The options of the data pipeline."""

import dataclasses
import os

import numpy as np
from etils import epath

from data_pipeline.errors import DataError
from data_pipeline.limits import MAX_INFLATION
from data_pipeline.merging import NUM_CLIPS, NUM_FRAMES
from dreamprvr_jax.training_free.moments import BETA, WAVELET, check_beta
from dreamprvr_jax.training_free.wavelets import filters

SPLITS = ('train', 'val', 'test')
_CHOICES = {
  'clips': ('pooled', 'merged'),
  'storage': ('auto', 'records', 'release'),
  'verify': ('fast', 'full'),
  'retriever': ('', 'best_frame', 'tf_prvr'),
  'sentence': ('auto', 'file', 'last'),
}
# Vectors of whole sentences, if they have a file of their own; see `sentences`.
SENTENCES = 'sentence_feats.hdf5'
_POSITIVE = ('num_clips', 'max_frames', 'max_words', 'shard_videos')


@dataclasses.dataclass(frozen=True)
class DataOptions:
  """Which data to read and how one item is made of it.

  Attributes:
    root: Folder with one folder per collection.
    collection: Name of the collection, such as 'activitynet'.
    feature: Folder of the frame features under FeatureData, or their file.
    text_feature: Name of the word-feature file under TextData.
    prepared_dir: Folder of prepared records, possibly in a bucket; '' for
      `<root>/<collection>/prepared`.
    storage: 'records' reads prepared records, 'release' the official files,
      'auto' the records if they exist and match the official files.
    skip_bad: Whether to leave out bad videos and captions and list them,
      rather than stop. With storage 'release' this reads every value once at
      the start.
    max_inflation: How many times its size an official file may unpack to,
      once that is more than 256 MiB.
    num_workers: Processes of a preparation and threads of a reader; 0 means
      one per core, at most 16.
    num_clips: Clips per video.
    max_frames: Longer videos are pooled to this many frames.
    clips: 'pooled' from equal segments, or 'merged' from similar frames (see
      `merging`): 32 clips, and every video is sampled to 128 frames.
    merge_threshold: Cosine above which two merged clips are linked.
    max_words: Longer captions are cut to this many words.
    shard_videos: Videos in one shard of the records.
    moments: Annotation files with time spans, comma-separated; '' looks in
      the collection's folder.
    verify: How prepared records are compared with their official files:
      'fast' (sizes, times, samples of the content) or 'full' (sha256).
    retriever: The retriever without training that the items are for: frames
      are its tokens, as many as a video has, the clip is their mean, and a
      caption's only word is its sentence vector; '' for models that are
      trained.
    sentence: Where the vector of a whole sentence is: in its own 'file', in the
      'last' row of the word features, or 'auto', see `sentences`.
    wavelet: Wavelet of tf_prvr, see `dreamprvr_jax.training_free`.
    beta: Weight of the graph of tf_prvr.
  """

  root: str = 'data'
  collection: str = 'activitynet'
  feature: str = 'i3d'
  text_feature: str = 'roberta_{collection}_query_feat.hdf5'
  prepared_dir: str = ''
  storage: str = 'auto'
  skip_bad: bool = False
  max_inflation: float = MAX_INFLATION
  num_workers: int = 0
  num_clips: int = NUM_CLIPS
  max_frames: int = NUM_FRAMES
  clips: str = 'pooled'
  merge_threshold: float = 0.8
  max_words: int = 30
  shard_videos: int = 256
  moments: str = ''
  verify: str = 'fast'
  retriever: str = ''
  sentence: str = 'auto'
  wavelet: str = WAVELET
  beta: float = BETA

  def __post_init__(self):
    for name, choices in _CHOICES.items():
      if getattr(self, name) not in choices:
        raise DataError(
          f'{name}={getattr(self, name)!r} is not one of {", ".join(choices)}'
        )
    for name in _POSITIVE:
      if getattr(self, name) < 1:
        raise DataError(f'{name}={getattr(self, name)} must be at least 1')
    if not self.collection:
      raise DataError('collection is empty; name one, such as activitynet')
    if self.merged and (self.num_clips, self.max_frames) != (
      NUM_CLIPS,
      NUM_FRAMES,
    ):
      raise DataError(
        f"clips='merged' makes {NUM_CLIPS} clips of {NUM_FRAMES} frames, but "
        f'num_clips={self.num_clips} and max_frames={self.max_frames} were '
        "set; leave both at their defaults, or set clips to 'pooled'"
      )
    if self.retriever:
      filters(self.wavelet)
      check_beta(self.beta)
      if self.merged or (self.num_clips, self.max_words) != (1, 1):
        raise DataError(
          f'{self.retriever} has one clip and one word of each item; leave '
          'clips, num_clips and max_words as its config has them'
        )
      if self.max_frames != NUM_FRAMES:
        raise DataError(
          f'{self.retriever} reads all frames of a video, but max_frames is '
          f'{self.max_frames}; leave it out'
        )
    if not -1 <= self.merge_threshold <= 1:
      raise DataError(
        f'merge_threshold={self.merge_threshold} is not a cosine; give a '
        'number from -1 to 1'
      )

  @property
  def merged(self) -> bool:
    """Whether clips are merged frames and have sizes and groups."""
    return self.clips == 'merged'

  def stored_frames(self, num_frames: np.ndarray) -> np.ndarray:
    """Returns how many frames are kept of videos of these lengths; see
    `corpus.Split.stored_frames`."""
    if self.retriever:
      return num_frames
    if self.merged:
      return np.full_like(num_frames, self.max_frames)
    return np.minimum(num_frames, self.max_frames)

  @property
  def folder(self) -> epath.Path:
    """The folder of the collection."""
    return epath.Path(self.root) / self.collection

  @property
  def prepared(self) -> epath.Path:
    """The folder of the prepared records."""
    place = self.folder / 'prepared'
    if self.prepared_dir:
      place = epath.Path(self.prepared_dir)
    # Beside the records for training, not instead of them.
    return place / self.retriever if self.retriever else place

  @property
  def text_file(self) -> str:
    """The name of the word-feature file."""
    return self.text_feature.format(collection=self.collection)

  @property
  def workers(self) -> int:
    """The number of workers, resolved."""
    return self.num_workers or min(16, os.cpu_count() or 1)
