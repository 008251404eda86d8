"""The official feature release: its files, and how they are joined."""

import dataclasses
import itertools
import logging
import pathlib
from collections.abc import Iterable

from data_pipeline import sentences, stored_moments
from data_pipeline.bigfile import BigFileStore
from data_pipeline.captions import (
  read_captions,
  read_gallery,
)
from data_pipeline.errors import DataError
from data_pipeline.hdf5 import Hdf5Store
from data_pipeline.hdf5_file import HDF5_SUFFIXES
from data_pipeline.joining import Checker, ReleaseSplit, VisualStore
from data_pipeline.limits import Limits
from data_pipeline.options import SENTENCES, SPLITS, DataOptions
from data_pipeline.paths import is_remote
from data_pipeline.stored_moments import StoredMoments

_log = logging.getLogger(__name__)

# ActivityNet's captions have it, but not all of its features.
PREFIX = 'v_'


@dataclasses.dataclass
class Release:
  """The official files of one collection, joined by their ids.

  Attributes:
    visual: Frame features.
    text: Word features; None if there are no captions.
    splits: Splits by name.
    visual_width: Width of the frame features.
    text_width: Width of the word features.
    skipped: (item, reason) of each item that was left out.
    moments: What the visual vectors are if they are no frames.
  """

  visual: VisualStore
  text: Hdf5Store | None
  splits: dict[str, ReleaseSplit]
  visual_width: int
  text_width: int
  skipped: list[tuple[str, str]]
  moments: StoredMoments | None = None


def _is_file_name(options: DataOptions) -> bool:
  """Returns whether `feature` names one file (MSC), not a folder (MS-SL)."""
  return options.feature.endswith(HDF5_SUFFIXES)


def expected_tree(options: DataOptions) -> str:
  """Returns the files of a release as a tree, one a line."""
  name = options.collection
  visual = [
    f'  FeatureData/{options.feature}/',
    '    feature.hdf5, or: feature.bin id.txt shape.txt video2frames.txt',
  ]
  if _is_file_name(options):
    visual = ['  FeatureData/', f'    {options.feature}']
  return '\n'.join(
    [
      f'{options.root}/{name}/',
      *visual,
      '  TextData/',
      *(f'    {name}{split}.caption.txt' for split in SPLITS),
      f'    {options.text_file}',
    ]
  )


def missing_release(options: DataOptions, what: str) -> DataError:
  """Returns the error for a release that is missing or incomplete."""
  project = 'MS-SL project, https://github.com/HuiGuanLab/ms-sl'
  if _is_file_name(options):
    project = 'MSC project, https://github.com/admins97/MSC_PRVR'
  return DataError(
    f'{what}; expected this tree of the official feature release (linked from '
    f'the README of the {project}; download it and unpack it '
    f'under {options.root}, or point the data root elsewhere):\n'
    f'{expected_tree(options)}'
  )


def find_visual(options: DataOptions) -> pathlib.Path:
  """Returns the HDF5 file of the frame features, or the folder of a BigFile.

  Raises:
    DataError: If it is missing; names the features that exist.
  """
  parent = pathlib.Path(options.folder) / 'FeatureData'
  path = parent / options.feature
  if path.is_file():
    return path
  if path.is_dir():
    file = path / 'feature.hdf5'
    return file if file.is_file() else path
  others = sorted(
    p.name for p in parent.glob('*') if p.is_dir() or p.suffix in HDF5_SUFFIXES
  )
  if others:
    raise DataError(
      f'{path} is missing, but {parent} has {", ".join(others)}; set the '
      'option `feature` to one of these'
    )
  raise missing_release(options, f'{path} is missing')


def find_text(options: DataOptions) -> pathlib.Path:
  """Returns the file of the word features; for a retriever without training
  the one that has sentence vectors.

  Raises:
    DataError: If it is missing and there is not exactly one other candidate.
  """
  if options.retriever:
    return sentences.find(options, lambda: _find_words(options))
  return _find_words(options)


def ends_in_sentences(options: DataOptions) -> bool:
  """Returns whether the last row of a caption's word features is the vector of
  the sentence; see `sentences`."""
  name = options.text_file
  if release_exists(options):
    name = _find_words(options).name
  return sentences.are_last_rows(options, name)


