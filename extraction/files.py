"""The video files of a folder, and their ids."""

import os
import pathlib

from data_pipeline.errors import DataError
from data_pipeline.importers.annotations import id_of_file

ENDINGS = ('.mp4', '.avi', '.mkv', '.webm', '.mov', '.m4v')


def find_videos(folder: os.PathLike[str] | str) -> dict[str, pathlib.Path]:
  """Returns {id: file} of a folder and all folders in it, sorted by path; ids
  are those of `id_of_file`. What is hidden is passed over.

  Raises:
    DataError: If there is no folder, no video in it, or two of one id.
  """
  root = pathlib.Path(folder)
  if not root.is_dir():
    raise DataError(f'{root} is no folder; give the one that holds the videos')
  found: dict[str, pathlib.Path] = {}
  for path in sorted(root.rglob('*')):
    hidden = any(p.startswith('.') for p in path.relative_to(root).parts)
    if hidden or path.suffix.lower() not in ENDINGS or not path.is_file():
      continue
    name = id_of_file(path.name)
    if name in found:
      raise DataError(
        f'{found[name]} and {path} have the same id {name!r}; rename one, or '
        'extract their folders into collections of their own (--collection)'
      )
    found[name] = path
  if not found:
    raise DataError(f'{root} holds no video; names end in {" ".join(ENDINGS)}')
  return found
