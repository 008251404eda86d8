"""Small releases written by hand."""

import dataclasses
import os
import pathlib

import h5py
import numpy as np
import pytest

from data_pipeline.options import DataOptions

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

_VISUAL, _TEXT = 6, 5


@dataclasses.dataclass
class Content:
  """The contents of a release; a test changes and writes them."""

  videos: dict[str, np.ndarray]
  words: dict[str, np.ndarray]
  lines: dict[str, list[str]]
  frame_ids: dict[str, list[str]] | None = None
  collection: str = 'tiny'
  feature: str = 'i3d'
  text_name: str = 'roberta_tiny_query_feat.hdf5'
  visual_width: int = _VISUAL
  text_width: int = _TEXT

  def write(self, root: pathlib.Path, layout: str = 'hdf5') -> pathlib.Path:
    folder = root / self.collection
    visual = folder / 'FeatureData' / self.feature
    text = folder / 'TextData'
    visual.mkdir(parents=True, exist_ok=True)
    text.mkdir(parents=True, exist_ok=True)
    for split, lines in self.lines.items():
      path = text / f'{self.collection}{split}.caption.txt'
      path.write_text('\n'.join(lines) + '\n')
    with h5py.File(text / self.text_name, 'w') as file:
      for name, rows in self.words.items():
        file[name] = rows
    if layout == 'hdf5':
      with h5py.File(visual / 'feature.hdf5', 'w') as file:
        for name, rows in self.videos.items():
          file[name] = rows
    else:
      self._write_bigfile(visual)
    return folder

  def _write_bigfile(self, visual: pathlib.Path):
    # The rows have another order: only the ids identify them.
    ids = self.frame_ids or {
      video: [f'{video}_{i}' for i in range(len(rows))]
      for video, rows in self.videos.items()
    }
    rows = [
      (name, row)
      for video, names in ids.items()
      for name, row in zip(names, self.videos[video], strict=True)
    ]
    order = np.random.default_rng(0).permutation(len(rows))
    rows = [rows[i] for i in order]
    matrix = np.stack([row for _, row in rows]).astype('<f4')
    (visual / 'feature.bin').write_bytes(matrix.tobytes())
    (visual / 'shape.txt').write_text(f'{len(matrix)} {matrix.shape[1]}\n')
    (visual / 'id.txt').write_text('\n'.join(name for name, _ in rows) + '\n')
    (visual / 'video2frames.txt').write_text(repr(ids))


def _make_content(seed: int = 0) -> Content:
  """Returns a release with edge cases: one frame, one word, 30 captions,
  scattered lines."""
  generator = np.random.default_rng(seed)
  lengths = {'v_a': 1, 'v_b': 200, 'v_c': 48, 'v_d': 5, 'v_e': 129, 'v_f': 128}
  counts = {'v_a': 2, 'v_b': 30, 'v_c': 1, 'v_d': 3, 'v_e': 2, 'v_f': 1}
  videos = {
    name: generator.standard_normal((n, _VISUAL)).astype(np.float32)
    for name, n in lengths.items()
  }
  words, lines = {}, []
  for video, count in counts.items():
    for k in range(count):
      rows = 1 if k == 0 else int(generator.integers(1, 40))
      name = f'{video}#enc#{k}'
      words[name] = generator.standard_normal((rows, _TEXT)).astype(np.float32)
      lines.append(f'{name} Sentence {k} of {video}.')
  train = [line for line in lines if line[:3] != 'v_f']
  train = [train[i] for i in generator.permutation(len(train))]
  val = [line for line in lines if line[:3] in ('v_f', 'v_a')]
  return Content(videos, words, {'train': train, 'val': val, 'test': val[-1:]})


@pytest.fixture
def content() -> Content:
  return _make_content()


@pytest.fixture
def options(tmp_path) -> DataOptions:
  return DataOptions(
    root=str(tmp_path), collection='tiny', num_workers=1, shard_videos=2
  )


def _assert_same(one: dict, other: dict):
  """Asserts equal names, types, shapes and bits."""
  assert list(one) == list(other)
  for name in one:
    assert one[name].dtype == other[name].dtype, name
    np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.fixture(scope='session')
def assert_same():
  """Returns the function that compares two batches bit for bit."""
  return _assert_same
