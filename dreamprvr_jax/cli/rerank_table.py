"""rerank-table: re-rankers of several retrievers, with the controls."""

import csv
import dataclasses
import io
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from configs.rerank import METHODS
from dreamprvr_jax import checkpoints, folders
from dreamprvr_jax.cli import (
  console,
  data,
  provenance,
  rerank_evaluation,
  reranking,
  workdirs,
)
from dreamprvr_jax.cli.overrides import OF_EACH_RETRIEVER
from dreamprvr_jax.cli.retriever import load_placed
from dreamprvr_jax.devices import meshes
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.metrics import seeds
from dreamprvr_jax.metrics.retrieval import RECALLS

_DONE = 'evaluated.json'


@dataclasses.dataclass(frozen=True)
class Arguments:
  """The flags of rerank-table; see `options.py`."""

  checkpoint: str
  workdir: str
  seeds: int
  methods: str


def run(config: ConfigDict, arguments: Arguments) -> int:
  """Trains and evaluates the unfinished re-rankers, writes the table after
  each; returns the exit code.

  Raises:
    UserError: If a method is unknown, or another command uses the workdir.
  """
  methods, num_seeds = arguments.methods, arguments.seeds
  names = methods.split(',') if methods else list(METHODS)
  unknown = sorted(set(names) - set(METHODS))
  if unknown or num_seeds < 1:
    raise UserError(
      f'--methods={methods} --seeds={num_seeds}: re-ranking has the methods '
      f'{", ".join(METHODS)}, and at least one seed'
    )
  if jax.process_count() > 1:
    raise UserError(
      'rerank-table runs in one process, but several were started; start one'
    )
  with workdirs.held(arguments.workdir, 'table'):
    return _run(config, arguments, names)


def _run(config: ConfigDict, arguments: Arguments, names: Sequence[str]) -> int:
  workdir = pathlib.Path(arguments.workdir)
  results: list[dict[str, Any]] = []
  for checkpoint in arguments.checkpoint.split(','):
    for seed in range(config.seed, config.seed + arguments.seeds):
      for name in names:
        folder = workdir / f'{_label(checkpoint)}-{name}-seed-{seed}'
        result = _result(config, checkpoint, name, seed, folder)
        if isinstance(result, int):
          return result
        results.append(result)
        write_table(table_of(results), summary_of(results), workdir)
        console.say(
          f'{_label(checkpoint)}, {name}, seed {seed}: SumR '
          f'{result["before"]["SumR"]:.1f} to {result["after"]["SumR"]:.1f}'
        )
  console.say(f'\n{(workdir / "rerank.md").read_text(encoding="utf-8")}')
  return 0


def _label(checkpoint: str) -> str:
  """Returns a name for a retriever's runs: the end of its path."""
  path = pathlib.Path(checkpoint)
  return '-'.join(path.resolve().parts[-2:])


def _result(
  config: ConfigDict,
  checkpoint: str,
  name: str,
  seed: int,
  folder: pathlib.Path,
) -> dict[str, Any] | int:
  """Returns the metrics of one re-ranker, training it if necessary.

  Returns the exit code instead if the training was stopped.
  """
  done = folder / _DONE
  if done.exists():
    return json.loads(done.read_text(encoding='utf-8'))
  encodings = folder.parent / _label(checkpoint)
  stored = checkpoints.read_config(checkpoint)
  own = _own_config(config, stored['config'], name, seed)
  code = reranking.run(
    own,
    reranking.Arguments(
      checkpoint=checkpoint, workdir=str(folder), progress=False
    ),
    encodings,
  )
  if code:
    return code
  mesh = meshes.make_mesh(own.num_devices, own.corpus_devices)
  corpus = data.open_data(own, show=False)
  split = data.get_split(corpus, data.final_split(own, corpus))
  retriever = load_placed(checkpoint, mesh)
  found, _ = rerank_evaluation.evaluate(
    own,
    mesh,
    retriever,
    corpus,
    split,
    str(folder),
    show=False,
    encodings=encodings,
  )
  result = {
    **found,
    'retriever': stored['config']['model']['name'],
    'checkpoint': checkpoint,
    'method': name,
    'seed': seed,
    'split': split.name,
    'queries': len(split.caption_ids),
    'videos': len(split.video_ids),
    **provenance.environment(),
  }
  folders.write_json(done, provenance.finite(result))
  return result


def _own_config(
  config: ConfigDict, stored: Mapping[str, Any], name: str, seed: int
) -> ConfigDict:
  """Returns the config of one re-ranker.

  Args:
    config: The command's config.
    stored: The config of the retriever.
    name: Key of `METHODS`.
    seed: Seed of the training.
  """
  own = config.copy_and_resolve_references().unlock()
  own.seed = seed
  own.rerank.update(METHODS[name])
  # These keys must match the retriever; they differ if its clips are merged.
  for key in OF_EACH_RETRIEVER:
    own.data[key] = stored['data'][key]
  return own.lock()


