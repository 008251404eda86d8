"""SigLIP's towers against the goldens."""

import pytest

from tests.dreamprvr_jax.archive.encoders.clip_test import (
  FILE,
  WITHIN,
  outputs,
)
from tests.helpers.image_text import distance


@pytest.mark.parametrize('dtype', WITHIN)
def test_goldens(dtype):
  for key, value in outputs('siglip', dtype).items():
    assert distance(value, FILE[f'siglip/{key}']) < WITHIN[dtype], key
