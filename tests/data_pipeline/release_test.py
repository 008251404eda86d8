"""Tests of reading the official release, and of refusing bad ones."""

import dataclasses

import h5py
import numpy as np
import pytest

from data_pipeline import merging, pooling
from data_pipeline.archive import open_archive
from data_pipeline.bigfile import parse_literal_dict
from data_pipeline.errors import DataError
from data_pipeline.opening import open_corpus
from data_pipeline.options import DataOptions
from data_pipeline.prepare import prepare
from data_pipeline.resident import resident_source
from dreamprvr_jax.errors import UserError


def test_both_layouts_give_the_same_arrays(
  content, options, tmp_path, assert_same
):
  content.write(tmp_path / 'h', 'hdf5')
  content.write(tmp_path / 'b', 'bigfile')
  one, other = (
    open_corpus(dataclasses.replace(options, root=str(tmp_path / name)))
    for name in 'hb'
  )
  assert list(one.splits) == list(other.splits) == ['train', 'val', 'test']
  assert (one.visual_width, one.text_width) == (
    content.visual_width,
    content.text_width,
  )
  for name, split in one.splits.items():
    twin = other.splits[name]
    assert split.video_ids == twin.video_ids
    assert split.caption_ids == twin.caption_ids
    videos, captions = range(len(split.video_ids)), range(len(split.captions))
    assert_same(split.read_videos(videos), twin.read_videos(videos))
    assert_same(split.read_captions(captions), twin.read_captions(captions))


def renamed(content, name):
  """Returns the content with one video renamed."""
  for held in (content.videos, content.words):
    for key in [key for key in held if key.startswith('v_b')]:
      held[key.replace('v_b', name)] = held.pop(key)
  for split, lines in content.lines.items():
    content.lines[split] = [line.replace('v_b', name) for line in lines]


@pytest.mark.parametrize('layout', ['hdf5', 'bigfile'])
@pytest.mark.parametrize(
  ('stored', 'written'),
  [('v_cafe\u0301', 'v_caf\u00e9'), ('v_caf\u00e9', 'v_cafe\u0301')],
)
def test_ids_of_other_normal_forms_are_joined(
  layout, stored, written, content, options, tmp_path
):
  expected = content.videos['v_b'].shape[0]
  renamed(content, stored)
  folder = content.write(tmp_path, layout)
  for file in folder.glob('TextData/*.caption.txt'):
    text = file.read_text().replace(stored, written)
    file.write_text(f'\ufeff{text}')
  split = open_corpus(options).splits['train']
  video = split.video_ids.index('v_caf\u00e9')
  assert split.num_frames[video] == expected
  assert 'v_caf\u00e9#enc#3' in split.caption_ids
  read = split.read_videos([video])
  assert read['frame_mask'].all()


def test_the_optional_prefix_in_another_normal_form(content, options, tmp_path):
  renamed(content, 'v_caf\u00e9')
  content.videos['cafe\u0301'] = content.videos.pop('v_caf\u00e9')
  content.write(tmp_path)
  assert 'v_caf\u00e9' in open_corpus(options).splits['train'].video_ids


@pytest.mark.parametrize('layout', ['hdf5', 'bigfile'])
def test_two_names_of_one_id_are_named(layout, content, options, tmp_path):
  renamed(content, 'v_caf\u00e9')
  content.videos['v_cafe\u0301'] = content.videos['v_a']
  content.write(tmp_path, layout)
  with pytest.raises(UserError) as caught:
    open_corpus(options)
  assert r"'v_cafe\u0301" in str(caught.value)
  assert r"'v_caf\xe9" in str(caught.value)


@pytest.mark.parametrize('name', ['id.txt', 'video2frames.txt', 'shape.txt'])
def test_tables_that_are_not_utf8_are_named(name, content, options, tmp_path):
  path = content.write(tmp_path, 'bigfile') / 'FeatureData/i3d' / name
  path.write_bytes(path.read_bytes() + b'\ncaf\xe9')
  with pytest.raises(UserError, match=rf'{name}:\d+ holds the bytes e9'):
    open_corpus(options)


