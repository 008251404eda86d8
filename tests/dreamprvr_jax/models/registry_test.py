"""Tests of building models by name."""

import jax.numpy as jnp
import pytest

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.models.dreamprvr import DreamPRVR
from dreamprvr_jax.models.registry import MODELS, build_model
from tests.helpers import models


def test_known_models():
  assert set(MODELS) >= {
    'diffusionret',
    'dreamprvr',
    'gmmformer',
    'gmmformer_v2',
    'hlformer',
    'holmes',
    'holmes_multi',
    'ms_sl',
    'msc',
    'ral',
  }


def test_builds_with_its_fields():
  given = models.fields('dreamprvr', width=8, block_widths=[0, 1.0])
  model = build_model('dreamprvr', 'bfloat16', **given)
  assert isinstance(model, DreamPRVR)
  assert model.width == 8
  assert model.dtype == jnp.bfloat16
  # A list would make the module unhashable.
  assert model.block_widths == (0, 1.0)
  assert isinstance(hash(model), int)


def test_unknown_model():
  with pytest.raises(
    UserError,
    match=r"config.model.name is 'dreamprv'; the models are \['best_frame', ",
  ):
    build_model('dreamprv', 'float32')


def test_unknown_field():
  with pytest.raises(
    UserError,
    match=r'config.model has depth, heads, which dreamprvr does not know; its '
    'fields are .*num_heads',
  ):
    build_model('dreamprvr', 'float32', heads=2, depth=3)


def test_missing_field():
  given = models.fields('dreamprvr')
  del given['width'], given['remat']
  with pytest.raises(
    UserError, match=r'config.model lacks remat, width, which dreamprvr needs'
  ):
    build_model('dreamprvr', 'float32', **given)


def test_fields_of_the_framework_are_not_the_users():
  with pytest.raises(UserError, match=r'config.model has parent, which'):
    build_model('dreamprvr', 'float32', parent=None)


def test_unknown_dtype():
  with pytest.raises(
    UserError, match=r"compute dtype 'float16' is unknown.*'bfloat16'"
  ):
    build_model('dreamprvr', 'float16', **models.fields('dreamprvr'))
