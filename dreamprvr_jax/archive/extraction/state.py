"""The extracted videos of a collection: stored one by one, gathered at the end.

In the collection's folder:
  .extracting/settings.json   the settings of all its features
  .extracting/parts/*.npz     one video each, not yet in the feature file
  .extracting/parts/*.json    why another machine could not read a file
  .extracting/videos.json     the videos of the feature file, and their files
  FeatureData/extracted/feature.hdf5, durations.json, encoder.json, skipped.json
Each file is replaced in one step, so that the next command can always go on.
"""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import re
import zipfile
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.importers.layout import write_features
from dreamprvr_jax import folders, text
from dreamprvr_jax.archive.extraction.video import Extracted
from dreamprvr_jax.archive.videos.frames import LIMITS, Limits

FEATURE = 'extracted'
OWN = '.extracting'
# Files among the parts: a video, or the rest of a write that was stopped; the
# last form is that of earlier versions.
_PART = re.compile(
  r'(\.[0-9]+(-[0-9a-f]{8})?\.partial\.)?[0-9a-f]{32}\.(npz|json)'
  r'|\.[0-9a-f]{32}\.(npz|json)\.[0-9a-f]{12}\.tmp'
)


@dataclasses.dataclass(frozen=True)
class Source:
  """A file as it was when it was extracted.

  Attributes:
    file: Its path.
    size: Its bytes.
    mtime_ns: When it was last changed, in nanoseconds.
  """

  file: str
  size: int
  mtime_ns: int

  @classmethod
  def of(cls, path: pathlib.Path) -> 'Source':
    """Returns the file as it is now."""
    found = path.stat()
    return cls(str(path.absolute()), found.st_size, found.st_mtime_ns)

  @classmethod
  def gone(cls, path: pathlib.Path) -> 'Source':
    """Returns a file that cannot be read; it equals no other."""
    return cls(str(path.absolute()), -1, -1)

  def same(self, row: dict[str, Any] | None) -> bool:
    """Returns whether a row describes this file, in whatever folder."""
    return row is not None and (row.get('size'), row.get('mtime_ns')) == (
      self.size,
      self.mtime_ns,
    )


class State:
  """The extracted videos of a collection."""

  def __init__(
    self,
    folder: pathlib.Path,
    settings: dict[str, Any],
    limits: Limits = LIMITS,
  ):
    """Opens the state of a collection, or begins one.

    Args:
      folder: The folder of the collection.
      settings: All that the features depend on.
      limits: How long a file may be.

    Raises:
      DataError: If the collection was extracted with other settings.
    """
    self.folder = folder
    self._limits = limits.conditions()
    self.feature_file = folder / 'FeatureData' / FEATURE / 'feature.hdf5'
    self._own = folder / OWN
    self._parts = self._own / 'parts'
    _check_parts(self._parts)
    there = self.feature_file.exists()
    self.videos = _by_id(self._own / 'videos.json') if there else {}
    self.skipped = _by_id(folder / 'skipped.json')
    former = _read_json(self._own / 'settings.json')
    if there and not former:
      raise DataError(
        f'{self.feature_file} was not extracted here; give another --collection'
      )
    if former != settings and (there or any(self._parts.glob('[!.]*.npz'))):
      raise DataError(
        f'{folder} was extracted with other settings '
        f'({_differences(former, settings)}); use the same ones to go on, or '
        'give another --collection'
      )
    self._parts.mkdir(parents=True, exist_ok=True)
    folders.write_json(self._own / 'settings.json', settings, indent=1)

  def has(self, name: str, source: Source) -> bool:
    """Returns whether a video is done and its file unchanged."""
    return source.same(self.videos.get(name)) or source.same(
      _row(_part(self._parts, name))
    )

  def failed(self, name: str, source: Source) -> bool:
    """Returns whether a file could not be read, and the file, the limits and
    PyAV are unchanged."""
    row = self.skipped.get(name)
    limits = (row or {}).get('limits', self._limits)
    return source.same(row) and limits == self._limits

  def skip(self, name: str, source: Source, reason: str) -> None:
    """Remembers that a file cannot be read; `finish` or `note` writes it."""
    self.skipped[name] = {
      **dataclasses.asdict(source),
      'reason': reason,
      'limits': self._limits,
    }

  def forget_reasons(self) -> None:
    """Removes the reasons that a stopped command has left, perhaps with other
    limits."""
    for path in self._parts.glob('[!.]*.json'):
      path.unlink(missing_ok=True)

  def note(self) -> None:
    """Writes skipped.json; removes it if nothing was skipped."""
    path = self.folder / 'skipped.json'
    if self.skipped:
      folders.write_json(path, self.skipped, indent=1)
    else:
      path.unlink(missing_ok=True)

  def finish(self, encoder: dict[str, Any]) -> None:
    """Moves all parts into the feature file and writes the files beside it."""
    found = map(_row, self._parts.glob('[!.]*.npz'))
    parts = {row['id']: row for row in found if row}
    if parts:
      rows = {**self.videos, **parts}
      write_features(self.feature_file, self._gathered(sorted(rows), parts))
      self.videos = rows
      for name in parts:
        self.skipped.pop(name, None)
    if self.videos:
      durations = {name: row['duration'] for name, row in self.videos.items()}
      folders.write_json(self.folder / 'durations.json', durations, indent=1)
      folders.write_json(self.folder / 'encoder.json', encoder, indent=1)
      folders.write_json(self._own / 'videos.json', self.videos, indent=1)
    self.note()
    for path in self._parts.iterdir():
      if _PART.fullmatch(path.name):
        path.unlink()
    with contextlib.suppress(OSError):
      # It stays if it has other files by now.
      self._parts.rmdir()

  def _gathered(
    self, names: list[str], parts: dict[str, Any]
  ) -> Iterator[tuple[str, np.ndarray]]:
    with contextlib.ExitStack() as stack:
      former, stored = None, {}
      if self.feature_file.exists():
        file = h5py.File(self.feature_file, 'r', locking=False)
        former = stack.enter_context(file)
        stored = text.by_normal(former, str(self.feature_file))
      for name in names:
        if name in parts:
          with np.load(_part(self._parts, name)) as part:
            yield name, part['features']
        else:
          assert former is not None
          yield name, np.asarray(former[stored[name]])