def test_tables_with_marks_and_spaces_of_unicode(content, options, tmp_path):
  """A no-break space, or its byte inside 'à', does not end an id."""
  renamed(content, 'v_\u00e0\u00a0b')
  content.lines = {'train': ['v_a#enc#0 x']}
  folder = content.write(tmp_path, 'bigfile') / 'FeatureData/i3d'
  for name in ('id.txt', 'video2frames.txt', 'shape.txt'):
    path = folder / name
    path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes())
  assert open_corpus(options).splits['train'].video_ids == ['v_a']
  assert 'v_\u00e0\u00a0b' in open_archive(options).video_ids


def test_frame_ids_of_another_kind(content, options, tmp_path):
  folder = content.write(tmp_path, 'bigfile') / 'FeatureData/i3d'
  text = (folder / 'video2frames.txt').read_text()
  (folder / 'video2frames.txt').write_text(text.replace("'v_a_0'", '[1]'))
  with pytest.raises(DataError, match=r"entry of 'v_a' has \[1\]"):
    open_corpus(options)


def test_order_is_first_appearance_in_the_file(content, options, tmp_path):
  content.write(tmp_path)
  split = open_corpus(options).splits['train']
  ids = [line.split()[0] for line in content.lines['train']]
  assert split.caption_ids == ids
  assert split.video_ids == list(dict.fromkeys(i.split('#')[0] for i in ids))
  named = [split.video_ids[v] for v in split.caption_video]
  assert named == [i.split('#')[0] for i in ids]
  assert split.caption_video.dtype == np.int32
  assert list(split.num_frames) == [
    len(content.videos[v]) for v in split.video_ids
  ]
  assert np.isnan(split.durations).all()
  assert split.moments.shape == (len(ids), 2)


def test_arrays_names_shapes_and_values(content, options, tmp_path):
  content.write(tmp_path)
  split = open_corpus(options).splits['train']
  order = [split.video_ids.index(v) for v in ('v_b', 'v_a')]
  batch = split.read_videos([order[0], -1, order[1]])
  assert {k: (v.shape, v.dtype.name) for k, v in batch.items()} == {
    'clip_features': ((3, 32, content.visual_width), 'float32'),
    'frame_features': ((3, 128, content.visual_width), 'float32'),
    'frame_mask': ((3, 128), 'bool'),
  }
  assert list(batch['frame_mask'].sum(axis=1)) == [128, 0, 1]
  np.testing.assert_array_equal(
    batch['clip_features'][0], pooling.clip_features(content.videos['v_b'], 32)
  )
  np.testing.assert_array_equal(batch['clip_features'][1], 0)
  np.testing.assert_array_equal(batch['frame_features'][2, 1:], 0)
  captions = split.read_captions([0, -1])
  assert {k: (v.shape, v.dtype.name) for k, v in captions.items()} == {
    'word_features': ((2, 30, content.text_width), 'float32'),
    'word_mask': ((2, 30), 'bool'),
  }
  words = pooling.word_features(content.words[split.caption_ids[0]], 30)
  assert captions['word_mask'][0].sum() == len(words)
  np.testing.assert_array_equal(
    captions['word_features'][0, : len(words)], words
  )
  with pytest.raises(IndexError, match='split of'):
    split.read_videos([len(split.video_ids)])


def test_merged_clips(content, options, tmp_path):
  content.write(tmp_path)
  options = dataclasses.replace(options, clips='merged', merge_threshold=0.3)
  split = open_corpus(options).splits['train']
  order = [split.video_ids.index(v) for v in ('v_b', 'v_a')]
  batch = split.read_videos([order[0], -1, order[1]])
  assert {k: (v.shape, v.dtype.name) for k, v in batch.items()} == {
    'clip_features': ((3, 32, content.visual_width), 'float32'),
    'frame_features': ((3, 128, content.visual_width), 'float32'),
    'frame_mask': ((3, 128), 'bool'),
    'clip_sizes': ((3, 32), 'int32'),
    'clip_groups': ((3, 32), 'int32'),
  }
  # The video of one frame is stretched, too.
  assert list(batch['frame_mask'].sum(axis=1)) == [128, 0, 128]
  for row, video in ((0, 'v_b'), (2, 'v_a')):
    clips, frames, plan = merging.merge_video(content.videos[video], 0.3)
    np.testing.assert_array_equal(batch['clip_features'][row], clips)
    np.testing.assert_array_equal(batch['frame_features'][row], frames)
    np.testing.assert_array_equal(batch['clip_sizes'][row], plan[0])
    np.testing.assert_array_equal(batch['clip_groups'][row], plan[1])
  assert not batch['clip_features'][1].any()
  assert (batch['clip_sizes'][1] == 4).all()
  assert (batch['clip_groups'][1] == np.arange(32)).all()


