"""python -m dreamprvr_jax.cli, the same as the command `dreamprvr`."""

from dreamprvr_jax.cli.main import run

if __name__ == '__main__':
  run()
