"""The docs show the measured results, and no others."""

import importlib.util
import pathlib

ROOT = pathlib.Path(__file__).parents[2]


def load():
  spec = importlib.util.spec_from_file_location(
    'table', ROOT / 'benchmarks' / 'table.py'
  )
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_docs_are_up_to_date():
  table = load()
  text = table.DOCS.read_text()
  assert table.START in text
  assert text == table.with_table(text)
  assert table.rows()
