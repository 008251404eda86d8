"""Feature matrices in the BigFile layout of the official release."""

import ast
import json
import pathlib
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from data_pipeline.errors import DataError
from dreamprvr_jax import text as texts

_DTYPE = np.dtype('<f4')
# The most that is read of shape.txt, which is one line.
_MAX_BYTES = 200
# Ids may contain other white space, such as a no-break space.
_SPACE = re.compile('[ \t\r\n\x0b\x0c]+')
# The files of a folder.
FILES = ('feature.bin', 'id.txt', 'shape.txt', 'video2frames.txt')


def parse_literal_dict(text: str, where: str) -> dict[str, list[str]]:
  """Returns the one dict literal of a text; nothing in it is ever run.

  Args:
    text: The text.
    where: The name of the text in errors.

  Raises:
    DataError: If it is not a literal of {str: [str, ...]}.
  """
  parsed = _literal(text, where)
  if not isinstance(parsed, dict):
    raise DataError(
      f'{where} has a {type(parsed).__name__} where a dict literal '
      '{video id: [frame ids]} was expected; unpack the release again'
    )
  for video, frames in parsed.items():
    if not isinstance(video, str) or not isinstance(frames, (list, tuple)):
      raise DataError(
        f'{where}: the entry of {str(video)[:60]!r} is a '
        f'{type(frames).__name__} where a list of frame ids was expected; '
        'unpack the release again'
      )
    others = [frame for frame in frames if not isinstance(frame, str)]
    if others:
      raise DataError(
        f'{where}: the entry of {video[:60]!r} has {str(others[0])[:60]} '
        'where frame ids were expected; unpack the release again'
      )
  return parsed


def _literal(text: str, where: str) -> Any:
  """Returns the value of a literal.

  Raises:
    DataError: If it is not one.
  """
  if '"' not in text and '\\' not in text:
    # The released files have plain single-quoted strings, which JSON reads many
    # times faster than the literal parser, with the same result.
    try:
      return json.loads(text.replace("'", '"'))
    except (ValueError, RecursionError):
      pass
  try:
    return ast.literal_eval(text.strip())
  # All errors that it documents.
  except (
    ValueError,
    TypeError,
    SyntaxError,
    RecursionError,
    MemoryError,
  ) as error:
    line = getattr(error, 'lineno', None)
    raise DataError(
      f'{where}{f":{line}" if line else ""} is not one dict literal '
      '{video id: [frame ids]} '
      f'({type(error).__name__}: {str(error)[:80]}); unpack the release again'
    ) from None


def read_table(path: pathlib.Path) -> dict[str, list[str]]:
  """Returns the content of a video2frames.txt, {video id: [frame ids]} in NFC.

  Raises:
    DataError, TextError: If it is malformed, not UTF-8, or two ids are the
      same in NFC.
  """
  text = texts.read(path)
  table = parse_literal_dict(text, str(path))
  if text.isascii() and '\\' not in text:
    return table
  composed = {}
  for name, stored in texts.by_normal(table, str(path)).items():
    where = f'{path}: an id of the video {name!r}'
    composed[texts.check(name, where)] = [
      texts.check(frame, where) for frame in table[stored]
    ]
  return composed


class BigFileStore:
  """Random access to the frame matrices of a BigFile folder, memory-mapped."""

  def __init__(self, folder: pathlib.Path, ids: Iterable[str]):
    """Reads the tables of the folder and keeps the rows of the videos `ids`.

    Raises:
      DataError, TextError: If a file is missing, malformed or not UTF-8, if
        feature.bin is not as long as shape.txt says, or if a frame id comes
        twice.
    """
    self.folder = pathlib.Path(folder)
    self.path = self.folder / 'feature.bin'
    self._matrix = None
    self._problems: dict[str, str] = {}
    self._rows: dict[str, slice | np.ndarray] = {}
    missing = [n for n in FILES if not (self.folder / n).is_file()]
    if missing:
      raise DataError(
        f'{self.folder} lacks {", ".join(missing)}; a feature folder has '
        f'either feature.hdf5 or all of {", ".join(FILES)}: unpack the '
        'release again'
      )
    self._read_shape()
    self._locate(ids, self._read_ids())

  def _read_shape(self):
    path = self.folder / 'shape.txt'
    with path.open('rb') as file:
      head = texts.decode(file.read(_MAX_BYTES), str(path))
    first = head.split('\n', 1)[0].split()
    try:
      self._count, self._width = (int(word) for word in first)
    except ValueError:
      self._count = self._width = 0
    if min(self._count, self._width) < 1:
      raise DataError(
        f'{path}:1 has {" ".join(first)[:60]!r} where two integers (number '
        'of frame vectors, width) from 1 on were expected; unpack the release '
        'again'
      )
    size = self.path.stat().st_size
    expected = self._count * self._width * _DTYPE.itemsize
    if size != expected:
      raise DataError(
        f'{self.path} has {size} bytes but {path} says {self._count} x '
        f'{self._width} float32 = {expected} bytes; the file is truncated or '
        'damaged, copy or unpack it again'
      )

  def _read_ids(self) -> dict[str, int]:
    path = self.folder / 'id.txt'
    text = texts.read(path)
    if text.isascii():
      names = text.split()
    else:
      names = [name for name in _SPACE.split(text) if name]
      texts.by_normal(names, str(path))
      names = list(map(texts.normal, names))
    if len(names) != self._count:
      raise DataError(
        f'{path} has {len(names)} frame ids but shape.txt says '
        f'{self._count}; unpack the release again'
      )
    rows = {name: row for row, name in enumerate(names)}
    if len(rows) != len(names):
      twice = next(n for i, n in enumerate(names) if rows[n] != i)
      raise DataError(
        f'{path} has the duplicate frame id {twice!r}, so its features are '
        'ambiguous; unpack the release again'
      )
    return rows

  def _locate(self, ids: Iterable[str], rows: dict[str, int]):
    path = self.folder / 'video2frames.txt'
    video2frames = read_table(path)
    for video in ids:
      frames = video2frames.get(video)
      if frames is None:
        continue
      places = [rows.get(frame, -1) for frame in frames]
      if -1 in places:
        frame = frames[places.index(-1)]
        self._problems[video] = (
          f'frame id {frame!r} of {path} is not in {self.folder / "id.txt"}'
        )
        continue
      if len(set(places)) != len(places):
        self._problems[video] = f'lists a frame id twice in {path}'
        continue
      start, stop = (places[0], places[-1] + 1) if places else (0, 0)
      if places == list(range(start, stop)):
        self._rows[video] = slice(start, stop)
      else:
        self._rows[video] = np.asarray(places, np.int64)

  def __contains__(self, name: str) -> bool:
    return name in self._rows or name in self._problems

  def problem(self, name: str) -> str | None:
    """Returns what is wrong with the matrix of an id in the folder, if
    anything."""
    return self._problems.get(name)

  def shape(self, name: str) -> tuple[int, int]:
    """Returns (rows, width)."""
    rows = self._rows[name]
    if isinstance(rows, slice):
      return rows.stop - rows.start, self._width
    return len(rows), self._width

  def read(self, name: str, max_rows: int | None = None) -> np.ndarray:
    """Returns the first rows of a matrix, float32."""
    if self._matrix is None:
      shape = (self._count, self._width)
      self._matrix = np.memmap(self.path, _DTYPE, 'r', shape=shape)
    rows = self._rows[name]
    return np.asarray(self._matrix[rows][:max_rows]).astype(np.float32)

  def __getstate__(self):
    return {**self.__dict__, '_matrix': None}
