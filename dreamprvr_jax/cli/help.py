"""Texts of `main.py --help`."""

import pathlib
import re

from dreamprvr_jax.cli import config_files

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
    'What is in a data root (with --config), in a workdir or checkpoint (with\n'
    "--checkpoint), or in other people's features, as a table, and everything "
    'that is\nwrong with features; all of it to --out.',
    'python main.py --mode=inspect --checkpoint=DIR\n      or: '
    '--features=PATH [--queries=PATH] [--annotations=FILE] [--out=FILE.json]',
  ),
  'import': (
    "The authors' PyTorch checkpoint becomes an orbax checkpoint. Needs no "
    'torch and\nruns nothing that the file holds. With --features: other '
    "people's features and\nannotations become a collection in the official "
    'layout.',
    'python main.py --mode=import --official=FILE.ckpt --workdir=DIR '
    '[--collection=NAME]\n      or: --features=PATH '
    '[--queries=PATH --annotations=FILE] --out=ROOT [--collection=NAME]',
  ),
  'export': (
    'The inference weights alone: orbax, safetensors, config.json. With '
    '--index: the\ntokens of an index, to a vector database.',
    'python main.py --mode=export --checkpoint=DIR --out=DIR2\n      '
    'or: --index=INDEX --out=DATABASE',
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
    '[--tokens=float16+int8]\n      [--append] [--remove=ID,ID or @FILE] '
    '[--all_videos] [--compact]',
  ),
  'search': (
    'The best videos of an index, and when in them: a table, or with --out '
    'JSON or a\npage. Queries are sentences, word features in a file, or the '
    'captions of a split.',
    'python main.py --mode=search --index=INDEX --query="a dog runs" '
    '[--out=FILE.html [--videos=DIR]]\n      or instead of --query: '
    '--queries=FILE\n      or: '
    '[--config.data.root=DIR] [--caption=N]',
  ),
  'extract': (
    'Makes features of your own videos, and of their captions, in the official '
    'layout.\nA stopped command goes on; a second one takes what is new.',
    'python main.py --mode=extract --videos=DIR --out=ROOT '
    '[--captions=FILE.jsonl]\n      [--encoder=embedded|clip|siglip] [--fps=2] '
    '[--collection=videos]',
  ),
  'serve': (
    'Answers searches over HTTP, for many users at once, and shows a page with '
    'the videos\nat http://127.0.0.1:8000. Ctrl-C or SIGTERM ends it.',
    'python main.py --mode=serve --index=INDEX [--videos=DIR] [--port=8000] '
    '[--host=127.0.0.1]',
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
  'workdir if not given; of a search, a .json or .html file; of an import, the '
  'data root; of inspect, a .json file with all that is wrong',
  '--scores=FILE.npz': 'where evaluate writes the scores (queries, videos)',
  '--labels=FILE.jsonl': 'all right videos of each query, for evaluate; '
  '.gz, too',
  '--rerank=DIR': 'a re-ranker for evaluate, of rerank-train',
  '--labelled_only': 'leave queries out that have no label',
  '--moments': 'evaluate also when in the videos',
  '--index=DIR': 'an index, for index, search and serve',
  '--tokens=KIND': 'of a new index: float16, int8, float16+int8, pq or '
  'float16+pq',
  '--sub_vectors=M': 'bytes of a token as pq; one per 8 numbers if not given',
  '--compact': 'rewrite an index without the videos that were taken out',
  '--append': 'add to an index what it does not have',
  '--remove=ID,...': 'take videos out of an index; @FILE has one on each line',
  '--all_videos': 'index every video of the features, not those of a split',
  '--query=TEXT': 'a sentence to search for',
  '--queries=FILE': 'queries of a search: .txt with a sentence on each line, '
  '.jsonl, or word features, an array per id, in .npz or HDF5; for import and '
  'inspect word features, in a folder, too',
  '--encoder=NAME[:MODEL]': 'of videos and words: embedded, clip or siglip; of '
  'a search, the one of its checkpoint if not given; MODEL is a hub name or a '
  'folder',
  '--device=NAME': 'of the encoder, such as cpu or cuda:1; an accelerator if '
  'there is one',
  '--dtype=NAME': 'of the encoder: float32, bfloat16 or float16',
  '--videos=DIR': 'the folder of the video files, for extract, serve and the '
  'page of a search',
  '--captions=FILE': 'their captions, for extract; see docs/extraction.md',
  '--collection=NAME': 'of what extract or import writes; videos or imported '
  'if not given; with --official, the dataset of the checkpoint',
  '--features=PATH': 'of videos, for import and inspect: a folder of .npy or '
  '.npz files, .npz or HDF5; see docs/importing.md',
  '--annotations=FILE,...': 'sentences and the videos they mean, for import '
  'and inspect: .json, .jsonl, .txt, .gz of each',
  '--max_inflation=N': 'how many times its size a file of features may unpack '
  'to, for import and inspect, above 256 MiB; 64 if not given',
  '--fps=N': 'samples per second of video, for extract; 2 if not given',
  '--max_seconds=N': 'extract skips longer files; 43200, 12 hours, if not '
  'given',
  '--max_samples=N': 'extract skips files that give more samples; 100000 if '
  'not given',
  '--workers=N': 'processes of extract, and of the local runner of --engine; '
  '0: one per core, or one for clip and siglip',
  '--engine=beam': 'extract or index as a batch job of Apache Beam: in several '
  'processes or on many machines; see docs/batch.md',
  '--engine_options=TEXT': 'of the engine, in its own words: '
  '"--runner=FlinkRunner ..."; processes of this machine if not given',
  '--batch=N': 'pictures encoded at a time; 32 if not given',
  '--caption=N': 'search for this caption of the split only, from 0',
  '--k=K': 'videos found per query; 10 if not given',
  '--first_pass=KIND': 'search in int8 or pq first, then exactly among the '
  'best',
  '--database=DIR': 'search in a vector database first (its folder or address, '
  'as export wrote it), then exactly among the best',
  '--rescore=M': 'of which M * K are taken; 4 if not given',
  '--host=ADDRESS': 'where serve listens; if not given 127.0.0.1, for this '
  'machine alone',
  '--port=N': 'of serve; 8000 if not given, 0 for a free one',
  '--max_connections=N': 'of serve, at a time; 1000 if not given',
  '--max_connections_per_address=N': 'of those, of one address; 256 if not '
  'given',
  '--request_seconds=S': 'of serve: how long the header of a request may take '
  'to arrive, and its body; 10 if not given',
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
  lines += ['', '~ is the home folder at the beginning of every path.']
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
  folder = config_files.FOLDER
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
  for line in map(str.strip, path.read_text(encoding='utf-8').splitlines()):
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
