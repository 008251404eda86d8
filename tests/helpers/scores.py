"""Made files of scores, and the commands that read them."""

import contextlib
import dataclasses
import io

import numpy as np

import main
from dreamprvr_jax.cli.score_files import Scores, write

RIGHT = np.repeat(np.arange(150), 2).astype(np.int32)


def made(seed: int, strength: float) -> np.ndarray:
  """Returns random scores to which right videos add `strength`."""
  scores = np.random.default_rng(seed).normal(size=(len(RIGHT), 150))
  scores[np.arange(len(RIGHT)), RIGHT] += strength
  return scores.astype(np.float32)


def write_made(path, seed: int, strength: float, **changes) -> str:
  """Writes `made` scores, with other fields if given; returns the path."""
  scores = Scores(
    str(path),
    made(seed, strength),
    [f'v{v}#enc#{i}' for i, v in enumerate(RIGHT)],
    [f'v{v}' for v in range(150)],
    RIGHT,
    seedless=False,
  )
  write(dataclasses.replace(scores, **changes))
  return str(path)


def command(name: str, *flags: str) -> tuple[int, str, str]:
  """Returns (exit code, stdout, stderr) of a command."""
  out, err = io.StringIO(), io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    code = main.main(['dreamprvr', name, *flags])
  return code, out.getvalue(), err.getvalue()
