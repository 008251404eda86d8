"""Texts of `main.py --help`."""

import pathlib
import re

MODES = {
  'train': (
    'Prepares the data if that is due, trains, evaluates after each epoch, '
    'keeps the\nbest epoch by SumR, evaluates it and prints the table. '
    'Continues a stopped run.',
    'python main.py --config=configs/activitynet.py '
    '--config.data.root=DIR [--workdir=DIR]',
  ),
  'evaluate': (
    'Metrics of a checkpoint, to WORKDIR/eval_<split>.json; with --scores '
    'the score\nmatrix as well, with --labels also against several right '
    'videos per query, with --moments also when in the videos.',
    'python main.py --mode=evaluate --checkpoint=DIR '
    '[--config.data.root=DIR]\n      [--config.data.eval_split=val] '
    '[--scores=FILE.npz] [--labels=FILE.jsonl] [--workdir=DIR]',
  ),
  'prepare': (
    'Turns the release into sharded records; goes on where it was stopped.',
    'python main.py --mode=prepare --config=configs/tvr.py '
    '--config.data.root=DIR',
  ),
  'inspect': (
    'What is in a data root (with --config) or in a workdir or checkpoint '
    '(with\n--checkpoint), as a table.',
    'python main.py --mode=inspect --checkpoint=DIR',
  ),
  'import': (
    "The authors' PyTorch checkpoint becomes an orbax checkpoint. Needs no "
    'torch and\nruns nothing that the file holds.',
    'python main.py --mode=import --official=FILE.ckpt --workdir=DIR',
  ),
  'export': (
    'The inference weights alone: orbax, safetensors, config.json.',
    'python main.py --mode=export --checkpoint=DIR --out=DIR2',
  ),
  'table': (
    'Trains methods with several seeds, each run in a workdir of its own '
    'below\n--workdir, and compares them: table.md, .tex, .csv, .json. '
    'Continues; what is\nfinished is not run again. A method is a model, or '
    'MODEL+KEY=VALUE+KEY=VALUE.',
    'python main.py --mode=table --config=configs/activitynet.py '
    '--config.data.root=DIR\n      '
    '--methods=hlformer,dreamprvr,dreamprvr+model.num_registers=0 --seeds=3\n'
    '      --workdir=DIR [--out=DIR2]',
  ),
  'sweep': (
    'The same for the values of one key of the config; draws sweep.png.',
    'python main.py --mode=sweep --config=configs/tvr.py:dreamprvr '
    '--config.data.root=DIR\n      '
    '--sweep=model.num_registers=1,2,4,8 --seeds=3 --workdir=DIR',
  ),
  'index': (
    'Encodes the videos of a split once and stores them for search; with '
    '--append those\nthat are not there yet, with --remove takes videos out. '
    'A stopped command leaves\nthe index as it was.',
    'python main.py --mode=index --checkpoint=DIR --index=INDEX\n      '
    '[--config.data.root=DIR] [--config.data.eval_split=test] '
    '[--tokens=float16+int8]\n      [--append] [--remove=ID,ID or @FILE]',
  ),
  'search': (
    'The best videos of an index, and when in them: a table, or with --out '
    'JSON or a\npage. Queries are word features in a file, or the captions of '
    'a split.',
    'python main.py --mode=search --index=INDEX --queries=FILE '
    '[--out=FILE.html]\n      or instead of --queries: '
    '[--config.data.root=DIR] [--caption=N]',
  ),
  'rerank-train': (
    "Trains DiffusionRet's generator (or a control, config.rerank) to re-rank "
    'the lists\nof a trained retriever, which stays as it is. Continues.',
    'python main.py --mode=rerank-train --checkpoint=RETRIEVER --workdir=DIR\n'
    '      [--config.data.root=DIR] [--config.rerank.candidates=128]\n'
    '    then: python main.py --mode=evaluate --checkpoint=RETRIEVER '
    '--rerank=DIR',
  ),
  'rerank-table': (
    'Trains re-rankers for several retrievers (comma separated), the '
    'generator and its\ncontrols, and compares them: rerank.md, .csv, .json. '
    'Continues.',
    'python main.py --mode=rerank-table --checkpoint=DIR1,DIR2 --seeds=3 '
    '--workdir=TABLE\n      [--methods=diffusion,no_diffusion]',
  ),
}

