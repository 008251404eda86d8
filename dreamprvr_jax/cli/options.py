"""The flags: each is declared here, once. Commands are in `commands.py`."""

from collections.abc import Mapping

from dreamprvr_jax.cli.commands import COMMANDS
from dreamprvr_jax.cli.index_options import INDEX_OPTIONS
from dreamprvr_jax.cli.option import Option, option, path_option
from dreamprvr_jax.cli.search_options import SEARCH_OPTIONS
from dreamprvr_jax.cli.serve_options import SERVE_OPTIONS

_WITHOUT_CONFIG = ('extract', 'push', 'compare', 'fuse')
_WITH_CONFIG = [name for name in COMMANDS if name not in _WITHOUT_CONFIG]
_SOURCES = ('inspect', 'import')

_ALL = (
  path_option(
    'config',
    'FILE.py[:MODEL]',
    'a config file or the name of one; MODEL: dreamprvr if not given',
    *_WITH_CONFIG,
  ),
  path_option(
    'workdir',
    'DIR',
    {
      'train': 'folder of the run; runs/<config> if not given',
      'evaluate': 'folder of the metrics; the checkpoint if not given',
      'inspect': 'the folder of a run',
      'import': 'folder of the checkpoint that is written',
      'rerank-train': 'folder of the run',
      'table sweep rerank-table': 'folder of the runs, and of the table',
    },
  ),
  path_option(
    'checkpoint',
    'DIR',
    {
      'evaluate inspect rerank-train push': 'a workdir, or what import or '
      'export wrote',
      'export': 'a workdir; with --index, its checkpoint if it was moved',
      'index': 'a workdir or checkpoint: the model of a new index',
      'search serve': 'the checkpoint of the index, if it was moved',
      'rerank-table': 'the retrievers, separated by commas',
    },
  ),
  path_option('official', 'FILE', 'a released PyTorch checkpoint', 'import'),
  path_option(
    'out',
    'PATH',
    {
      'inspect': 'a .json file for everything that is wrong',
      'import': 'the data root, with --features',
      'export': 'folder of the weights',
      'table sweep': 'folder of the table; the workdir if not given',
      'compare': 'a .json file for all of it',
      'fuse': 'a file for the sum',
      'search': 'a .json or .html file; the terminal if not given',
      'extract': 'the data root',
    },
  ),
  option('repo', '', 'USER/NAME', 'the repository on the hub', 'push'),
  option(
    'private', False, '', 'make a new repository that only you see', 'push'
  ),
  option(
    'license',
    'apache-2.0',
    'NAME',
    'licence of the weights, by its name on the hub',
    'push',
  ),
  path_option(
    'scores',
    'FILE.npz',
    {
      'evaluate': 'where the scores (queries, videos) are written',
      'compare': 'scores of each run of a retriever, separated by commas',
      'fuse': 'scores of each retriever on one split, separated by commas',
    },
  ),
  option('weights', '', 'W,...', 'weight of each file of --scores', 'fuse'),
  path_option(
    'val_scores',
    'FILE.npz,...',
    'scores of the two on the split that chooses the weight of the second',
    'fuse',
  ),
  path_option(
    'against',
    'FILE.npz,...',
    'scores of each run of the other',
    'compare',
  ),
  path_option(
    'labels',
    'FILE.jsonl',
    'all right videos of each query; may be .gz',
    'evaluate',
  ),
  option(
    'labelled_only',
    False,
    '',
    'leave out queries that have no label',
    'evaluate',
  ),
  option('moments', False, '', 'evaluate also when in the videos', 'evaluate'),
  option(
    'trace',
    '',
    'FORM,...',
    "add TRACE's score without training: temporal-N or global-N; see "
    'docs/training.md',
    'evaluate',
  ),
  path_option(
    'rerank', 'DIR', 'a re-ranker, the workdir of rerank-train', 'evaluate'
  ),
  path_option(
    'index',
    'DIR',
    {
      'index': 'folder of the index',
      'inspect': 'an index',
      'search serve': 'the index to search in',
      'export': 'an index, whose tokens go to a database',
    },
  ),
  option(
    'verify',
    False,
    '',
    'read every file of the index, and name those that are damaged',
    'inspect',
  ),
  *INDEX_OPTIONS,
  path_option(
    'queries',
    'FILE',
    {
      'search': 'queries: .txt with a sentence on each line, .jsonl, .csv, or '
      'word features in .npz or HDF5',
      'inspect import': 'word features: as --features',
      'export': 'as for search: also tries the database with these queries',
    },
  ),
  *SEARCH_OPTIONS,
  option(
    'encoder',
    '',
    'NAME[:MODEL]',
    {
      'extract': 'embedded (if not given), clip, siglip or siglip2; MODEL is a '
      'hub name or a folder',
      'index': 'siglip2 (if not given), siglip, clip or embedded; '
      'MODEL is a hub name or a folder',
      'search serve export': 'text encoder: embedded, clip, siglip or siglip2; '
      'if not given, that of the checkpoint',
    },
    path=':',
  ),
  option(
    'device',
    '',
    'NAME',
    'platform of JAX for the encoder: cpu, gpu or tpu',
    'extract',
    'search',
    'serve',
    'export',
  ),
  option(
    'dtype',
    'float32',
    'NAME',
    'numbers of the encoder: float32 or bfloat16',
    'extract',
    'index',
  ),
  path_option(
    'videos',
    'DIR',
    {
      'index': 'folders and files to index, with commas between them; @FILE '
      'has one path on each line',
      'extract': 'folder of the video files',
      'search': 'folder of the video files, for pictures in the page',
      'serve': 'folder of the video files, if the index does not name them',
    },
  ),
  path_option(
    'captions',
    'FILE',
    'captions of the videos; see docs/extraction.md',
    'extract',
  ),
  option(
    'collection',
    '',
    'NAME',
    {
      'extract': 'folder below the data root; videos if not given',
      'import': 'folder below the data root, imported if not given; with '
      '--official, the dataset',
    },
  ),
  path_option(
    'features',
    'PATH',
    'features of videos: a folder of .npy or .npz, .npz or HDF5',
    *_SOURCES,
  ),
  path_option('sentences', 'PATH', 'vectors of whole sentences', *_SOURCES),
  path_option(
    'annotations',
    'FILE,...',
    'sentences and their videos: .json, .jsonl, .txt, .csv, or .gz of these',
    *_SOURCES,
  ),
  option(
    'max_inflation',
    64.0,
    'N',
    'how many times its size a file may unpack to, above 256 MiB',
    *_SOURCES,
  ),
  option('fps', 2.0, 'N', 'samples per second of video', 'extract'),
  option(
    'max_seconds',
    0.0,
    'N',
    {
      'extract index': 'skip longer files; 43200, 12 hours, if not given',
      'search': 'find only videos that last no longer',
    },
  ),
  option(
    'max_samples', 100_000, 'N', 'skip files that give more samples', 'extract'
  ),
  option(
    'batch',
    0,
    'N',
    'pictures encoded at a time; 0: 32 a device',
    'extract',
    'index',
  ),
  option(
    'workers',
    0,
    'N',
    {
      'extract': 'processes that decode, also of the local runner of --engine; '
      '0: one per core',
      'index': 'processes that decode, or of the local runner of --engine; 0: '
      'one per core',
    },
  ),
  option(
    'engine',
    '',
    'beam',
    'run as a batch job of Apache Beam; see docs/batch.md',
    'extract',
    'index',
  ),
  option(
    'engine_options',
    '',
    'TEXT',
    'options of the engine, such as "--runner=FlinkRunner ..."',
    'extract',
    'index',
  ),
  *SERVE_OPTIONS,
  option(
    'methods',
    '',
    'NAME,...',
    {
      'table': 'what is compared: MODEL or MODEL+KEY=VALUE+KEY=VALUE',
      'rerank-table': 'what is compared; all methods if not given',
    },
  ),
  option('sweep', '', 'KEY=VALUE,...', 'the key and its values', 'sweep'),
  option(
    'seeds',
    1,
    'N',
    'runs of each row, with the seeds from config.seed on',
    'table',
    'sweep',
    'rerank-table',
  ),
  option(
    'progress',
    True,
    '',
    'show no progress bars',
    *(name for name in COMMANDS if name not in ('push', 'compare', 'fuse')),
  ),
  option(
    'num_processes',
    0,
    'N',
    'number of processes; 0: as SLURM, Open MPI or a TPU pod says',
    *_WITH_CONFIG,
  ),
  option(
    'process_id',
    -1,
    'I',
    'number of this process, from 0; -1: as for num_processes',
    *_WITH_CONFIG,
  ),
  option('coordinator', '', 'HOST:PORT', 'address of process 0', *_WITH_CONFIG),
)
OPTIONS: Mapping[str, Option] = {one.name: one for one in _ALL}


def options_of(command: str) -> list[Option]:
  """Returns the flags that a command takes, in the order of declaration."""
  return [one for one in _ALL if command in one.help]
