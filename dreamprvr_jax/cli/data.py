"""The data of a command: its options, corpus, splits and retrieval task."""

import dataclasses
import logging
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from data_pipeline import iterators, prepare, simulated
from data_pipeline.corpus import Corpus, Split
from data_pipeline.errors import DataError
from data_pipeline.manifest import Manifest
from data_pipeline.opening import open_corpus
from data_pipeline.options import DataOptions
from data_pipeline.paths import manifest_path
from data_pipeline.release import ends_in_sentences
from dreamprvr_jax import folders
from dreamprvr_jax.cli import encoder_identity
from dreamprvr_jax.devices import leader
from dreamprvr_jax.devices.resident import ResidentSplit
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.evaluation.task import RetrievalTask
from dreamprvr_jax.trained.retriever import FREE

_log = logging.getLogger(__name__)

# Frames up to which a batch has as many videos as configured.
_FRAMES = 1024


def data_options(config: ConfigDict) -> DataOptions:
  """Returns the options of the data pipeline."""
  data = config.data
  given = {
    'root': data.root,
    'collection': data.collection,
    'feature': data.feature,
    'prepared_dir': data.prepared,
    'storage': data.storage,
    'skip_bad': data.skip_bad,
    'max_inflation': data.max_inflation,
    'num_workers': data.workers,
    'num_clips': data.num_clips,
    'clips': data.clips,
    'merge_threshold': data.merge_threshold,
    'max_frames': data.max_frames,
    'max_words': data.max_words,
    'moments': data.moments,
    'sentence': data.sentence,
    'verify': data.verify,
  }
  if config.model.get('name') in FREE:
    given.update(retriever=config.model.name, **settings_of(config))
  if data.text_feature:
    given['text_feature'] = data.text_feature
  return DataOptions(**given)


def settings_of(config: ConfigDict) -> dict[str, Any]:
  """Returns the settings of a retriever without training."""
  return {key: config.model[key] for key in FREE[config.model.name]}


def write_simulated(config: ConfigDict) -> None:
  """Writes the generated corpus that the config asks for, if it is missing;
  waits if another command is writing it."""
  if config.simulated.enabled:
    leader.alone(lambda: _write_simulated(config))


def _write_simulated(config: ConfigDict) -> None:
  folder = pathlib.Path(config.data.root) / config.data.collection
  train, val, test = config.simulated.videos
  with folders.made(folder, 'generated corpus', wait=True) as fresh:
    if fresh is None:
      return
    _log.info('writing the generated corpus to %s', folder)
    written = simulated.write_corpus(
      fresh,
      collection=config.data.collection,
      feature=config.data.feature,
      train_videos=train,
      val_videos=val,
      test_videos=test,
      noise=config.simulated.noise,
      seed=config.simulated.seed,
    )
    for path in written.iterdir():
      path.rename(fresh / path.name)
    written.rmdir()


def open_data(config: ConfigDict, *, show: bool = True) -> Corpus:
  """Returns the corpus, prepared first if necessary.

  If another command is preparing it, this one waits.

  Raises:
    DataError: If the release is missing, damaged or contradicts itself.
  """
  write_simulated(config)
  options = data_options(config)
  manifest: Manifest | None = None

  def prepared() -> None:
    nonlocal manifest
    manifest = _prepare(options, show)

  # Without training nothing is read often enough to be prepared.
  asked = config.data.storage
  if asked == 'records' or (asked == 'auto' and not options.retriever):
    leader.alone(prepared)
  elif asked == 'auto' and not manifest_path(options).exists():
    options = dataclasses.replace(options, storage='release')
  corpus = open_corpus(options, manifest)
  for name, reason in corpus.skipped[:20]:
    _log.warning('left out: %s: %s', name, reason)
  if len(corpus.skipped) > 20:
    _log.warning('left out: %d more', len(corpus.skipped) - 20)
  return corpus


def _prepare(options: DataOptions, show: bool) -> Manifest | None:
  """Returns the manifest of the records; None if they cannot be written."""
  try:
    return prepare.prepare(options, progress=show)
  except PermissionError as error:
    if options.storage == 'records':
      raise DataError(
        f'records cannot be written to {options.prepared} ({error}); set '
        'config.data.prepared to a folder that can be written, or '
        "config.data.storage='release'"
      ) from error
    _log.warning(
      '%s cannot be written: reading the release as it is', options.prepared
    )
    return None


