"""Checks which folder may import which: data flows one way."""

import ast
import graphlib
import itertools
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# Small files that every folder may import, and the devices.
BASE = {
  'errors',
  'folders',
  'host_memory',
  'text',
  'types',
  'rng',
  'numerics',
  'progress',
  'devices',
}
MATHEMATICS = {'layers', 'diffusion', 'models', 'losses', 'objectives'}
RUNS = {'metrics', 'checkpoints', 'evaluation', 'train', 'rerank', 'report'}
# Folder or file of dreamprvr_jax -> the folders and files that it may import.
ALLOWED = {
  'errors': set(),
  'version': set(),
  'folders': {'errors'},
  'host_memory': set(),
  'text': {'errors'},
  'numerics': set(),
  'progress': set(),
  'types': {'errors'},
  'rng': {'errors'},
  'devices': {'errors', 'host_memory', 'types'},
  'checkpoints': {'errors', 'folders', 'devices', 'text'},
  'layers': {'errors', 'types', 'numerics'},
  'diffusion': {'errors', 'types', 'numerics', 'layers'},
  'models': {'errors', 'types', 'numerics', 'layers', 'diffusion'},
  'losses': {'types', 'numerics'},
  'objectives': {'errors', 'types', 'numerics', 'losses', 'models'},
  'metrics': set(),
  'evaluation': BASE | {'models', 'metrics', 'checkpoints'},
  'report': {'folders'},
  'train': BASE | {'checkpoints', 'metrics', 'models', 'losses'},
  'rerank': BASE
  | {
    'diffusion',
    'evaluation',
    'losses',
    'checkpoints',
    'metrics',
    'models',
    'train',
    'trained',
  },
  'training_free': {'errors'},
  'trained': {
    'devices',
    'errors',
    'folders',
    'text',
    'types',
    'models',
    'checkpoints',
    'training_free',
  },
  'interop': {
    'errors',
    'host_memory',
    'types',
    'models',
    'checkpoints',
    'trained',
  },
  'archive': BASE
  | {
    'checkpoints',
    'evaluation',
    'metrics',
    'models',
    'trained',
    'training_free',
    '__version__',
  },
  'cli': BASE
  | MATHEMATICS
  | RUNS
  | {'trained', 'interop', 'archive', 'training_free'},
}
# Folder of the archive -> the archive's folders that it may import.
ARCHIVE = {
  'encoders': set(),
  'videos': set(),
  'extraction': {'encoders', 'videos'},
  'index': set(),
  'folder': {'encoders', 'extraction', 'index', 'jobs', 'videos'},
  'lists': {'index'},
  'search': {'index', 'lists', 'encoders', 'videos', 'jobs'},
  'database': {'index', 'lists', 'search'},
  'serving': {'search', 'index', 'videos'},
  'jobs': {'extraction', 'index'},
}
# Files of dreamprvr_jax that need only the standard library. Every package may
# import them, even those without models.
SMALL = {'errors', 'folders', 'host_memory', 'text'}
# Mathematics on the host, which the data pipeline may use, too: it needs only
# the standard library and NumPy.
HOST = {'training_free'}
# Files of the data pipeline that need only NumPy: a search pools the frames of
# a picture as training pools those of a video.
POOLING = {'data_pipeline.merging', 'data_pipeline.pooling'}
# Folders that must not import models: they start quickly, in many processes.
NO_MODELS = ('archive/videos', 'archive/encoders', 'archive/extraction')
_NO_DATA = {
  'tensorflow',
  'tensorflow_datasets',
  'torch',
  'ml_collections',
  'data_pipeline',
  'configs',
  'clu',
}
# Libraries that a folder never imports, not even inside functions.
FORBIDDEN = {
  'configs': {'jax', 'flax', 'dreamprvr_jax', 'data_pipeline', 'tensorflow'},
  'data_pipeline': {'jax', 'flax', 'ml_collections', 'dreamprvr_jax'},
  **{
    f'dreamprvr_jax/{folder}': _NO_DATA
    for folder in sorted(ALLOWED)
    if folder not in ('archive', 'cli')
  },
  'dreamprvr_jax/archive/videos': {'jax', 'flax', 'tensorflow', 'configs'},
  'dreamprvr_jax/archive/encoders': {
    'tensorflow',
    'torch',
    'transformers',
    'configs',
  },
  'dreamprvr_jax/archive/extraction': {
    'jax',
    'flax',
    'tensorflow',
    'torch',
    'transformers',
    'configs',
  },
  'dreamprvr_jax/archive/index': _NO_DATA,
  'dreamprvr_jax/archive/search': _NO_DATA,
  'dreamprvr_jax/archive/database': _NO_DATA,
  'dreamprvr_jax/archive/serving': _NO_DATA,
  'dreamprvr_jax/archive/jobs': {'tensorflow', 'ml_collections', 'configs'},
  'dreamprvr_jax/cli': {'tensorflow', 'tensorflow_datasets', 'torch', 'clu'},
}


