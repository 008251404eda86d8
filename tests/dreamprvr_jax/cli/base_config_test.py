"""The config of a command that names a checkpoint."""

from dreamprvr_jax import checkpoints
from dreamprvr_jax.cli import base_config


def test_a_checkpoint_does_not_say_where_programs_are_kept(monkeypatch):
  stored = {
    'compilation_cache': '/scratch/of/another/machine',
    'seed': 3,
    'model': {'name': 'gmmformer', 'width': 48},
  }
  monkeypatch.setattr(checkpoints, 'read_config', lambda _: {'config': stored})
  config = base_config.from_checkpoint('run')
  assert config.compilation_cache == 'auto'
  assert (config.seed, config.model.width) == (3, 48)