def check_sentences(
  config: Mapping[str, Any], corpus: Corpus, *, training: bool
) -> None:
  """Raises UserError if a model, its score or a loss reads vectors of whole
  sentences, and the word features are not known to end in them.

  Captions that may have lost theirs are reported: a cut one has as many rows as
  there can be.

  Args:
    config: That of the run or the checkpoint.
    corpus: What it reads.
    training: Whether losses and the choice of features matter: a trained model
      is evaluated on what it learned from.
  """
  needs = {}
  if weight := config['model'].get('sentence_weight', 0):
    needs['config.model.sentence_weight'] = weight
  if training:
    for name in ('distances', 'angles'):
      if value := config['loss'][name]:
        needs[f'config.loss.{name}'] = value
  switched_off = f', or set {" and ".join(needs)} to 0' if needs else ''
  if training and config['model']['name'] == 'diffusionret':
    needs, switched_off = {'the model': 'diffusionret', **needs}, ''
  if not needs:
    return
  first = next(iter(needs))
  if not ends_in_sentences(corpus.options):
    raise UserError(
      f'{first} is {needs[first]}, which needs the vector of a whole sentence, '
      f'but the word features of {corpus.options.collection} are not known to '
      'end in one; give those of CLIP (config.data.text_feature), or set '
      f"config.data.sentence='last' if their last row is one{switched_off}"
    )
  longest = corpus.options.max_words
  full = sum(
    int((split.num_words == longest).sum()) for split in corpus.splits.values()
  )
  if full:
    _log.warning(
      '%s reads the last row of word features; captions with '
      'config.data.max_words=%d rows: %d. One that was cut to this length has '
      'lost its sentence; choose more',
      first,
      longest,
      full,
    )


def get_split(corpus: Corpus, name: str) -> Split:
  """Returns a split of the corpus.

  Raises:
    DataError: If the release has no such split.
  """
  if name not in corpus.splits:
    raise DataError(
      f'there is no split {name!r} in the release: it has '
      f'{", ".join(corpus.splits) or "none"}; choose one of these with '
      'config.data.eval_split or config.data.val_split, or add the caption '
      f'file of {name!r}'
    )
  return corpus.splits[name]


def training_split(corpus: Corpus) -> Split:
  """Returns the split that models learn from.

  Raises:
    DataError: If the release has none, or it has videos without captions, from
      which nothing can be learned.
  """
  train = get_split(corpus, 'train')
  captions = np.bincount(train.caption_video, minlength=len(train.video_ids))
  without = np.flatnonzero(captions == 0)
  if len(without):
    first = train.video_ids[without[0]]
    raise DataError(
      f'training videos without captions: {len(without):,} of '
      f'{len(train.video_ids):,}, the first is {first!r}; '
      f'take them out of {corpus.options.collection}train.videos.txt'
    )
  return train


def final_split(config: ConfigDict, corpus: Corpus) -> str:
  """Returns the split of final tables: the configured one, or test, or val."""
  if config.data.eval_split:
    return config.data.eval_split
  return 'test' if 'test' in corpus.splits else config.data.val_split


def make_task(
  split: Split,
  config: ConfigDict,
  mesh: Mesh,
  resident: ResidentSplit | None = None,
) -> RetrievalTask:
  """Returns the retrieval task on a split.

  Args:
    split: The split.
    config: The run's config.
    mesh: The device mesh.
    resident: The split's features, if they are in device memory.
  """
  videos = _shared(
    min(_video_batch(config, split), len(split.video_ids)), mesh.size
  )
  queries = _shared(
    min(config.data.eval_query_batch, len(split.caption_ids)), mesh.size
  )
  reading = {
    'pipeline': config.data.pipeline,
    'process_index': jax.process_index(),
    'process_count': jax.process_count(),
  }
  lengths = split.moments[:, 1] - split.moments[:, 0]
  return RetrievalTask(
    name=split.name,
    video_ids=split.video_ids,
    caption_ids=split.caption_ids,
    caption_video=split.caption_video,
    moment_ratios=lengths / split.durations[split.caption_video],
    video_batch=videos,
    query_batch=queries,
    video_batches=lambda: iterators.video_batches(
      split, batch_size=videos, **reading
    ),
    query_batches=lambda: iterators.query_batches(
      split, batch_size=queries, **reading
    ),
    resident=resident,
  )


def _video_batch(config: ConfigDict, split: Split) -> int:
  """Returns how many videos are encoded at a time: fewer than configured if
  they are padded to many frames, as without training."""
  most = config.data.eval_video_batch * _FRAMES // split.max_frames
  return min(config.data.eval_video_batch, max(most, 1))


def _shared(size: int, devices: int) -> int:
  """Returns `size` rounded up to a multiple of the devices."""
  return -(-size // devices) * devices


def check_widths(
  stored: dict[str, Any], corpus: Corpus | Split, checkpoint: str
) -> None:
  """Refuses a corpus whose features have another width or encoder than the
  checkpoint's.

  Without captions, word features have width 0, which fits.

  Raises:
    UserError: If they differ; it says how.
  """
  for what, wanted, found in (
    ('frame features', stored['visual_width'], corpus.visual_width),
    ('word features', stored['text_width'], corpus.text_width),
  ):
    if found not in (0, wanted):
      raise UserError(
        f'{checkpoint} was trained on {what} of width {wanted}, but those of '
        f'the corpus are {found} wide; give the features it was trained on '
        '(config.data.feature, config.data.text_feature)'
      )
  encoder_identity.check_encoder(stored, corpus, checkpoint)