def table_of(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
  """Returns the rows: each retriever, followed by the gain of each method."""
  rows = []
  for retriever in dict.fromkeys(r['retriever'] for r in results):
    mine = [r for r in results if r['retriever'] == retriever]
    # Each checkpoint counts once, however many re-rankers it has.
    alone = {r['checkpoint']: r['before'] for r in mine}
    rows.append(_row(retriever, 'no re-ranking', list(alone.values())))
    for method in dict.fromkeys(r['method'] for r in mine):
      of_method = [r for r in mine if r['method'] == method]
      before = [r['before'] for r in of_method]
      rows.append(
        _row(retriever, method, [r['after'] for r in of_method], before)
        | {
          'parameters': of_method[0]['parameters'],
          'milliseconds': {
            batch: seeds.spread([r['milliseconds'][batch] for r in of_method])[
              'mean'
            ]
            for batch in of_method[0]['milliseconds']
          },
        }
      )
      if all('single_pass' in r for r in of_method):
        passes = [r['single_pass'] for r in of_method]
        rows.append(_row(retriever, f'{method}, one pass', passes, before))
    ceiling = [r['ceiling'] for r in mine if r['method'] == mine[0]['method']]
    rows.append(_row(retriever, 'best order of the lists', ceiling))
  return rows


def _row(
  retriever: str,
  method: str,
  metrics: Sequence[Mapping[str, float]],
  before: Sequence[Mapping[str, float]] = (),
) -> dict[str, Any]:
  row = {
    'retriever': retriever,
    'method': method,
    'runs': len(metrics),
    'metrics': {c: seeds.spread([m[c] for m in metrics]) for c in RECALLS},
  }
  if before:
    # Each re-ranker is compared with its own retriever, so that the spread of
    # the retrievers does not count.
    gains = [
      m['SumR'] - b['SumR'] for m, b in zip(metrics, before, strict=True)
    ]
    row['gain'] = seeds.spread(gains)
  return row


def summary_of(results: Sequence[Mapping[str, Any]]) -> list[str]:
  """Returns sentences on the gains over all retrievers.

  The methods are also compared with 'diffusion' on the same retrievers.
  """
  gains: dict[str, dict[Any, float]] = {}
  for r in results:
    run = r['checkpoint'], r['seed']
    before = r['before']['SumR']
    mine = {r['method']: r['after'], 'one pass': r.get('single_pass')}
    if r['method'] != 'diffusion':
      mine.pop('one pass')
    for name, metrics in mine.items():
      if metrics:
        gains.setdefault(name, {})[run] = metrics['SumR'] - before
  lines = [
    f'- {name}: SumR {_estimate(list(found.values()))} over {len(found)} runs'
    for name, found in gains.items()
  ]
  base = gains.get('diffusion', {})
  for name, found in gains.items():
    both = sorted(base.keys() & found.keys())
    if name != 'diffusion' and both:
      change = [found[run] - base[run] for run in both]
      lines.append(
        f'- {name} against diffusion, run by run: {_estimate(change)}, more '
        f'in {sum(c > 0 for c in change)} of {len(both)} runs'
      )
  return lines


def _estimate(values: Sequence[float]) -> str:
  """Returns a mean with its sign and standard error."""
  spread = seeds.spread(values)
  mean = f'{spread["mean"]:+.2f}'
  if spread['std'] is None:
    return mean
  return f'{mean} (standard error {spread["std"] / len(values) ** 0.5:.2f})'


def write_table(
  rows: Sequence[Mapping[str, Any]],
  summary: Sequence[str],
  folder: pathlib.Path,
) -> None:
  """Writes rerank.md, rerank.csv and rerank.json."""
  texts = {
    'md': '\n'.join([markdown(rows), *summary, '']),
    'csv': comma_separated(rows),
    'json': json.dumps(list(rows), indent=2) + '\n',
  }
  for ending, text in texts.items():
    folders.write_text(folder / f'rerank.{ending}', text)


def _cell(spread: Mapping[str, Any], sign: str = '') -> str:
  mean = f'{spread["mean"]:{sign}.1f}'
  return mean if spread['std'] is None else f'{mean} ± {spread["std"]:.1f}'


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
  """Returns the table as Markdown."""
  head = ['retriever', 're-ranking', 'runs', *RECALLS, 'gain', 'parameters']
  head += ['ms a query, 1', '64 at a time']
  lines = [' | '.join(['', *head, '']), '| --- ' * len(head) + '|']
  for row in rows:
    times = row.get('milliseconds', {})
    cells = [
      row['retriever'],
      row['method'],
      str(row['runs']),
      *(_cell(row['metrics'][c]) for c in RECALLS),
      _cell(row['gain'], '+') if 'gain' in row else '',
      f'{row["parameters"]:,}' if 'parameters' in row else '',
      *(f'{times[b]:.2f}' if b in times else '' for b in ('1', '64')),
    ]
    lines.append(' | '.join(['', *cells, '']))
  return '\n'.join(line.strip() for line in lines) + '\n'


def comma_separated(rows: Sequence[Mapping[str, Any]]) -> str:
  """Returns the table as CSV: a mean and a deviation for each column."""
  out = io.StringIO()
  names = [
    f'{c} {what}' for c in (*RECALLS, 'gain') for what in ('mean', 'std')
  ]
  writer = csv.writer(out)
  writer.writerow(['retriever', 're-ranking', 'runs', *names])
  for row in rows:
    found = [row['metrics'][c] for c in RECALLS]
    found.append(row.get('gain', {'mean': '', 'std': ''}))
    values = [spread[what] for spread in found for what in ('mean', 'std')]
    writer.writerow([row['retriever'], row['method'], row['runs'], *values])
  return out.getvalue()
