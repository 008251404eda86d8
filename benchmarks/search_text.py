"""An archive of encoded videos and text queries, for `search.py`.

A small model is trained on the generated corpus of `configs/quickstart.py`. The
archive has the videos of the test split, and the queries are their captions.
"""

import pathlib
import shutil
import subprocess
import sys
import time

import harness
import numpy as np
from ml_collections import ConfigDict
from search_archives import INDEX, TOKENS, answer, facts_of, finish

from dreamprvr_jax import checkpoints
from dreamprvr_jax.archive.search.index import Index
from dreamprvr_jax.cli import data

KIND = 'text'
_TRAIN, _VAL, _BATCH = 480, 24, 48


def make(
  folder: pathlib.Path,
  *,
  videos: int,
  width: int,
  steps: int,
  count: int,
  model: str,
) -> None:
  """Makes the archive, unless it exists.

  Args:
    folder: Its folder.
    videos: Videos of the archive.
    width: Numbers of a token.
    steps: Steps of the training; rounded up to whole epochs.
    count: Queries at most.
    model: The name of the model.
  """
  wanted = {
    'videos': videos,
    'width': width,
    'training_steps': steps,
    'queries': count,
    'model': model,
    'trained': True,
  }
  facts = facts_of(folder)
  if {name: facts.get(name) for name in wanted} == wanted:
    return
  shutil.rmtree(folder, ignore_errors=True)
  folder.mkdir(parents=True)
  workdir = folder / 'model'
  config = [
    f'--config=configs/quickstart.py:{model}',
    f'--config.data.root={folder / "corpus"}',
    f'--config.simulated.videos=({_TRAIN}, {_VAL}, {videos})',
    f'--config.data.batch_size={_BATCH}',
    f'--config.model.width={width}',
    '--noprogress',
  ]
  epochs = -(-steps // (_TRAIN // _BATCH))
  _call(
    *config,
    f'--workdir={workdir}',
    f'--config.train.epochs={epochs}',
    f'--config.train.hard_negative_epoch={epochs // 2}',
    '--config.report.untrained=False',
    '--config.report.pictures=False',
  )
  began = time.perf_counter()
  _call(
    *config,
    '--mode=index',
    f'--checkpoint={workdir}',
    f'--index={folder / INDEX}',
    f'--tokens={TOKENS}',
  )
  seconds = round(time.perf_counter() - began, 1)
  facts = {**wanted, 'write_seconds': seconds}
  index = Index.open(folder / INDEX)
  if not index.retriever.is_plain:
    raise SystemExit(
      f'--model={model}: the exact answer needs a score that is the best '
      'cosine with a token, and that of this model is not; take another one'
    )
  stored = ConfigDict(checkpoints.read_config(workdir)['config'])
  split = data.open_data(stored, show=False).splits['test']
  picked = np.linspace(0, len(split.caption_ids), count, endpoint=False)
  words = split.read_captions(np.unique(picked.astype(int)))
  queries = index.searcher.encode(words['word_features'], words['word_mask'])
  answer(folder, {KIND: queries}, index.retriever.model)
  manifest = index.manifest
  sizes = {'clips': manifest.clips, 'tokens': manifest.clips + manifest.frames}
  finish(folder, {**facts, **sizes})


def _call(*arguments: str) -> None:
  """Runs main.py; ends this program with its error if it fails."""
  done = subprocess.run(
    [sys.executable, 'main.py', *arguments],
    cwd=harness.ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  if done.returncode:
    raise SystemExit(done.stderr)
