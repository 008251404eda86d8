"""Tests of what the data pipeline imports."""

import pathlib
import re
import subprocess
import sys

import data_pipeline

_FOLDER = pathlib.Path(data_pipeline.__file__).parent


def test_no_tensorflow_until_it_is_needed():
  names = [path.stem for path in _FOLDER.glob('*.py') if path.stem[0] != '_']
  script = (
    f'import sys; sys.path.insert(0, {str(_FOLDER.parent)!r})\n'
    + ''.join(f'import data_pipeline.{name}\n' for name in names)
    + "assert not {'tensorflow', 'jax', 'flax'} & set(sys.modules)"
  )
  subprocess.run([sys.executable, '-c', script], check=True)


def test_nothing_in_a_file_can_be_run():
  for path in _FOLDER.rglob('*.py'):
    text = path.read_text()
    assert not re.search(r'(?<![\w.])eval\(|import pickle|exec\(', text), path
    assert 'allow_pickle=True' not in text, path