def sources(folder):
  path = ROOT / folder
  return sorted(path.rglob('*.py')) or [path.with_suffix('.py')]


def imports(path):
  """Returns the dotted names that a file imports, also inside functions."""
  for node in ast.walk(ast.parse(path.read_text())):
    yield from names_of(node)


def names_of(node):
  """Returns the dotted names that a statement imports."""
  if isinstance(node, ast.Import):
    yield from (alias.name for alias in node.names)
  elif isinstance(node, ast.ImportFrom) and node.module:
    # `from dreamprvr_jax import text` imports that file alone.
    if node.module not in ('dreamprvr_jax', 'data_pipeline'):
      yield node.module
    yield from (f'{node.module}.{alias.name}' for alias in node.names)


@pytest.mark.parametrize('package', FORBIDDEN)
def test_libraries(package):
  for path in sources(package):
    used = {
      name.partition('.')[0] for name in imports(path) if not is_small(name)
    }
    assert not used & FORBIDDEN[package], path


def is_small(name):
  """Returns whether an imported name is one of the small files or in one, or in
  a folder that needs no more than NumPy."""
  if name in POOLING:
    return True
  folder = name.removeprefix('dreamprvr_jax.').partition('.')[0]
  return name.startswith('dreamprvr_jax.') and folder in SMALL | HOST


def test_small_files_need_only_the_standard_library():
  for folder in SMALL:
    used = {
      name.partition('.')[0]
      for name in imports(ROOT / f'dreamprvr_jax/{folder}.py')
    }
    assert used <= sys.stdlib_module_names | {'dreamprvr_jax'}, folder


def test_mathematics_on_the_host_needs_numpy_alone():
  for folder in HOST:
    for path in sources(f'dreamprvr_jax/{folder}'):
      used = {name.partition('.')[0] for name in imports(path)}
      allowed = sys.stdlib_module_names | {'dreamprvr_jax', 'numpy'}
      assert used <= allowed, path


def test_pooling_needs_numpy_alone():
  for name in POOLING:
    used = set(imports(ROOT / f'{name.replace(".", "/")}.py')) - POOLING
    used = {name.partition('.')[0] for name in used}
    assert used <= sys.stdlib_module_names | {'numpy'}, name


def folder_of(path):
  parts = path.relative_to(ROOT / 'dreamprvr_jax').parts
  return parts[0] if len(parts) > 1 else parts[0].removesuffix('.py')


@pytest.mark.parametrize('path', sources('dreamprvr_jax'), ids=str)
def test_folders(path):
  folder = folder_of(path)
  if folder == '__init__':
    return
  used = {
    name.split('.')[1]
    for name in imports(path)
    if name.startswith('dreamprvr_jax.')
  }
  assert used - {folder} <= ALLOWED[folder]


def test_objectives_know_only_the_contract():
  for path in sources('dreamprvr_jax/objectives'):
    models = {n for n in imports(path) if n.startswith('dreamprvr_jax.models.')}
    assert all(
      name.split('.')[2] in ('contract', 'outputs') for name in models
    ), path


