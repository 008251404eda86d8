"""Where sentence vectors are looked for."""

import pathlib

import pytest

from data_pipeline import sentences
from data_pipeline.errors import DataError
from data_pipeline.options import SENTENCES, DataOptions

CLIP, PLAIN = 'clip_x_query_feat.hdf5', 'roberta_x_query_feat.hdf5'


def find(root, sentence, words):
  options = DataOptions(
    root=str(root),
    collection='x',
    retriever='best_frame',
    sentence=sentence,
    num_clips=1,
    max_words=1,
  )

  def find_words():
    if words is None:
      raise DataError('word features are missing')
    return pathlib.Path(words)

  return sentences.find(options, find_words).name


@pytest.mark.parametrize(
  ('sentence', 'words', 'has_file', 'expected'),
  [
    ('auto', CLIP, True, SENTENCES),
    ('auto', CLIP, False, CLIP),
    ('auto', PLAIN, False, ''),
    ('auto', None, False, ''),
    ('auto', None, True, SENTENCES),
    ('last', PLAIN, True, PLAIN),
    ('file', CLIP, True, SENTENCES),
    ('file', CLIP, False, ''),
  ],
)
def test_find(tmp_path, sentence, words, has_file, expected):
  folder = tmp_path / 'x/TextData'
  folder.mkdir(parents=True)
  if has_file:
    (folder / SENTENCES).touch()
  if expected:
    assert find(tmp_path, sentence, words) == expected
    return
  with pytest.raises(DataError, match=r"set config\.data\.sentence='last' if"):
    find(tmp_path, sentence, words)


@pytest.mark.parametrize(
  ('sentence', 'name', 'expected'),
  [
    ('auto', 'tvr_clip_L14.h5', True),
    ('auto', PLAIN, False),
    ('last', PLAIN, True),
    ('file', 'tvr_clip_L14.h5', False),
  ],
)
def test_last_rows(sentence, name, expected):
  options = DataOptions(sentence=sentence)
  assert sentences.are_last_rows(options, name) is expected


def test_an_unknown_place_is_refused():
  with pytest.raises(DataError, match="sentence='first' is not one of auto"):
    DataOptions(sentence='first')
