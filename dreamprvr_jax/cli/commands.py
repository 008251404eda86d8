"""The commands, their flags and functions. Flags are declared in `options.py`.

Everything else about a command is derived from these two tables: parsing,
help, checks, docs/commands.md and the function that is called.
"""

import pathlib
import sys
from collections.abc import Mapping

from dreamprvr_jax.cli.command import Command, Form
from dreamprvr_jax.cli.comparisons import COMPARISONS
from dreamprvr_jax.cli.key_sets import MACHINE, TRAINING

_SOURCES = ('features', 'queries', 'annotations')
# Seconds of a file that is read, at most, as `archive.videos.frames.LIMITS`.
_LONGEST = 43_200.0
_RERANKING = (
  'seed',
  *MACHINE,
  'data',
  'simulated',
  'train.log_every',
  'train.checkpoint_every',
  'rerank',
)

_ALL = (
  Command(
    'train',
    'Trains a model and evaluates it. Prepares the data first if that is due, '
    'evaluates after each epoch, keeps the best epoch by SumR, evaluates it '
    'and prints the table. Continues a stopped run.',
    ('--config=configs/activitynet.py --config.data.root=DIR [--workdir=DIR]',),
    (Form('training:run', needs=('config',)),),
    keys=TRAINING,
  ),
  Command(
    'evaluate',
    'Computes the metrics of a checkpoint, or of a retriever without training. '
    'They go to WORKDIR/eval_<split>.json; --scores writes the score matrix as '
    'well, --labels counts several right videos per query, --moments also asks '
    'when in the video, --trace adds TRACE without training. best_frame and '
    'tf_prvr need no checkpoint, but sentence vectors.',
    (
      '--checkpoint=DIR [--config.data.root=DIR] '
      '[--config.data.eval_split=val] [--scores=FILE.npz] '
      '[--labels=FILE.jsonl] [--trace=temporal-4] [--workdir=DIR]',
      '--config=configs/activitynet.py:tf_prvr --config.data.root=DIR',
    ),
    (Form('evaluation:run', needs_one=('checkpoint', 'config')),),
    ('checkpoint',),
    (
      'dtype',
      *MACHINE,
      'data',
      'simulated',
      'eval',
      'rerank',
      'trace',
      'model',
    ),
  ),
  Command(
    'prepare',
    'Turns a feature release into sharded records. Continues where it was '
    'stopped.',
    ('--config=configs/tvr.py --config.data.root=DIR',),
    (Form('inspection:run_prepare', 'PrepareArguments', needs=('config',)),),
    keys=('data', 'simulated'),
  ),
  Command(
    'inspect',
    'Shows the contents of a data root, a checkpoint, an index or other '
    "people's features. A data root is given with --config, a workdir or "
    'checkpoint with --checkpoint, an index with --index. Features are '
    'checked; everything that is wrong with them goes to --out.',
    (
      '--config=configs/tvr.py --config.data.root=DIR [--out=FILE.json]',
      '--checkpoint=DIR',
      '--index=INDEX [--verify]',
      '--features=PATH [--queries=PATH] [--annotations=FILE] [--out=FILE.json]',
    ),
    (
      Form('index_inspection:run', given='', when=('index',), devices=False),
      Form(
        'importing:run_inspect',
        'Request',
        given='',
        when=_SOURCES,
        devices=False,
      ),
      Form(
        'inspection:run',
        needs_one=('config', 'features', 'checkpoint', 'index'),
      ),
    ),
    ('checkpoint', 'workdir'),
    ('data', 'simulated'),
  ),
  Command(
    'import',
    "Reads the authors' PyTorch checkpoint, or other people's features. A "
    'checkpoint becomes one of ours; that needs no PyTorch and runs nothing '
    'from the file. With --features, features and annotations become a '
    'collection in the official layout.',
    (
      '--official=FILE.ckpt --workdir=DIR [--collection=NAME]',
      '--features=PATH [--queries=PATH --annotations=FILE] --out=ROOT '
      '[--sentences=PATH] [--collection=NAME]',
    ),
    (
      Form(
        'importing:run_import',
        'Request',
        given='',
        when=_SOURCES,
        needs=('features', 'out'),
        defaults={'collection': 'imported'},
        devices=False,
      ),
      Form(
        'conversion:run_import',
        'ImportArguments',
        needs=('official', 'workdir'),
      ),
    ),
    ('official',),
    ('dtype', 'data', 'model', 'loss', 'rerank'),
  ),
  Command(
    'export',
    'Writes the inference weights alone, or an index to a database. Weights '
    'are written for orbax and as safetensors, with config.json. With --index, '
    'the videos of an index go to a vector database: a folder, or a collection '
    'of a server. The same command later sends only what changed.',
    (
      '--checkpoint=DIR --out=DIR2',
      '--index=INDEX --database=DIR_OR_ADDRESS [--queries=FILE]',
    ),
    (
      Form('databases:run', given='', when=('index',), needs=('database',)),
      Form(
        'conversion:run_export', 'ExportArguments', needs=('checkpoint', 'out')
      ),
    ),
    ('checkpoint', 'index'),
    ('dtype', 'data', 'model'),
  ),
  Command(
    'push',
    'Uploads a trained model to the Hugging Face hub. It gets the inference '
    'weights as safetensors, the config without paths, and a model card with '
    "the run's metrics, data and limits.",
    ('--checkpoint=DIR --repo=USER/NAME [--private] [--license=apache-2.0]',),
    (Form('push:run', given='', needs=('checkpoint', 'repo'), devices=False),),
  ),
  *COMPARISONS,
  Command(
    'index',
    'Makes an index of folders of videos, or of the features of a split. '
    'With --videos, the same command later makes index and folders agree: it '
    'takes new, changed, renamed and vanished files; a stopped command keeps '
    'the videos that are finished. With --checkpoint alone, the features of a '
    'corpus are encoded; --append adds new ones. --remove takes videos out.',
    (
      '--videos=DIR --index=INDEX [--encoder=siglip2] '
      '[--retriever=tf_prvr|best_frame] [--checkpoint=DIR] '
      '[--restore=ID,ID or @FILE] [--gone]',
      '--checkpoint=DIR --index=INDEX [--config.data.root=DIR] '
      '[--config.data.eval_split=test] [--tokens=float16+int8] [--append] '
      '[--remove=ID,ID or @FILE] [--all_videos] [--compact]',
    ),
    (
      Form(
        'folder_indexing:run',
        when=('videos', 'restore', 'gone'),
        needs=('index',),
        defaults={'max_seconds': _LONGEST},
      ),
      Form(
        'indexing:run', needs=('index',), defaults={'max_seconds': _LONGEST}
      ),
    ),
    ('checkpoint', 'index'),
    (*MACHINE, 'archive', 'data', 'simulated'),
  ),
  Command(
    'search',
    'Finds the best videos of an index, and when in them. Prints a table, or '
    'writes JSON or a page with --out. Queries are sentences, a picture, a '
    'clip, word features in a file, or the captions of a split.',
    (
      '--index=INDEX --query="a dog runs" [--cutoff=weak] [--folder=2023] '
      '[--save_clips=DIR] [--out=FILE.html]',
      '--index=INDEX --image=FILE',
      '--index=INDEX --clip=FILE [--span=3-8]',
      '--index=INDEX --queries=FILE',
      '--index=INDEX [--config.data.root=DIR] [--caption=N]',
    ),
    (Form('searching:run', needs=('index',)),),
    ('checkpoint', 'index'),
    (*MACHINE, 'data', 'eval'),
  ),
  Command(
    'extract',
    'Makes features of your own videos, and of their captions. They are '
    'written in the official layout. A stopped command continues; the same '
    'command later takes what is new.',
    (
      '--videos=DIR --out=ROOT [--captions=FILE.jsonl] '
      '[--encoder=embedded|clip|siglip] [--fps=2] [--collection=videos]',
    ),
    (
      Form(
        'extraction:run',
        'Request',
        given='',
        needs=('videos', 'out'),
        defaults={
          'collection': 'videos',
          'encoder': 'embedded',
          'max_seconds': _LONGEST,
        },
        devices=False,
      ),
    ),
  ),
  Command(
    'serve',
    'Answers searches over HTTP and shows a page with the videos. Many users '
    'at once; the page is at http://127.0.0.1:8000. Ctrl-C or SIGTERM ends '
    'it.',
    (
      '--index=INDEX [--videos=DIR] [--port=8000] [--host=127.0.0.1] '
      '[--token=SECRET]',
    ),
    (Form('serving:run', needs=('index',)),),
    ('checkpoint', 'index'),
    (*MACHINE, 'eval'),
  ),
  Command(
    'rerank-train',
    'Trains a re-ranker on the lists of a trained retriever. It is '
    "DiffusionRet's generator, or a control (config.rerank); the retriever "
    'stays as it is. Continues a stopped run.',
    (
      '--checkpoint=RETRIEVER --workdir=DIR [--config.data.root=DIR] '
      '[--config.rerank.candidates=128]',
    ),
    (Form('reranking:run', needs=('checkpoint', 'workdir')),),
    ('checkpoint',),
    _RERANKING,
  ),
  Command(
    'rerank-table',
    'Trains re-rankers of several retrievers and compares them. Writes '
    'rerank.md, .csv and .json: the generator and its controls, for each '
    'checkpoint. Continues.',
    (
      '--checkpoint=DIR1,DIR2 --seeds=3 --workdir=TABLE '
      '[--methods=diffusion,no_diffusion]',
    ),
    (Form('rerank_table:run', needs=('checkpoint', 'workdir')),),
    ('checkpoint',),
    _RERANKING,
  ),
)
COMMANDS: Mapping[str, Command] = {command.name: command for command in _ALL}


def spelled(name: str = 'COMMAND', flags: str = '') -> str:
  """Returns a command line in the form in which the program was started.

  Args:
    name: The command.
    flags: The rest of the line.
  """
  if pathlib.Path(sys.argv[0]).name != 'main.py':
    return f'dreamprvr {name} {flags}'.rstrip()
  mode = '' if name == 'train' else f'--mode={name}'
  return ' '.join(filter(None, ('python main.py', mode, flags)))