@pytest.mark.parametrize('path', sources('dreamprvr_jax/archive'), ids=str)
def test_folders_of_the_archive(path):
  folder = path.relative_to(ROOT / 'dreamprvr_jax/archive').parts[0]
  if folder == '__init__.py':
    return
  used = {
    name.split('.')[2]
    for name in imports(path)
    if name.startswith('dreamprvr_jax.archive.')
  }
  assert used - {folder} <= ARCHIVE[folder]


@pytest.mark.parametrize('folder', NO_MODELS)
def test_what_knows_no_models(folder):
  for path in sources(f'dreamprvr_jax/{folder}'):
    used = {
      name.split('.')[1]
      for name in imports(path)
      if name.startswith('dreamprvr_jax.')
    }
    # The devices serve the encoders that have weights.
    assert used <= SMALL | {'archive', 'devices'}, path


def test_serving_knows_only_search():
  used = {
    name.split('.')[1]
    for path in sources('dreamprvr_jax/archive/serving')
    for name in imports(path)
    if name.startswith('dreamprvr_jax.')
  }
  assert used <= {'errors', 'folders', 'text', 'archive', '__version__'}


def module_of(path):
  parts = path.relative_to(ROOT).with_suffix('').parts
  return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def test_no_circle_of_imports():
  """This covers imports at the top of files and inside functions."""
  paths = [
    path
    for folder in ('dreamprvr_jax', 'data_pipeline', 'configs')
    for path in sources(folder)
  ]
  modules = {module_of(path): path for path in paths}
  graph = {}
  for module, path in modules.items():
    names = set()
    for name in imports(path):
      while name and name not in modules:
        name = name.rpartition('.')[0]
      names.add(name)
    # The __init__.py of a package re-exports its modules.
    graph[module] = {
      n for n in names - {'', module} if not module.startswith(f'{n}.')
    }
  sorter = graphlib.TopologicalSorter(graph)
  try:
    sorter.prepare()
  except graphlib.CycleError as error:
    pytest.fail(' -> '.join(error.args[1]))


def test_every_folder_is_in_the_table():
  names = {folder_of(path) for path in sources('dreamprvr_jax')}
  assert names - {'__init__'} == set(ALLOWED)


def test_files_are_short():
  for folder in ('dreamprvr_jax', 'data_pipeline', 'configs'):
    for path in sources(folder):
      assert len(path.read_text().splitlines()) <= 350, path


def test_optional_libraries_are_loaded_inside_functions():
  for path in itertools.chain(
    *(sources(f'dreamprvr_jax/{folder}') for folder in NO_MODELS)
  ):
    used = {
      name.partition('.')[0]
      for node in ast.parse(path.read_text()).body
      for name in names_of(node)
    }
    optional = {'av', 'huggingface_hub', 'tokenizers', 'sentencepiece'}
    assert not used & optional, path


def test_import_is_quick():
  code = (
    'import sys, dreamprvr_jax;'
    'print([m for m in ("jax", "flax", "tensorflow") if m in sys.modules])'
  )
  out = subprocess.run(
    [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True
  )
  assert out.stdout.strip() == '[]', out.stderr


def test_workers_that_extract_load_no_jax():
  code = (
    'import sys, dreamprvr_jax.archive.jobs.extraction;'
    'print("jax" in sys.modules)'
  )
  out = subprocess.run(
    [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True
  )
  assert out.stdout.strip() == 'False', out.stderr


def test_training_needs_no_tensorflow():
  code = """if True:
    import sys
    class Missing:
      def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] == 'tensorflow':
          raise ModuleNotFoundError(name)
    sys.meta_path.insert(0, Missing())
    from data_pipeline import prepare, simulated
    from dreamprvr_jax.cli import conversion, evaluation, inspection, training
  """
  out = subprocess.run(
    [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True
  )
  assert out.returncode == 0, out.stderr
