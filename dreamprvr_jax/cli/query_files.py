"""--queries=FILE: queries by id, as word features or sentences."""

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from data_pipeline import csv_rows, rows
from data_pipeline.errors import ArrayError
from data_pipeline.hdf5_file import Hdf5Arrays
from data_pipeline.limits import (
  Claim,
  Limits,
  disk_size,
  memory_problem,
  shape_text,
)
from data_pipeline.npz import Npz
from dreamprvr_jax import text
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.host_memory import available_memory

_ENDINGS = ('.npz', '.h5', '.hdf5')
_SENTENCES = ('.txt', '.jsonl', *csv_rows.ENDINGS)


def read_queries(path: str, width: int) -> dict[str, np.ndarray]:
  """Returns {id in NFC: (words, width) float32} of a file, in its order.

  Args:
    path: .npz with one array per query, or HDF5 with one dataset per query.
    width: Width of the word features.

  Raises:
    UserError: If the file is missing, damaged or of another kind, or a query's
      features do not fit.
  """
  ending = pathlib.Path(path).suffix.lower()
  if ending not in _ENDINGS:
    raise UserError(
      f'--queries={path}: the file ends in {ending!r}; give an .npz, .h5 or '
      '.hdf5 file with one (words, width) array per query id, or sentences: '
      '.txt with one on each line, .jsonl or .csv'
    )
  if not pathlib.Path(path).is_file():
    raise UserError(f'--queries={path}: there is no such file')
  where = f'--queries={path}'
  file = pathlib.Path(path)
  with Npz(file, where) if ending == '.npz' else Hdf5Arrays(file) as store:
    if not store.ids:
      raise UserError(f'{where}: the file has no query')
    return _read_arrays(store, file, where, width)


def holds_sentences(path: str) -> bool:
  """Returns whether a file contains sentences, by its ending."""
  return pathlib.Path(path).suffix.lower() in _SENTENCES


def read_sentences(path: str) -> dict[str, str]:
  """Returns {id: sentence} of a file in UTF-8, both in NFC, in its order.

  Args:
    path: .txt with a sentence on each line, .jsonl with rows of "text" and
      optionally "id", or .csv with columns of these names ("query" for "text").
      By default the number of the line is the id. Blank lines are skipped.

  Raises:
    UserError: If the file is missing, a row has no text, or an id occurs
      twice.
  """
  found: dict[str, str] = {}
  try:
    for number, name, sentence in _each_sentence(path):
      if name in found:
        raise UserError(
          f'--queries={path}:{number}: the query {name!r} comes twice; give '
          'each an id of its own'
        )
      found[name] = sentence
  except FileNotFoundError:
    raise UserError(f'--queries={path}: there is no such file') from None
  if not found:
    raise UserError(f'--queries={path}: the file has no query')
  return found


def _each_sentence(path: str) -> Iterator[tuple[int, str, str]]:
  """Yields (number of the line, id, sentence) of a file."""
  if csv_rows.is_table(path):
    for number, cells in csv_rows.read_table(path, {'query': 'text'}):
      yield number, *_sentence_row(f'{path}:{number}', cells, number)
    return
  for number, line in enumerate(text.read_rows(path), 1):
    if text.is_blank(line):
      continue
    if path.lower().endswith('.jsonl'):
      yield number, *_sentence_row(f'{path}:{number}', line, number)
    else:
      yield number, str(number), text.normal(line.strip())


def _sentence_row(
  where: str, row: str | Mapping[str, Any], number: int
) -> tuple[str, str]:
  """Returns the id and the sentence of a row of JSON or of a table.

  Args:
    where: The file and the line.
    row: The row.
    number: The number of the line, its id if it has none.
  """
  expected = 'the columns "id" and "text"'
  try:
    if isinstance(row, str):
      expected = '{"id": "...", "text": "a sentence"}'
      row = rows.parse(row)
    if 'text' not in row:
      raise rows.RowError('"text" is missing')
    sentence = rows.sentence(row['text'])
    name = rows.name(row.get('id', str(number)), 'id')
  except UserError as error:
    raise UserError(
      f'--queries={where} is no query ({error}); expected {expected}'
    ) from None
  if text.is_blank(sentence):
    raise UserError(
      f'--queries={where}: the query {name!r} has no text; write what to look '
      'for'
    )
  return name, sentence


def _read_arrays(
  store: Npz | Hdf5Arrays, file: pathlib.Path, where: str, width: int
) -> dict[str, np.ndarray]:
  """Returns the arrays of a file by id, float32; checks all shapes first."""
  claims = {}
  available = available_memory()
  names = text.by_normal(store.ids, where)
  for name, stored in names.items():
    text.check(name, f'{where}: the name of the query {name!r}')
    try:
      claim = store.claim(stored)
    except ArrayError as error:
      raise UserError(f'{where}: the query {name!r} {error}') from None
    problem = _claim_problem(claim, width)
    if problem:
      raise _misfit(where, name, problem)
    problem = memory_problem(claim, available)
    if problem:
      raise UserError(f'{where}: the query {name!r} {problem}')
    claims[name] = claim
  excess = Limits().excess(claims, disk_size(file), where)
  for name, problem in excess.items():
    raise UserError(f'{where}: the query {name!r} {problem}')
  found = {}
  for name, stored in names.items():
    try:
      array = store.read(stored)
    except ArrayError as error:
      raise UserError(f'{where}: the query {name!r} {error}') from None
    if not np.isfinite(array).all():
      raise _misfit(where, name, 'has numbers that are not finite')
    found[name] = array.astype(np.float32)
  return found


def _claim_problem(claim: Claim, width: int) -> str:
  """Returns why an array cannot be the features of a query; '' if it can."""
  shape = claim.shape
  if len(shape) != 2 or shape[1] != width or not shape[0]:
    return (
      f'has the shape {shape_text(shape)} where (words, {width}) was expected'
    )
  if claim.dtype.kind not in 'fiu':
    return f'holds {claim.dtype} where numbers were expected'
  return ''


def _misfit(where: str, name: str, problem: str) -> UserError:
  return UserError(
    f'{where}: the query {name!r} {problem}; make its word features like those '
    'that the checkpoint was trained on'
  )
