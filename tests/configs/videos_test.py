"""The user's own videos: the same data and schedule for every model."""

import pytest

from configs import videos
from configs.common import MODELS


@pytest.mark.parametrize('model', MODELS)
def test_every_model_reads_what_was_extracted(model):
  config = videos.get_config(model)
  assert (config.data.collection, config.data.feature) == (
    'videos',
    'extracted',
  )
  assert config.data.text_feature == ''
  assert config.data.batch_size == 16
  assert config.train.epochs == 40
  assert config.train.hard_negative_epoch == 10
  assert config.model.name == model