def test_each_video_is_merged_once(content, options, tmp_path, monkeypatch):
  content.write(tmp_path)
  options = dataclasses.replace(options, clips='merged')
  split = open_corpus(options).splits['train']
  merged, merge = [], merging.merge_video
  monkeypatch.setattr(
    merging, 'merge_video', lambda *args: merged.append(1) or merge(*args)
  )
  resident = resident_source(split)
  split.read_videos([1, 2, 2], resident)
  plan = split.clip_plan
  assert len(merged) == len(split.video_ids)
  assert plan.shape == (5, 2, 32)
  np.testing.assert_array_equal(plan[:, 0].sum(axis=1), 128)


@pytest.mark.parametrize('kind', ['<f2', '>f4', '<f8', 'chunked'])
def test_stored_forms(content, options, tmp_path, kind):
  folder = content.write(tmp_path)
  path = folder / 'FeatureData' / 'i3d' / 'feature.hdf5'
  with h5py.File(path, 'w') as file:
    for name, rows in content.videos.items():
      if kind == 'chunked':
        file.create_dataset(name, data=rows, chunks=True, compression='gzip')
      else:
        file[name] = rows.astype(kind)
  split = open_corpus(options).splits['val']
  rows = content.videos[split.video_ids[0]]
  if kind == '<f2':
    rows = rows.astype(np.float16)
  np.testing.assert_array_equal(
    split.read_videos([0])['clip_features'][0], pooling.clip_features(rows, 32)
  )


def test_other_widths_and_names_come_from_the_files(content, tmp_path):
  content.feature, content.text_name = 'clip', 'clip_tiny_query_feat.hdf5'
  content.write(tmp_path)
  options = DataOptions(str(tmp_path), 'tiny', feature='clip')
  assert open_corpus(options).text_width == content.text_width
  with pytest.raises(DataError, match='has clip; set the option `feature`'):
    open_corpus(dataclasses.replace(options, feature='i3d'))
  with pytest.raises(DataError, match=r'has clip_tiny.*`text_feature`'):
    open_corpus(dataclasses.replace(options, text_feature='other.hdf5'))


def test_missing_release_shows_the_tree(options):
  with pytest.raises(DataError) as caught:
    open_corpus(options)
  for part in (
    'tiny is missing',
    'github.com/HuiGuanLab/ms-sl',
    'FeatureData/i3d/',
    'feature.hdf5, or: feature.bin id.txt shape.txt video2frames.txt',
    'tinytrain.caption.txt',
    'roberta_tiny_query_feat.hdf5',
  ):
    assert part in str(caught.value)


@pytest.mark.parametrize('name', ['FeatureData/i3d', 'TextData'])
def test_missing_parts(content, options, tmp_path, name):
  folder = content.write(tmp_path)
  (folder / name).rename(tmp_path / 'away')
  with pytest.raises(DataError, match=r'MS-SL(.|\n)*FeatureData'):
    open_corpus(options)


def test_a_missing_split_is_missed_when_asked_for(content, options, tmp_path):
  del content.lines['train']
  content.write(tmp_path)
  corpus = open_corpus(options)
  assert list(corpus.splits) == ['val', 'test']
  assert 'train' not in corpus.splits
  with pytest.raises(DataError, match='corpus has val, test'):
    corpus.splits['train']


def test_empty_caption_file(content, options, tmp_path):
  content.lines['val'] = ['', '  ']
  content.write(tmp_path)
  with pytest.raises(DataError, match=r'tinyval\.caption\.txt holds no usable'):
    open_corpus(options)


def test_literals_are_parsed_and_never_run():
  assert parse_literal_dict("{'a': ['a_0', 'a_1'],}", 'f') == {
    'a': ['a_0', 'a_1']
  }
  assert parse_literal_dict("{\"it's\": ['x']}", 'f') == {"it's": ['x']}
  assert parse_literal_dict("{'a': ['x']}", 'f') == {'a': ['x']}
  with pytest.raises(DataError, match='f is not one dict literal'):
    parse_literal_dict("{'a': __import__('os').listdir('.')}", 'f')
  with pytest.raises(DataError, match="the entry of 'a' is a str"):
    parse_literal_dict("{'a': 'b'}", 'f')


