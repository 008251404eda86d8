"""Files about the project agree with the code."""

import ast
import pathlib
import re

import yaml

import dreamprvr_jax

ROOT = pathlib.Path(__file__).parents[2]


def test_citation_is_of_this_version():
  citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text('utf-8'))
  assert citation['version'] == dreamprvr_jax.__version__
  assert citation['license'] == 'Apache-2.0'


def test_changelog_has_this_version():
  text = (ROOT / 'CHANGELOG.md').read_text('utf-8')
  versions = re.findall(r'^## ([\d.]+)', text, re.MULTILINE)
  assert versions[0] == dreamprvr_jax.__version__


def test_checks_run_on_the_pythons_of_nox():
  text = (ROOT / '.github/workflows/ci.yml').read_text('utf-8')
  matrix = yaml.safe_load(text)['jobs']['tests']['strategy']['matrix']
  tree = ast.parse((ROOT / 'noxfile.py').read_text('utf-8'))
  pythons = next(
    ast.literal_eval(node.value)
    for node in tree.body
    if isinstance(node, ast.Assign) and node.targets[0].id == 'PYTHONS'
  )
  assert tuple(matrix['python']) == pythons


def test_paths_that_the_guide_names_exist():
  text = (ROOT / 'CONTRIBUTING.md').read_text('utf-8')
  named = set(re.findall(r'`((?:\w+/)+(?:\w+\.py)?|\w+\.py)`', text))
  own = {name for name in named if pathlib.Path(name).stem in ('x', 'x_test')}
  assert len(named - own) > 15
  for name in named - own:
    assert (ROOT / name).exists() or (ROOT / 'dreamprvr_jax' / name).exists(), (
      name
    )
