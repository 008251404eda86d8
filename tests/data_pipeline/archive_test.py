"""All videos of a feature file."""

import dataclasses
import json

import h5py
import numpy as np
import pytest

from data_pipeline.archive import open_archive
from data_pipeline.errors import BadItemError, DataError
from data_pipeline.opening import open_release_corpus
from dreamprvr_jax.errors import UserError


@pytest.mark.parametrize('layout', ['hdf5', 'bigfile'])
def test_videos_without_captions_are_there(layout, content, options, tmp_path):
  content.videos['lonely'] = np.ones((7, 6), np.float32)
  folder = content.write(tmp_path, layout)
  durations = {'lonely': 3.5, 'v_a': 9.0}
  (folder / 'durations.json').write_text(json.dumps(durations))
  moments = {'v_a': {'duration': 2, 'sentences': ['x'], 'timestamps': [[0, 1]]}}
  (folder / 'tiny.moments.json').write_text(json.dumps(moments))
  archive = open_archive(options)
  assert archive.video_ids == sorted(content.videos)
  assert (archive.visual_width, archive.text_width) == (6, 0)
  known = dict(zip(archive.video_ids, archive.durations, strict=True))
  # Annotations take precedence.
  assert (known['v_a'], known['lonely']) == (2, 3.5)
  assert np.isnan(known['v_b'])
  split = open_release_corpus(options).splits['train']
  rows = [archive.video_ids.index(video) for video in split.video_ids]
  one = split.read_videos(range(len(rows)))
  other = archive.read_videos(rows)
  for name in one:
    np.testing.assert_array_equal(one[name], other[name])


def test_durations_in_another_form(content, options, tmp_path):
  content.videos['cafe\u0301'] = np.ones((7, 6), np.float32)
  folder = content.write(tmp_path)
  said = json.dumps({'caf\u00e9': 3.5, 'v_a': None}, ensure_ascii=False)
  (folder / 'durations.json').write_bytes(f'\ufeff{said}'.encode())
  archive = open_archive(options)
  known = dict(zip(archive.video_ids, archive.durations, strict=True))
  assert known['caf\u00e9'] == 3.5
  assert np.isnan(known['v_a'])


@pytest.mark.parametrize(
  ('said', 'sentence'),
  [
    ('[1]', r'is not \{video: seconds'),
    ('{"v_a": "long"}', r'is not \{video: seconds'),
    ('{"v_a": [1]}', r'is not \{video: seconds'),
    ('[' * 100_000, 'too deeply'),
    ('{', 'is not JSON'),
  ],
)
def test_bad_durations(said, sentence, content, options, tmp_path):
  (content.write(tmp_path) / 'durations.json').write_text(said)
  with pytest.raises(UserError, match=f'durations.json .*{sentence}'):
    open_archive(options)


def test_an_id_that_is_no_text(content, options, tmp_path):
  folder = content.write(tmp_path)
  with h5py.File(folder / 'FeatureData/i3d/feature.hdf5', 'a') as file:
    file[b'caf\xe9'] = np.ones((7, 6), np.float32)
  with pytest.raises(BadItemError, match=r'its id in .* is not UTF-8 text'):
    open_archive(options)
  lenient = dataclasses.replace(options, skip_bad=True)
  assert open_archive(lenient).video_ids == sorted(content.videos)


def test_no_captions_at_all(content, options, tmp_path):
  content.lines = {}
  content.write(tmp_path)
  archive = open_archive(options)
  assert archive.video_ids == sorted(content.videos)
  assert archive.read_videos([0, -1])['frame_mask'][:, 0].tolist() == [
    True,
    False,
  ]


def test_ids_are_spelt_as_in_captions(content, options, tmp_path):
  x = content.videos
  content.videos = {'a': x['v_a'], 'v_b': x['v_b'], 'z': x['v_c']}
  content.lines = {'train': ['v_a#enc#0 one', 'v_b#enc#0 two']}
  content.write(tmp_path)
  archive = open_archive(options)
  assert archive.video_ids == ['v_a', 'v_b', 'z']
  np.testing.assert_array_equal(archive.num_frames, [1, 200, 48])


def test_links_to_other_files_are_bad_videos(content, options, tmp_path):
  folder = content.write(tmp_path)
  with h5py.File(folder / 'FeatureData/i3d/feature.hdf5', 'a') as file:
    file['link'] = h5py.ExternalLink('other.h5', 'x')
    file['own'] = h5py.SoftLink('/v_a')
    file['folder/x'] = np.ones((2, 6), np.float32)
  with pytest.raises(BadItemError, match=r"video 'link': is a link to another"):
    open_archive(options)
  archive = open_archive(dataclasses.replace(options, skip_bad=True))
  assert archive.video_ids == sorted([*content.videos, 'own'])


@pytest.mark.parametrize('text', ['[1]', '{"v_a": "x"}', '[' * 10**5, '{"v": '])
def test_durations_of_another_kind(content, options, tmp_path, text):
  folder = content.write(tmp_path)
  (folder / 'durations.json').write_text(text)
  with pytest.raises(UserError, match=r'durations\.json'):
    open_archive(options)


def test_bad_videos(content, options, tmp_path):
  content.videos['wide'] = np.ones((7, 9), np.float32)
  folder = content.write(tmp_path)
  with pytest.raises(BadItemError, match="video 'wide'"):
    open_archive(options)
  kept = open_archive(dataclasses.replace(options, skip_bad=True))
  assert 'wide' not in kept.video_ids
  (folder / 'durations.json').write_text('[1]')
  with pytest.raises(DataError, match=r'is not \{video: seconds'):
    open_archive(dataclasses.replace(options, skip_bad=True))
  (folder / 'FeatureData/i3d/feature.hdf5').write_bytes(b'no file')
  with pytest.raises(DataError, match='cannot be read as HDF5'):
    open_archive(options)
