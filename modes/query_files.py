"""--queries=FILE: queries by id, as word features or as sentences."""

import pathlib
import zipfile

import h5py
import numpy as np

from data_pipeline import rows
from data_pipeline.hdf5 import Hdf5Store, names_in
from dreamprvr_jax import text
from dreamprvr_jax.errors import UserError

_ENDINGS = ('.npz', '.h5', '.hdf5')
_SENTENCES = ('.txt', '.jsonl')


def read_queries(path: str, width: int) -> dict[str, np.ndarray]:
  """Returns {id in NFC: (words, width) float32} of a file, in its order.

  Args:
    path: .npz with one array per query, or HDF5 with one dataset per query.
    width: Of a word's features.

  Raises:
    UserError: If it is no such file, or a query's features do not fit.
    DataError: If an HDF5 file is missing or damaged.
  """
  ending = pathlib.Path(path).suffix.lower()
  if ending not in _ENDINGS:
    raise UserError(
      f'--queries={path}: the file ends in {ending!r}; give an .npz, .h5 or '
      '.hdf5 file with one (words, width) array per query id, or sentences: '
      '.txt with one on each line, or .jsonl'
    )
  if not pathlib.Path(path).is_file():
    raise UserError(f'--queries={path}: there is no such file')
  found = _npz(path) if ending == '.npz' else _hdf5(path)
  if not found:
    raise UserError(f'--queries={path}: the file holds no query')
  names = text.by_normal(found, f'--queries={path}')
  return {
    text.check(name, f'--queries={path}: the id {name!r}'): _checked(
      path, name, found[stored], width
    )
    for name, stored in names.items()
  }


def holds_sentences(path: str) -> bool:
  """Returns whether a file is one for `read_sentences`."""
  return pathlib.Path(path).suffix.lower() in _SENTENCES


def read_sentences(path: str) -> dict[str, str]:
  """Returns {id: sentence} of a file in UTF-8, both in NFC, in its order.

  Args:
    path: .txt with a sentence on each line, or .jsonl with rows {"text"} and,
      if wanted, "id". Without one, the number of the line is the id. Blank
      lines are passed over.

  Raises:
    UserError: If it is no such file, a row has no text, or an id comes twice.
  """
  try:
    lines = text.read_rows(path)
  except FileNotFoundError:
    raise UserError(f'--queries={path}: there is no such file') from None
  found: dict[str, str] = {}
  for number, line in enumerate(lines, 1):
    if text.is_blank(line):
      continue
    name, sentence = str(number), text.normal(line.strip())
    if path.lower().endswith('.jsonl'):
      name, sentence = _sentence_row(f'{path}:{number}', line, name)
    if name in found:
      raise UserError(
        f'--queries={path}:{number}: the query {name!r} comes twice; give '
        'each an id of its own'
      )
    found[name] = sentence
  if not found:
    raise UserError(f'--queries={path}: the file holds no query')
  return found


def _sentence_row(where: str, line: str, name: str) -> tuple[str, str]:
  try:
    row = rows.parse(line)
    if 'text' not in row:
      raise rows.RowError('"text" is missing')
    sentence = rows.sentence(row['text'])
    name = rows.name(row.get('id', name), 'id')
  except UserError as error:
    raise UserError(
      f'--queries={where} is no query ({error}); expected {{"id": "...", '
      '"text": "a sentence"}'
    ) from None
  if text.is_blank(sentence):
    raise UserError(
      f'--queries={where}: the query {name!r} has no text; write what to look '
      'for'
    )
  return name, sentence


def _npz(path: str) -> dict[str, np.ndarray]:
  try:
    with np.load(path, allow_pickle=False) as file:
      return {name: file[name] for name in file.files}
  except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
    raise UserError(
      f'--queries={path}: the file cannot be read as .npz of plain numbers '
      f'({error}); write it with numpy.savez'
    ) from error


def _hdf5(path: str) -> dict[str, np.ndarray]:
  try:
    with h5py.File(path, 'r', locking=False) as file:
      ids = names_in(file)
  except (OSError, RuntimeError):
    # The store says what is wrong with it.
    ids = []
  store = Hdf5Store(pathlib.Path(path), ids)
  for name in ids:
    problem = store.problem(name)
    if problem:
      raise UserError(f'--queries={path}: the query {name!r} {problem}')
  found = {name: store.read(name) for name in ids if name in store}
  store.close()
  return found


def _checked(path: str, name: str, x: np.ndarray, width: int) -> np.ndarray:
  """Returns a query's features if they fit."""
  problem = ''
  if x.ndim != 2 or x.shape[1] != width or not len(x):
    problem = f'has the shape {x.shape} where (words, {width}) was expected'
  elif x.dtype.kind not in 'fiu':
    problem = f'holds {x.dtype} where numbers were expected'
  elif not np.isfinite(x).all():
    problem = 'holds numbers that are not finite'
  if problem:
    raise UserError(
      f'--queries={path}: the query {name!r} {problem}; make its word features '
      'as those that the checkpoint was trained on'
    )
  return x.astype(np.float32)
