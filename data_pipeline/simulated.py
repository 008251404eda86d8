"""A generated corpus, written to disk as an official release.

An untrimmed video has a theme (a place) and a few events, with background
before, between and after them. An event is an action on an object. Frame
vectors are a random projection of the sum of their concepts, word vectors
another projection of the concept of each word, both with noise: a model has to
learn from the training videos how the two spaces correspond, and is tested on
combinations that training never shows. Sentence vectors lie in the space of the
frames, as those of an encoder of pictures and sentences do.

The same event happens under many themes, and a caption names the theme only
sometimes and may leave out the action or the object. So no model reaches a
perfect score, but one that sees the whole video beats one that looks at single
frames.
"""

import dataclasses
import json
import pathlib

import h5py
import numpy as np

from data_pipeline import vocabulary
from data_pipeline.errors import DataError
from data_pipeline.options import SENTENCES, SPLITS, DataOptions

_LATENT = 32
_LAYOUTS = ('bigfile', 'hdf5')
# One of this many combinations is kept from the training videos.
_HELD_OUT = 5
_SECONDS_PER_FRAME = 0.5


@dataclasses.dataclass(frozen=True)
class _World:
  """The concepts and the two projections; the same for every split."""

  themes: np.ndarray
  actions: np.ndarray
  objects: np.ndarray
  words: dict[str, np.ndarray]
  to_visual: np.ndarray
  to_text: np.ndarray


@dataclasses.dataclass
class _Video:
  name: str
  frames: np.ndarray
  duration: float
  sentences: list[str]
  spans: list[tuple[float, float]]
  words: list[np.ndarray]


def _world(seed: int, visual_width: int, text_width: int) -> _World:
  generator = np.random.default_rng([seed, 0])

  def concepts(count):
    return generator.standard_normal((count, _LATENT)) / np.sqrt(_LATENT)

  themes = concepts(len(vocabulary.PLACES))
  actions = concepts(len(vocabulary.ACTIONS))
  objects = concepts(len(vocabulary.OBJECTS))
  fillers = concepts(len(vocabulary.FILLERS))
  words: dict[str, np.ndarray] = {}
  for names, vectors in (
    (vocabulary.PLACES, themes),
    (vocabulary.ACTIONS, actions),
    (vocabulary.OBJECTS, objects),
    (vocabulary.FILLERS, fillers),
  ):
    words.update(zip(names, vectors, strict=True))
  return _World(
    themes,
    actions,
    objects,
    words,
    generator.standard_normal((_LATENT, visual_width)),
    generator.standard_normal((_LATENT, text_width)),
  )


def _sentence(generator, theme: int, action: int, thing: int) -> list[str]:
  """Returns the words of a caption, which may leave out some concepts."""
  words = [generator.choice(vocabulary.PEOPLE)]
  what = generator.random()
  if what < 0.1:
    words += ['does', 'something', 'with']
  else:
    words.append(vocabulary.ACTIONS[action])
  if what > 0.9:
    words.append('something')
  else:
    words += ['the', vocabulary.OBJECTS[thing]]
  if generator.random() < 0.5:
    words += ['in', 'the', vocabulary.PLACES[theme]]
  if generator.random() < 0.3:
    words.append(generator.choice(vocabulary.ADVERBS))
  return words


def _events(generator, count: int, train: bool) -> list[tuple[int, int]]:
  """Returns distinct (action, object) pairs, in order of time."""
  found: list[tuple[int, int]] = []
  while len(found) < count:
    action = int(generator.integers(len(vocabulary.ACTIONS)))
    thing = int(generator.integers(len(vocabulary.OBJECTS)))
    held_out = (action * 7 + thing) % _HELD_OUT == 0
    if (action, thing) not in found and not (train and held_out):
      found.append((action, thing))
  return found


