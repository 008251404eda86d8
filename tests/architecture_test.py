"""Who may import whom: data flows one way."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
BASE = {
  'errors',
  'folders',
  'text',
  'types',
  'rng',
  'numerics',
  'progress',
  'parallel',
  'resident',
}
# Room of dreamprvr_jax -> rooms of it that it may import.
ALLOWED = {
  'errors': set(),
  'folders': {'errors'},
  'text': {'errors'},
  'host_memory': set(),
  'numerics': set(),
  'progress': set(),
  'types': {'errors'},
  'rng': {'errors'},
  'parallel': {'errors'},
  'processes': {'errors'},
  'leader': {'errors'},
  'resident': {'parallel', 'types'},
  'checkpoints': {'errors', 'folders', 'leader', 'text'},
  'layers': {'errors', 'types', 'numerics'},
  'diffusion': {'errors', 'types', 'numerics', 'layers'},
  'models': {'errors', 'types', 'numerics', 'layers', 'diffusion'},
  'losses': {'types', 'numerics'},
  'objectives': {'errors', 'types', 'numerics', 'losses', 'models'},
  'metrics': set(),
  'evaluation': BASE | {'models', 'metrics', 'checkpoints'},
  'interop': {'errors', 'host_memory', 'types', 'models', 'checkpoints'},
  'report': {'folders'},
  'rerank': BASE
  | {
    'diffusion',
    'evaluation',
    'losses',
    'metrics',
    'models',
    'train',
  },
  'search': BASE
  | {'checkpoints', 'evaluation', 'interop', 'metrics', 'models'},
  'train': BASE | {'checkpoints', 'evaluation', 'metrics', 'models', 'losses'},
}
# Files of dreamprvr_jax that need nothing but the standard library: every
# package may import them, those too that know nothing of models.
SMALL = {'errors', 'folders', 'text'}
# Libraries that a room never imports.
FORBIDDEN = {
  'configs': {'jax', 'flax', 'dreamprvr_jax', 'data_pipeline', 'tensorflow'},
  'data_pipeline': {'jax', 'flax', 'ml_collections', 'dreamprvr_jax', 'modes'},
  # How files are opened and when their pictures are shown: extraction and the
  # server have to agree, and the server is to know nothing of extraction.
  'media': {
    'jax',
    'flax',
    'dreamprvr_jax',
    'tensorflow',
    'ml_collections',
    'data_pipeline',
    'extraction',
    'serving',
    'modes',
    'configs',
  },
  'extraction': {
    'jax',
    'flax',
    'dreamprvr_jax',
    'tensorflow',
    'ml_collections',
    'modes',
    'configs',
  },
  'serving': {
    'tensorflow',
    'ml_collections',
    'data_pipeline',
    'extraction',
    'modes',
    'configs',
  },
  'batch': {'tensorflow', 'ml_collections', 'modes', 'configs'},
  'dreamprvr_jax': {
    'tensorflow',
    'tensorflow_datasets',
    'torch',
    'ml_collections',
    'data_pipeline',
    'configs',
    'modes',
    'clu',
  },
}


def sources(folder):
  return sorted((ROOT / folder).rglob('*.py'))


def imports(path):
  """The dotted names that a file imports, those inside functions too."""
  for node in ast.walk(ast.parse(path.read_text())):
    yield from names_of(node)


def names_of(node):
  """The dotted names that a statement imports."""
  if isinstance(node, ast.Import):
    yield from (alias.name for alias in node.names)
  elif isinstance(node, ast.ImportFrom) and node.module:
    # `from dreamprvr_jax import text` is about that file alone.
    if node.module != 'dreamprvr_jax':
      yield node.module
    yield from (f'{node.module}.{alias.name}' for alias in node.names)


@pytest.mark.parametrize('package', FORBIDDEN)
def test_libraries(package):
  assert sources(package)
  for path in sources(package):
    used = {
      name.partition('.')[0] for name in imports(path) if not is_small(name)
    }
    assert not used & FORBIDDEN[package], path


def is_small(name):
  """Whether an imported name is, or is inside, one of the small files."""
  room = name.removeprefix('dreamprvr_jax.').partition('.')[0]
  return name.startswith('dreamprvr_jax.') and room in SMALL


def test_small_files_need_only_the_standard_library():
  for room in SMALL:
    used = {
      name.partition('.')[0]
      for name in imports(ROOT / f'dreamprvr_jax/{room}.py')
    }
    assert used <= sys.stdlib_module_names | {'dreamprvr_jax'}, room


def room_of(path):
  parts = path.relative_to(ROOT / 'dreamprvr_jax').parts
  return parts[0] if len(parts) > 1 else parts[0].removesuffix('.py')


@pytest.mark.parametrize('path', sources('dreamprvr_jax'), ids=str)
def test_rooms(path):
  room = room_of(path)
  if room == '__init__':
    return
  used = {
    name.split('.')[1]
    for name in imports(path)
    if name.startswith('dreamprvr_jax.')
  }
  assert used - {room} <= ALLOWED[room]


def test_objectives_know_only_output_structs():
  for path in sources('dreamprvr_jax/objectives'):
    models = {n for n in imports(path) if n.startswith('dreamprvr_jax.models.')}
    names = {n.rpartition('.')[2] for n in models if n.count('.') > 2}
    assert all(name.endswith('Output') for name in names), path


def test_serving_knows_only_search():
  used = {
    name.split('.')[1]
    for path in sources('serving')
    for name in imports(path)
    if name.startswith('dreamprvr_jax.')
  }
  assert used <= {'errors', 'search', 'text', '__version__'}


def test_every_room_is_in_the_table():
  rooms = {room_of(path) for path in sources('dreamprvr_jax')}
  assert rooms - {'__init__'} == set(ALLOWED)


def test_files_are_short():
  for folder in (
    'dreamprvr_jax',
    'data_pipeline',
    'extraction',
    'serving',
    'batch',
    'configs',
    'modes',
  ):
    for path in sources(folder):
      assert len(path.read_text().splitlines()) <= 350, path


def test_extraction_loads_torch_only_inside_functions():
  for path in sources('extraction') + sources('media'):
    used = {
      name.partition('.')[0]
      for node in ast.parse(path.read_text()).body
      for name in names_of(node)
    }
    assert not used & {'torch', 'transformers', 'av'}, path


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
  code = "import sys, batch.extraction; print('jax' in sys.modules)"
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
    from modes import conversion, evaluation, inspection, training
  """
  out = subprocess.run(
    [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True
  )
  assert out.returncode == 0, out.stderr
