"""The documentation site: the diagram of the imports, pages and links."""

import importlib.util
import pathlib
import re

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[2]
DOCS = ROOT / 'docs'


def script(name):
  """Returns a script of the docs, which is not a package."""
  spec = importlib.util.spec_from_file_location(name, DOCS / f'{name}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


picture, hooks = script('import_picture'), script('site_hooks')


def test_picture_shows_the_imports():
  drawn = set(
    re.findall(r'id="(\w+_imports_\w+)"', picture.PICTURE.read_text())
  )
  expected = set().union(*map(picture.edge_names, picture.graphs()))
  assert drawn == expected, 'draw it again: python docs/import_picture.py'


def test_edges_that_follow_from_others_are_left_out():
  graph = {'a': {'b', 'c', 'd'}, 'b': {'c'}, 'c': set(), 'd': set()}
  assert picture.reduced(graph) == {**graph, 'a': {'b', 'd'}}
  assert picture.levels(graph) == {'a': 2, 'b': 1, 'c': 0, 'd': 0}


def test_circles_are_refused():
  with pytest.raises(ValueError, match=r"circle: \['a', 'b'\]"):
    picture.levels({'a': {'b'}, 'b': {'a'}})


def test_every_folder_and_package_is_described():
  text = (DOCS / 'architecture.md').read_text('utf-8')
  _, inside, archive = picture.graphs()
  folders = {*inside, *archive} - {picture.FILES}
  assert folders <= set(re.findall(r'^\| `(\w+)` \|', text, re.MULTILINE))
  for package in picture.PACKAGES:
    assert f'`{package}/`' in text or f'`{package}.py`' in text


def pages(entries):
  """Returns the files of a navigation."""
  for entry in entries:
    for value in entry.values():
      if isinstance(value, str):
        yield value
      else:
        yield from pages(value)


def test_navigation_has_every_page():
  nav = yaml.safe_load((ROOT / 'mkdocs.yml').read_text('utf-8'))['nav']
  there = {path.name for path in DOCS.glob('*.md')}
  assert sorted(pages(nav)) == sorted(there)


def test_links_out_of_the_docs_become_names():
  text = 'See [a](../README.md#x), [`b`](../setup.py) and [c](data.md).'
  assert hooks.plain_names(text, DOCS) == 'See `a`, `b` and [c](data.md).'


def test_links_out_of_the_docs_lead_somewhere():
  for path in DOCS.glob('*.md'):
    hooks.plain_names(path.read_text('utf-8'), DOCS)
  with pytest.raises(FileNotFoundError, match=r'gone\.py does not exist'):
    hooks.plain_names('[a](../gone.py)', DOCS)