def _spans(generator, num_frames: int, count: int) -> np.ndarray:
  """Returns (count, 2) frame ranges that do not overlap, in order of time."""
  # Every second one of 2 count + 1 stretches is an event.
  shares = generator.dirichlet(np.full(2 * count + 1, 2.0))
  edges = np.round(np.cumsum(shares) * num_frames).astype(int)
  starts = np.minimum(edges[0:-1:2], num_frames - 1)
  return np.stack([starts, np.maximum(edges[1::2], starts + 1)], axis=1)


def _video(
  world: _World,
  generator: np.random.Generator,
  name: str,
  *,
  num_frames: int,
  num_captions: int,
  noise: float,
  train: bool,
) -> _Video:
  theme = int(generator.integers(len(world.themes)))
  # Many captions repeat events; few captions leave events out.
  num_events = min(max(2, min(num_captions, 6)), max(1, num_frames // 2))
  events = _events(generator, num_events, train)
  spans = _spans(generator, num_frames, num_events)
  latent = np.tile(0.7 * world.themes[theme], (num_frames, 1))
  for (action, thing), (start, stop) in zip(events, spans, strict=True):
    latent[start:stop] += world.actions[action] + world.objects[thing]
  latent += noise * generator.standard_normal(latent.shape) / np.sqrt(_LATENT)
  frames = latent @ world.to_visual
  frames += 0.5 * noise * generator.standard_normal(frames.shape)
  about = np.arange(num_captions) % num_events
  sentences, words = [], []
  for event in about:
    sentence = _sentence(generator, theme, *events[event])
    vectors = np.stack([world.words[word] for word in sentence])
    vectors = vectors @ world.to_text
    vectors += 0.3 * noise * generator.standard_normal(vectors.shape)
    sentences.append(' '.join(sentence) + '.')
    words.append(vectors)
  return _Video(
    name,
    frames.astype(np.float32),
    num_frames * _SECONDS_PER_FRAME,
    sentences,
    [tuple((spans[e] * _SECONDS_PER_FRAME).round(3).tolist()) for e in about],
    words,
  )


def write_corpus(
  root: str | pathlib.Path,
  collection: str = 'simulated',
  *,
  layout: str = 'bigfile',
  feature: str = 'i3d',
  train_videos: int = 300,
  val_videos: int = 60,
  test_videos: int = 60,
  frames: tuple[int, int] = (40, 200),
  captions_per_video: tuple[int, int] = (2, 6),
  visual_width: int = 96,
  text_width: int = 64,
  noise: float = 1.5,
  shuffle_captions: bool = False,
  seed: int = 0,
) -> pathlib.Path:
  """Writes a corpus and returns its folder `<root>/<collection>`.

  Args:
    root: Folder of the collections.
    collection: Name of the collection.
    layout: 'bigfile' or 'hdf5', the two forms of the frame features.
    feature: Name of the feature folder.
    train_videos: Videos to train on; 0 writes no such split.
    val_videos: Videos to validate on; 0 writes no such split.
    test_videos: Videos to test on; 0 writes no such split.
    frames: Fewest and most frames of a video.
    captions_per_video: Fewest and most captions of a video.
    visual_width: Width of a frame vector.
    text_width: Width of a word vector.
    noise: 0 is easy, 1.5 is hard.
    shuffle_captions: Whether to scatter the captions of a video over the file.
    seed: The same seed and sizes give the same files.

  Raises:
    DataError: If the layout is unknown, a range is empty, or the noise is
      negative or not finite.
  """
  if layout not in _LAYOUTS:
    raise DataError(
      f'layout={layout!r} is not one of {", ".join(_LAYOUTS)}; choose one'
    )
  if not 0 <= noise < float('inf'):
    raise DataError(f'noise={noise} is not a finite number from 0 on; give one')
  _check_range('frames', frames)
  _check_range('captions_per_video', captions_per_video)
  folder = pathlib.Path(root) / collection
  text_folder = folder / 'TextData'
  text_folder.mkdir(parents=True, exist_ok=True)
  world = _world(seed, visual_width, text_width)
  text_file = text_folder / DataOptions(collection=collection).text_file
  everything: list[_Video] = []
  sizes = (train_videos, val_videos, test_videos)
  with h5py.File(text_file, 'w') as text:
    for number, (split, size) in enumerate(zip(SPLITS, sizes, strict=True), 1):
      if not size:
        continue
      generator = np.random.default_rng([seed, number])
      videos = [
        _video(
          world,
          generator,
          f'{split}_{i:05d}',
          num_frames=_between(generator, frames),
          num_captions=_between(generator, captions_per_video),
          noise=noise,
          train=split == 'train',
        )
        for i in range(size)
      ]
      _write_captions(
        text_folder / f'{collection}{split}.caption.txt',
        videos,
        generator if shuffle_captions else None,
      )
      _write_moments(folder / f'{split}.moments.json', videos)
      _write_words(text, videos)
      everything += videos
  visual_folder = folder / 'FeatureData' / feature
  visual_folder.mkdir(parents=True, exist_ok=True)
  with h5py.File(text_folder / SENTENCES, 'w') as file:
    _write_sentences(file, world, everything)
  write = _write_hdf5 if layout == 'hdf5' else _write_bigfile
  write(visual_folder, everything)
  return folder


def _check_range(name: str, bounds: tuple[int, int]) -> None:
  low, high = bounds
  if not 1 <= low <= high:
    raise DataError(
      f'{name}={bounds} is not a range; give (fewest, most), from 1 on'
    )


def _between(generator: np.random.Generator, bounds: tuple[int, int]) -> int:
  return int(generator.integers(bounds[0], bounds[1] + 1))


def _write_captions(path: pathlib.Path, videos: list[_Video], generator):
  lines = [
    f'{video.name}#enc#{k} {sentence}\n'
    for video in videos
    for k, sentence in enumerate(video.sentences)
  ]
  if generator is not None:
    generator.shuffle(lines)
  path.write_text(''.join(lines), encoding='utf-8')


def _write_moments(path: pathlib.Path, videos: list[_Video]):
  content = {
    video.name: {
      'duration': video.duration,
      'timestamps': video.spans,
      'sentences': video.sentences,
    }
    for video in videos
  }
  path.write_text(json.dumps(content), encoding='utf-8')


def _write_words(file: h5py.File, videos: list[_Video]):
  for video in videos:
    for k, vectors in enumerate(video.words):
      file[f'{video.name}#enc#{k}'] = vectors.astype(np.float32)


def _write_sentences(file: h5py.File, world: _World, videos: list[_Video]):
  for video in videos:
    for k, sentence in enumerate(video.sentences):
      words = [world.words[word] for word in sentence.rstrip('.').split()]
      vector = np.mean(words, axis=0) @ world.to_visual
      file[f'{video.name}#enc#{k}'] = vector.astype(np.float32)


def _write_hdf5(folder: pathlib.Path, videos: list[_Video]):
  with h5py.File(folder / 'feature.hdf5', 'w') as file:
    for video in videos:
      file[video.name] = video.frames


def _write_bigfile(folder: pathlib.Path, videos: list[_Video]):
  ids = {
    video.name: [f'{video.name}_{i}' for i in range(len(video.frames))]
    for video in videos
  }
  with (folder / 'feature.bin').open('wb') as file:
    for video in videos:
      file.write(video.frames.astype('<f4').tobytes())
  count = sum(len(frames) for frames in ids.values())
  width = videos[0].frames.shape[1] if videos else 0
  (folder / 'shape.txt').write_text(f'{count} {width}\n', encoding='utf-8')
  (folder / 'id.txt').write_text(
    ' '.join(name for frames in ids.values() for name in frames),
    encoding='utf-8',
  )
  (folder / 'video2frames.txt').write_text(repr(ids), encoding='utf-8')