def _find_words(options: DataOptions) -> pathlib.Path:
  parent = pathlib.Path(options.folder) / 'TextData'
  path = parent / options.text_file
  if path.is_file():
    return path
  others = sorted(
    p.name
    for p in parent.glob('*')
    if p.suffix in HDF5_SUFFIXES and p.name != SENTENCES
  )
  # Variants of the release (CLIP features) differ only in this name.
  variants = [name for name in others if name.endswith('query_feat.hdf5')]
  default = DataOptions.__dataclass_fields__['text_feature'].default
  if options.text_feature == default and len(variants) == 1:
    _log.info('word features: %s (no %s)', parent / variants[0], path.name)
    return parent / variants[0]
  if others:
    raise DataError(
      f'{path} is missing, but {parent} has {", ".join(others)}; set the '
      'option `text_feature` to one of these'
    )
  raise missing_release(options, f'{path} is missing')


def caption_files(options: DataOptions) -> dict[str, pathlib.Path]:
  """Returns the caption files that exist, by split."""
  parent = pathlib.Path(options.folder) / 'TextData'
  paths = {
    split: parent / f'{options.collection}{split}.caption.txt'
    for split in SPLITS
  }
  return {split: path for split, path in paths.items() if path.is_file()}


def release_exists(options: DataOptions) -> bool:
  """Returns whether any caption file of the release exists."""
  return not is_remote(options.root) and bool(caption_files(options))


def open_release(options: DataOptions) -> Release:
  """Returns the joined release of a collection; values are not read yet.

  Raises:
    DataError: If files are missing, malformed or do not belong together.
  """
  if is_remote(options.root):
    raise DataError(
      f'the official release cannot be read from {options.root}; prepare it '
      'from a local folder and point `prepared_dir` to the bucket'
    )
  folder = pathlib.Path(options.folder)
  if not folder.is_dir():
    raise missing_release(options, f'{folder} is missing')
  files = caption_files(options)
  if not files:
    raise missing_release(options, f'{folder / "TextData"} has no caption file')
  visual_path, text_path = find_visual(options), find_text(options)
  skipped: list[tuple[str, str]] = []
  captions = {}
  for split, path in files.items():
    captions[split], bad = read_captions(path, options.skip_bad)
    skipped += bad
  everything = [c for split in captions.values() for c in split]
  galleries = {split: read_gallery(path) for split, path in files.items()}
  videos = dict.fromkeys(
    [*(c.video for c in everything), *itertools.chain(*galleries.values())]
  )
  visual = open_visual(visual_path, videos, options)
  text = Hdf5Store(
    text_path,
    dict.fromkeys(c.id for c in everything),
    limits=limits_of(options),
    vectors=bool(options.retriever) and text_path.name == SENTENCES,
  )
  checker = Checker(visual, text, options.skip_bad)
  splits = {
    split: checker.join(split, files[split], captions[split], galleries[split])
    for split in files
  }
  skipped += checker.skipped
  if options.retriever and checker.visual_width != checker.text_width:
    raise DataError(
      f'{options.retriever} compares sentence vectors with frames, but those '
      f'in {text_path} are {checker.text_width} wide, and those in '
      f'{visual_path} {checker.visual_width}; it needs both from one encoder '
      'with a common space, such as CLIP or SigLIP'
    )
  for name, reason in skipped:
    _log.debug('left out %s: %s', name, reason)
  return Release(
    visual,
    text,
    splits,
    checker.visual_width,
    checker.text_width,
    skipped,
    stored_moments.read(visual_path, options),
  )


def open_visual(
  path: pathlib.Path, ids: Iterable[str], options: DataOptions
) -> VisualStore:
  """Returns the features of some videos, from the path of `find_visual`."""
  if path.is_file():
    return Hdf5Store(path, ids, PREFIX, limits_of(options))
  return BigFileStore(path, ids)


def limits_of(options: DataOptions) -> Limits:
  """Returns how far the official files may unpack."""
  return Limits(options.max_inflation, '--config.data.max_inflation')
