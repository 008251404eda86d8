"""Words and line widths of pages, docstrings, comments and errors."""

import ast
import functools
import io
import pathlib
import re
import tokenize

import pytest

ROOT = pathlib.Path(__file__).parents[2]
WIDEST = 120
# Words with plainer forms, such as folders or modules for rooms.
FORBIDDEN = ('rooms', 'anew', 'whose lie', 'common notes', 'quirk Q')
_PATTERN = re.compile('|'.join(rf'\b{word}' for word in FORBIDDEN))
# A comment, docstring or `name: ...` that says only what a thing belongs to.
_FRAGMENT = re.compile(r'\A(?:#\s*)?Of\s|^\s*(?:#\s*)?\**\w+:\s+Of\s', re.M)
SOURCES = ('dreamprvr_jax', 'data_pipeline', 'configs', 'benchmarks', 'docs')
PAGES = sorted(
  [
    *(ROOT / name for name in ('README.md', 'CHANGELOG.md', 'CONTRIBUTING.md')),
    *(ROOT / 'docs').glob('*.md'),
  ]
)


def name_of(path):
  return path.relative_to(ROOT).as_posix()


def remarks(source):
  """Yields (line, text) of comments and docstrings."""
  for token in tokenize.generate_tokens(io.StringIO(source).readline):
    if token.type == tokenize.COMMENT:
      yield token.start[0], token.string
  kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, kinds) and (text := ast.get_docstring(node)):
      yield node.body[0].lineno, text


@functools.cache
def remarks_in(path):
  return list(remarks(path.read_text('utf-8')))


def texts(path):
  """Yields (line, text) of comments and docstrings; outside the tests also of
  other strings."""
  yield from remarks_in(path)
  if not path.is_relative_to(ROOT / 'tests'):
    for node in ast.walk(ast.parse(path.read_text('utf-8'))):
      if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.lineno, node.value


def forbidden(text):
  """Returns the forbidden words of a text; they may span lines."""
  return _PATTERN.findall(' '.join(text.split()))


@pytest.mark.parametrize('path', PAGES, ids=name_of)
def test_tables_are_not_too_wide(path):
  wide = [
    (number, len(line))
    for number, line in enumerate(path.read_text('utf-8').splitlines(), 1)
    if line.lstrip().startswith('|') and len(line) > WIDEST
  ]
  assert not wide


@pytest.mark.parametrize('path', PAGES, ids=name_of)
def test_pages_have_plain_words(path):
  assert not forbidden(path.read_text('utf-8'))


@pytest.mark.parametrize('folder', [*SOURCES, 'tests'])
def test_sources_have_plain_words(folder):
  found = [
    (name_of(path), line, words)
    for path in sorted((ROOT / folder).rglob('*.py'))
    if path != pathlib.Path(__file__)
    for line, text in texts(path)
    if (words := forbidden(text))
  ]
  assert not found


@pytest.mark.parametrize('folder', [*SOURCES, 'tests'])
def test_remarks_say_what_a_thing_is(folder):
  found = [
    (name_of(path), line, text)
    for path in sorted((ROOT / folder).rglob('*.py'))
    for line, text in remarks_in(path)
    if _FRAGMENT.search(text)
  ]
  assert not found


@pytest.mark.parametrize(
  'source',
  [
    '# Of the model.\n',
    'x = 1  # Of the model.\n',
    '"""Of the model."""\n',
    'def f(x):\n  """Returns x.\n\n  Args:\n    x: Of the model.\n  """\n',
  ],
)
def test_fragments_are_found(source):
  assert [text for _, text in remarks(source) if _FRAGMENT.search(text)]


def test_sentences_are_not_fragments():
  source = 'x = "# Of"  # Often used.\ndef f():\n  """Name: the model. Of."""\n'
  found = [text for _, text in remarks(source)]
  assert found == ['# Often used.', 'Name: the model. Of.']
  assert not any(map(_FRAGMENT.search, found))


def test_words_are_found():
  assert forbidden('two\nrooms; make it anew') == ['rooms', 'anew']
  assert not forbidden('mushrooms have manewers')
