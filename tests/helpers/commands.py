"""The command line, called in this process on one device."""

import contextlib
import io
import pathlib
import sys
from unittest import mock

import main
from data_pipeline.corpus import Corpus
from dreamprvr_jax import checkpoints
from dreamprvr_jax.cli import data, flags, provenance
from dreamprvr_jax.trained.inference import blank_of, model_of
from tests.helpers import models, runs


def call(*arguments) -> int:
  """Returns the exit code of main.py with these arguments."""
  one = '--config.num_devices=1'
  return main.main(['main.py', *map(str, arguments), '--noprogress', one])


def answer(*arguments) -> tuple[int, str, str]:
  """Returns (exit code, stdout, stderr) of main.py with these arguments."""
  line = ['main.py', *map(str, arguments), '--noprogress']
  out, err = io.StringIO(), io.StringIO()
  with (
    mock.patch.object(sys, 'argv', line),
    contextlib.redirect_stdout(out),
    contextlib.redirect_stderr(err),
  ):
    code = main.main(line)
  return code, out.getvalue(), err.getvalue()


def untrained(
  folder: pathlib.Path, name: str, videos: tuple[int, int, int], *others: str
) -> tuple[pathlib.Path, Corpus]:
  """Returns a checkpoint of a small untrained model `name`, and the generated
  corpus that it fits."""
  config = flags.parse(
    [
      'main.py',
      f'--config={runs.ROOT}/configs/quickstart.py:{name}',
      f'--config.data.root={folder}/data',
      f'--config.simulated.videos={videos}',
      '--config.data.workers=1',
      # A whole batch is computed, however few videos there are.
      '--config.data.eval_video_batch=4',
      '--config.model.width=16',
      '--config.model.num_heads=2',
      *others,
    ]
  ).config
  corpus = data.open_data(config, show=False)
  plain = provenance.plain_config(config)
  blank = blank_of(plain, corpus.visual_width, corpus.text_width)
  variables = models.drawn(model_of(plain), blank)
  place = folder / 'checkpoint'
  checkpoints.save_weights(
    place, variables, provenance.stored_config(config, corpus)
  )
  return place, corpus
