"""The command line: one file for each command."""

from dreamprvr_jax.cli.config_files import make_importable

make_importable()
