"""The command line in a checkout; see `python main.py --help`."""

from dreamprvr_jax.cli.main import main, run

__all__ = ['main']

if __name__ == '__main__':
  run()
