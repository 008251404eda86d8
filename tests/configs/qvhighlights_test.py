"""QVHighlights is read from the files that MSC publishes."""

import pytest

from configs import qvhighlights
from dreamprvr_jax.cli.data import data_options


@pytest.mark.parametrize('model', ['', 'msc'])
def test_names_of_the_files(model):
  options = data_options(qvhighlights.get_config(model))
  assert options.collection == 'qvhighlight'
  assert options.feature == 'qvhighlight_slowfast_clip.h5'
  assert options.text_file == 'qvhighlight_slowfast_clip_text.h5'
  assert options.merged == (model == 'msc')
  if model == 'msc':
    assert (options.merge_threshold, options.max_words) == (0.7, 77)