@pytest.mark.parametrize(
  ('name', 'value'),
  [
    ('storage', 'x'),
    ('verify', ''),
    ('num_clips', 0),
    ('clips', 'other'),
    ('merge_threshold', 1.5),
    ('merge_threshold', float('nan')),
  ],
)
def test_bad_options(name, value):
  with pytest.raises(DataError, match=name):
    DataOptions(**{name: value})


@pytest.mark.parametrize('other', [{'num_clips': 16}, {'max_frames': 64}])
def test_merged_clips_have_their_own_numbers(other):
  with pytest.raises(
    DataError, match=r'32 clips of 128 frames, but num_clips='
  ):
    DataOptions(clips='merged', **other)


def _write_flat(content, folder, strip=False):
  """Writes the frame features as one file, as MSC does."""
  (folder / 'FeatureData/i3d/feature.hdf5').unlink()
  (folder / 'FeatureData/i3d').rmdir()
  with h5py.File(folder / 'FeatureData/tiny_clip.h5', 'w') as file:
    for name, rows in content.videos.items():
      file[name[2:] if strip else name] = rows


@pytest.mark.parametrize('strip', [False, True])
@pytest.mark.parametrize('storage', ['release', 'records'])
def test_flat_features(content, options, tmp_path, assert_same, strip, storage):
  content.write(tmp_path / 'folder')
  content.text_name = 'tiny_clip.h5'
  _write_flat(content, content.write(tmp_path / 'file'), strip)
  flat = dataclasses.replace(
    options,
    root=str(tmp_path / 'file'),
    feature='tiny_clip.h5',
    text_feature='tiny_clip.h5',
    max_words=4,
    storage=storage,
  )
  if storage == 'records':
    made = prepare(flat, progress=False)
    assert sorted(made.sources)[:2] == [
      'FeatureData/tiny_clip.h5',
      'TextData/tiny_clip.h5',
    ]
  one = open_corpus(flat).splits['train']
  other = open_corpus(
    dataclasses.replace(options, root=str(tmp_path / 'folder'), max_words=4)
  ).splits['train']
  assert one.video_ids == other.video_ids
  assert_same(one.read_videos(range(5)), other.read_videos(range(5)))
  assert_same(one.read_captions(range(38)), other.read_captions(range(38)))
  assert one.num_words.max() == 4


def test_flat_features_that_lack_something(content, options, tmp_path):
  del content.videos['v_d']
  folder = content.write(tmp_path)
  _write_flat(content, folder, strip=True)
  flat = dataclasses.replace(options, feature='tiny_clip.h5')
  with pytest.raises(
    DataError, match=r"video 'v_d' .*no frame features in .*tiny_clip\.h5"
  ):
    open_corpus(flat)
  with pytest.raises(DataError, match=r'has tiny_clip\.h5; set the option `f'):
    open_corpus(options)
  other = dataclasses.replace(flat, text_feature='tiny_clip.h5')
  with pytest.raises(DataError, match=r'has roberta_tiny_.*`text_feature`'):
    open_corpus(other)
  (folder / 'FeatureData/tiny_clip.h5').unlink()
  with pytest.raises(DataError, match=r'admins97/MSC_PRVR(.|\n)*tiny_clip.h5'):
    open_corpus(flat)


def test_describe(content, options, tmp_path):
  content.write(tmp_path)
  row = open_corpus(options).describe()[0]
  assert row['split'] == 'train'
  assert (row['videos'], row['captions'], row['most_captions']) == (5, 38, 30)
  assert (row['storage'], row['frames_max']) == ('release', 200)


def test_features_begin_at_aligned_addresses(content, options, tmp_path):
  # TensorFlow copies unaligned arrays, which halves the speed of a stream.
  content.write(tmp_path)
  split = open_corpus(options).splits['train']
  arrays = [
    *split.read_videos([0]).values(),
    *split.read_captions([1]).values(),
  ]
  floats = [array for array in arrays if array.dtype == np.float32]
  assert len(floats) == 3
  assert [array.ctypes.data % 64 for array in floats] == [0, 0, 0]
  assert all(array.flags.c_contiguous for array in floats)