FLAGS = {
  '--config=FILE.py[:MODEL]': 'the config; see configs/',
  '--config.KEY=VALUE': 'sets one key of the config (below)',
  '--mode=MODE': f'one of {", ".join(MODES)}; train if not given',
  '--workdir=DIR': 'gets everything that is written; runs/<config> if not '
  'given',
  '--checkpoint=DIR': 'a workdir, or what import or export wrote',
  '--official=FILE': 'a released PyTorch checkpoint, for import',
  '--out=DIR': 'where export writes; of a table, where its files go, the '
  'workdir if not given; of a search, a .json or .html file',
  '--scores=FILE.npz': 'where evaluate writes the scores (queries, videos)',
  '--labels=FILE.jsonl': 'all right videos of each query, for evaluate; '
  '.gz, too',
  '--rerank=DIR': 'a re-ranker for evaluate, of rerank-train',
  '--labelled_only': 'leave queries out that have no label',
  '--moments': 'evaluate also when in the videos',
  '--index=DIR': 'an index, for index and search',
  '--tokens=KIND': 'of a new index: float16, int8 or float16+int8',
  '--append': 'add to an index what it does not have',
  '--remove=ID,...': 'take videos out of an index; @FILE has one on each line',
  '--queries=FILE': 'word features for search: .npz or HDF5, an array per id',
  '--caption=N': 'search for this caption of the split only, from 0',
  '--k=K': 'videos found per query; 10 if not given',
  '--first_pass=int8': 'search in int8 first, then exactly among the best',
  '--rescore=M': 'of which M * K are taken; 4 if not given',
  '--methods=NAME,...': 'what a table compares',
  '--sweep=KEY=VALUE,...': 'what a sweep compares',
  '--seeds=N': 'runs of each, with the seeds from config.seed on; 1 if not '
  'given',
  '--noprogress': 'no progress bars',
  '--num_processes=N': 'how many processes there are; 1: this one alone; not '
  'given: as SLURM, Open MPI or a TPU pod says',
  '--process_id=I': 'which one this is, from 0',
  '--coordinator=HOST:PORT': 'address of process 0',
}


def text(mode: str = '') -> str:
  """Returns the help of one mode, or of all."""
  lines = ['Partially relevant video retrieval: DreamPRVR in JAX.', '']
  for name, (about, example) in MODES.items():
    if mode in ('', name):
      lines += [f'--mode={name}', *_indented(about), f'    {example}', '']
  lines.append('flags:')
  width = max(map(len, FLAGS))
  lines += [f'  {flag.ljust(width)}  {what}' for flag, what in FLAGS.items()]
  lines += ['', 'keys of the config, with the defaults before a dataset or']
  lines += ['model sets its own:', *(f'  {row}' for row in config_keys())]
  lines += [
    '',
    'exit codes: 0 done, 2 bad input (one sentence says what), 130 or 143 '
    'stopped by',
    'Ctrl-C or SIGTERM after saving: the same command continues.',
  ]
  return '\n'.join(lines)


def config_keys() -> list[str]:
  """Returns a line per config key: its name, default and comment."""
  folder = pathlib.Path(__file__).parent.parent / 'configs'
  rows = _assignments(folder / 'common.py', 'config')
  rows += [
    (f'rerank.{key}', value, comment)
    for key, value, comment in _assignments(folder / 'rerank.py', 'rerank')
  ]
  models = folder / 'models'
  # What all models share comes first; others name whose key it is.
  for path in sorted(models.glob('*.py'), key=lambda p: p.stem != 'family'):
    of = '' if path.stem == 'family' else f' ({path.stem})'
    for section in ('model', 'loss'):
      rows += [
        (f'{section}.{key}', value, comment + of)
        for key, value, comment in _assignments(path, section)
      ]
  return [f'--config.{key}={value}  {comment}' for key, value, comment in rows]


def _assignments(
  path: pathlib.Path, variable: str
) -> list[tuple[str, str, str]]:
  """Returns (key, default, comment) of `variable.key = default`.

  The comments above the keys are the one place where they are explained.
  """
  found, comment = [], []
  pattern = re.compile(rf'{variable}\.([\w.]+) = (.*)')
  for line in map(str.strip, path.read_text().splitlines()):
    match = pattern.fullmatch(line)
    if line.startswith('#'):
      comment.append(line.lstrip('# '))
      continue
    if match and comment:
      # A tuple over several lines: its first line says too little.
      value = '(...)' if match[2] == '(' else match[2]
      found.append((match[1], value, ' '.join(comment)))
    comment = []
  return found


def _indented(paragraph: str) -> list[str]:
  return [f'    {line}' for line in paragraph.splitlines()]
