"""docs/method.md: its citations, the names it gives, and its numbers."""

import ast
import functools
import pathlib
import re

import pytest

from configs import activitynet, charades, tvr
from configs.common import TRAINED
from configs.models.gmmformer import NEVER

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / 'docs' / 'method.md'
TEXT = PAGE.read_text('utf-8')
HEADINGS = re.findall(r'^#{2,3} (.+)$', TEXT, re.MULTILINE)
DATASETS = (activitynet, charades, tvr)
CONSOLIDATED = {
  'gmmformer_v2',
  'hlformer',
  'holmes',
  'holmes_multi',
  'msc',
  'ral',
  'dreamprvr',
}


def sources():
  """Returns the Python files of the project."""
  folders = ('benchmarks', 'configs', 'data_pipeline', 'dreamprvr_jax', 'tests')
  for folder in folders:
    yield from sorted((ROOT / folder).rglob('*.py'))


def citations(text):
  """Returns the headings that a file cites; they may span lines."""
  found = re.findall(
    r'docs/method\.md,\s+((?:"[^"]+"(?:,\s+|\s+and\s+)?)+)', text
  )
  return [
    ' '.join(heading.split())
    for several in found
    for heading in re.findall(r'"([^"]+)"', several)
  ]


def test_citations_are_read():
  text = 'Source: docs/method.md, "Triplet\n  ranking" and "NCE".'
  assert citations(text) == ['Triplet ranking', 'NCE']


def test_cited_headings_exist():
  missing = {
    (path.relative_to(ROOT).as_posix(), heading)
    for path in sources()
    if path != pathlib.Path(__file__)
    for heading in citations(path.read_text('utf-8'))
    if heading not in HEADINGS
  }
  assert not missing


def test_headings_differ():
  assert len(set(HEADINGS)) == len(HEADINGS)


def test_sections_that_the_page_names_exist():
  prose = re.sub(r'```.*?```', '', TEXT, flags=re.DOTALL)
  named = {' '.join(x.split()) for x in re.findall(r'"([A-Z][^"]+)"', prose)}
  assert named
  assert named <= set(HEADINGS)


def quoted():
  """Returns the texts between backticks in prose, without the table of numbers,
  which has keys of the config."""
  text = TEXT[: TEXT.index('## Numbers by dataset')]
  prose = re.sub(r'```.*?```', '', text, flags=re.DOTALL)
  return sorted(set(re.findall(r'`([^`\n]+)`', prose)))


def module_file(parts):
  """Returns the file of the longest module that a dotted name begins with, and
  the rest of the name."""
  for count in range(len(parts), 0, -1):
    path = ROOT / 'dreamprvr_jax' / pathlib.Path(*parts[:count])
    for candidate in (path.with_suffix('.py'), path / '__init__.py'):
      if candidate.exists():
        return candidate, parts[count:]
  return None, parts


def names_of(path):
  """Returns the names that a module defines at its top level."""
  for node in ast.parse(path.read_text('utf-8')).body:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
      yield node.name
    elif isinstance(node, ast.Assign):
      yield from (t.id for t in node.targets if isinstance(t, ast.Name))
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
      yield node.target.id


def test_files_that_the_page_names_exist():
  files = [x for x in quoted() if re.fullmatch(r'[\w/]+/(\w+\.py)?', x)]
  files = [x for x in files if 'NAME' not in x]
  assert len(files) > 20
  for name in files:
    assert (ROOT / name).exists() or (ROOT / 'dreamprvr_jax' / name).exists(), (
      name
    )


def test_names_that_the_page_gives_exist():
  folders = {path.name for path in (ROOT / 'dreamprvr_jax').iterdir()}
  dotted = [
    name.partition('(')[0]
    for name in quoted()
    if re.match(r'\w+(\.\w+)+', name) and name.partition('.')[0] in folders
  ]
  assert len(dotted) > 30
  for name in dotted:
    if name.endswith('.py'):
      continue
    path, rest = module_file(name.split('.'))
    assert path is not None, name
    assert not rest or rest[0] in set(names_of(path)), name


def rows():
  """Returns (key, models, values by dataset) of the table of numbers."""
  section = TEXT[TEXT.index('## Numbers by dataset') :]
  for line in section.splitlines():
    cells = [cell.strip() for cell in line.strip('|').split('|')]
    if line.startswith('| `') and len(cells) == 5:
      key, models, *values = cells
      numbers = [NEVER if v == 'never' else float(v) for v in values]
      yield key.strip('`'), models_of(models), numbers


def models_of(words):
  """Returns the models that a cell names."""
  words, _, less = words.partition(' but ')
  groups = {'all': set(TRAINED), 'consolidated': CONSOLIDATED}
  found = set()
  for word in words.split(', '):
    found |= groups.get(word, {word})
  return found - {less}


@functools.cache
def config_of(dataset, model):
  return dataset.get_config(model)


def number(dataset, model, key):
  section, _, name = key.partition('.')
  return config_of(dataset, model)[section][name]


def test_numbers_are_those_of_the_configs():
  table = list(rows())
  assert len(table) > 40
  for key, models, numbers in table:
    for model in models:
      found = [number(dataset, model, key) for dataset in DATASETS]
      assert found == pytest.approx(numbers), (key, model)


def test_no_number_is_left_out():
  stated = {(key, model) for key, models, _ in rows() for model in models}
  defaults = {
    'optimizer.warmup': 0.01,
    'optimizer.weight_decay': 0.01,
    'train.epochs': 100,
    'train.patience': 10,
    'train.hard_negative_epoch': 20,
    'data.batch_size': 128,
    'loss.hard_pool': 20,
  }
  for model in TRAINED:
    for dataset in DATASETS:
      for key, value in defaults.items():
        if (key, model) not in stated:
          assert number(dataset, model, key) == value, (key, model)
