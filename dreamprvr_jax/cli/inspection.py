"""--mode=inspect: the contents of a data root, a workdir or a checkpoint."""

import dataclasses
import pathlib
from typing import Any

from ml_collections import ConfigDict

from data_pipeline.corpus import Corpus
from data_pipeline.errors import DataError
from data_pipeline.opening import open_corpus, open_release_corpus
from data_pipeline.options import DataOptions
from data_pipeline.verification import verified
from dreamprvr_jax import checkpoints, folders
from dreamprvr_jax.cli import console, data
from dreamprvr_jax.cli.columns import aligned
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.train.metric_log import read_rows
from dreamprvr_jax.trained import inference
from dreamprvr_jax.types import parameter_count

SHOWN_SKIPPED = 50


@dataclasses.dataclass(frozen=True)
class Arguments:
  """The flags of inspect; see `options.py`."""

  checkpoint: str
  workdir: str
  out: str


@dataclasses.dataclass(frozen=True)
class PrepareArguments:
  """The flags of prepare; see `options.py`."""

  progress: bool


def run_prepare(config: ConfigDict, arguments: PrepareArguments) -> int:
  """Prepares the data of a config and prints its contents."""
  return show_corpus(data.open_data(config, show=arguments.progress))


def run(config: ConfigDict, arguments: Arguments) -> int:
  """Prints the contents of a checkpoint or workdir, else of the data root."""
  place = arguments.checkpoint or arguments.workdir
  if place:
    console.say(aligned(describe_checkpoint(place)))
    return 0
  data.write_simulated(config)
  return _check_corpus(data.data_options(config), arguments.out)


def _check_corpus(options: DataOptions, out: str) -> int:
  """Prints the contents of a data root, and all its problems.

  Raises:
    UserError: In the end, if an item is bad and `skip_bad` is not set.
    DataError: If a file is missing or damaged.
  """
  if out and not out.endswith('.json'):
    raise UserError(f'--out={out}: of inspect it is a .json file')
  manifest = None
  if options.storage != 'release':
    try:
      manifest = verified(options)
    except DataError:
      if options.storage == 'records':
        raise
  if manifest is not None:
    # Every value was checked when the records were written.
    corpus = open_corpus(options, manifest)
  else:
    lenient = dataclasses.replace(options, skip_bad=True)
    corpus = open_release_corpus(lenient)
  if out:
    report = {
      'splits': corpus.describe(),
      'problems': [{'item': i, 'reason': why} for i, why in corpus.skipped],
    }
    folders.write_json(pathlib.Path(out), report)
  show_corpus(corpus)
  if corpus.skipped and not options.skip_bad:
    where = f'all are in {out}' if out else 'all go to --out=FILE.json'
    raise UserError(
      f'{len(corpus.skipped)} items of {options.folder} are bad ({where}); '
      'correct them, or leave them out with --config.data.skip_bad'
    )
  return 0


def show_corpus(corpus: Corpus) -> int:
  """Prints the contents of a corpus, and the items that were left out."""
  rows = corpus.describe()
  console.say(aligned([(key, *(row[key] for row in rows)) for key in rows[0]]))
  for name, reason in corpus.skipped[:SHOWN_SKIPPED]:
    console.say(f'left out: {name}: {reason}')
  more = len(corpus.skipped) - SHOWN_SKIPPED
  if more > 0:
    console.say(f'left out: {more} more')
  return 0


def describe_checkpoint(directory: str) -> list[tuple[Any, ...]]:
  """Returns (name, value) rows about a workdir, an import or an export.

  Raises:
    CheckpointError: If it has no config and no weights.
  """
  stored = checkpoints.read_config(directory)
  config = stored['config']
  model = inference.model_of(config)
  shapes = inference.shapes_of(
    model, config, stored['visual_width'], stored['text_width']
  )
  rows: list[tuple[Any, ...]] = [
    ('model', config['model']['name']),
    ('dataset', config['data']['collection']),
    ('parameters', f'{parameter_count(shapes):,}'),
    ('of these fixed', f'{parameter_count(shapes.get("constants", {})):,}'),
    ('frame feature width', stored['visual_width']),
    ('word feature width', stored['text_width']),
    ('compute dtype', config['dtype']),
    ('seed', config['seed']),
  ]
  origin = stored.get('imported_from')
  if origin:
    rows.append(('imported from', origin['file']))
  rows += [
    (f'model.{key}', _short(value))
    for key, value in config['model'].items()
    if key != 'name'
  ]
  history = read_rows(directory)
  if history:
    rows.append(('steps logged', history[-1]['step']))
  best = None
  if (pathlib.Path(directory) / checkpoints.BEST).exists():
    best = checkpoints.best_info(directory)
  if best:
    rows.append(('best epoch', best['epoch']))
    rows.append((f'best SumR on {best["split"]}', f'{best["SumR"]:.1f}'))
  versions = stored.get('versions', {})
  rows += [(f'version of {k}', v) for k, v in versions.items()]
  return rows


def _short(value: Any) -> str:
  if isinstance(value, list | tuple):
    return ' '.join(f'{item:g}' for item in value)
  return str(value)