def keep(folder: str, name: str, source: Source, found: Extracted) -> None:
  """Stores a video among the parts of a collection; syncs it to disk."""
  row = {
    **dataclasses.asdict(source),
    'id': name,
    'frames': len(found.features),
    'duration': found.duration,
  }
  path = _part(pathlib.Path(folder) / OWN / 'parts', name)
  with folders.replacing(path) as partial:
    np.savez(partial, row=np.array(json.dumps(row)), features=found.features)


def keep_reason(folder: str, name: str, source: Source, reason: str) -> None:
  """Stores why a file cannot be read, for the process that gathers."""
  path = _part(pathlib.Path(folder) / OWN / 'parts', name)
  row = {**dataclasses.asdict(source), 'reason': reason}
  folders.write_json(path.with_suffix('.json'), row, indent=1)


def kept(folder: str, name: str, source: Source) -> float | str | None:
  """Returns the seconds of a stored video, or the stored reason; None if there
  is neither."""
  path = _part(pathlib.Path(folder) / OWN / 'parts', name)
  for row, key in (
    (_row(path), 'duration'),
    (_read_json(path.with_suffix('.json')) or None, 'reason'),
  ):
    if row is not None and source.same(row):
      return row.get(key)
  return None


def _check_parts(folder: pathlib.Path) -> None:
  """Raises DataError if the folder of the parts, which is cleared in the end,
  has other files."""
  for path in folder.iterdir() if folder.exists() else ():
    if folders.is_of_system(path.name):
      continue
    if not _PART.fullmatch(path.name) or path.is_dir():
      raise DataError(
        f'{path} was not written by --mode=extract, which clears the folder '
        'that contains it; nothing was changed: move it elsewhere'
      )


def _part(folder: pathlib.Path, name: str) -> pathlib.Path:
  # Ids may be longer than a file's name.
  return folder / f'{hashlib.sha256(name.encode()).hexdigest()[:32]}.npz'


def _row(path: pathlib.Path) -> dict[str, Any] | None:
  """Returns the row of a part; None if the part is missing or damaged."""
  try:
    with np.load(path) as file:
      return json.loads(str(file['row']))
  except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
    return None


def _differences(former: dict[str, Any], now: dict[str, Any]) -> str:
  one, other = _flat(former), _flat(now)
  keys = [k for k in one | other if one.get(k) != other.get(k)]
  if 'encoder.name' in keys:
    # Two encoders differ in all their keys.
    keys = [k for k in keys if k in now or k == 'encoder.name']
  return '; '.join(
    f'{key}: {one.get(key)!r} there, {other.get(key)!r} now'
    for key in sorted(keys)
  )


def _flat(settings: dict[str, Any], prefix: str = '') -> dict[str, Any]:
  found = {}
  for key, value in settings.items():
    if isinstance(value, dict):
      found.update(_flat(value, f'{prefix}{key}.'))
    else:
      found[f'{prefix}{key}'] = value
  return found


def _read_json(path: pathlib.Path) -> dict[str, Any]:
  """Returns the content of a JSON file; {} if there is none.

  Raises:
    UserError: If it is no JSON object.
  """
  try:
    found = text.parse_json(text.read(path), str(path))
  except FileNotFoundError:
    return {}
  if not isinstance(found, dict):
    raise DataError(
      f'{path} has {type(found).__name__} where a JSON object was expected; '
      'delete it'
    )
  return found


def _by_id(path: pathlib.Path) -> dict[str, Any]:
  """Returns the rows of a file by id; composes (NFC) the ids of older files.

  Raises:
    DataError: If a row does not describe a file.
  """
  found = _read_json(path)
  for name, row in found.items():
    if not isinstance(row, dict) or not row.keys() >= {'size', 'mtime_ns'}:
      raise DataError(
        f'{path} says nothing of the size and time of the file of {name!r}; '
        'delete it'
      )
  return {text.normal(name): row for name, row in found.items()}
