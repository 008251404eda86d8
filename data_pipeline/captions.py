"""Caption files: one caption a line, its id first."""

import dataclasses
import pathlib
import re

from data_pipeline.errors import BadItemError, DataError
from dreamprvr_jax import text

# Characters that no id may contain.
CONTROL = re.compile('[\x00-\x1f\x7f-\x9f]')


@dataclasses.dataclass(frozen=True)
class Caption:
  """One line of a caption file."""

  id: str
  text: str
  line: int

  @property
  def video(self) -> str:
    """The id of the video: the part before the first '#'."""
    return self.id.split('#', 1)[0]

  @property
  def number(self) -> int:
    """The k of '<video id>#enc#<k>'; -1 where it is not a number."""
    tail = self.id.rsplit('#', 1)[-1]
    return int(tail) if tail.isascii() and tail.isdigit() else -1


def gallery_path(captions: pathlib.Path) -> pathlib.Path:
  """Returns the path of the list of a split's videos, from that of its
  captions."""
  name = captions.name.removesuffix('.caption.txt')
  return captions.with_name(f'{name}.videos.txt')


def read_gallery(captions: pathlib.Path) -> list[str]:
  """Returns the videos of a split in the order of their list, one id a line;
  empty if there is no list, so that the captions name them.

  Raises:
    DataError: If a line is blank or repeated.
    TextError: If the file is not UTF-8.
  """
  path = gallery_path(captions)
  if not path.is_file():
    return []
  lines = text.read_rows(path)
  while lines and text.is_blank(lines[-1]):
    lines.pop()
  names = list(map(text.normal, lines))
  for number, name in enumerate(names, 1):
    if text.is_blank(name) or '#' in name or CONTROL.search(name):
      raise DataError(
        f'{path}:{number} is {name[:60]!r} where the id of a video was '
        'expected; correct the line'
      )
  if len(set(names)) < len(names):
    twice = next(n for n in names if names.count(n) > 1)
    raise DataError(f'{path} lists {twice!r} twice; remove one of the lines')
  return names


def _parse(
  line: str | text.TextError, path: pathlib.Path, number: int
) -> Caption:
  where = f'{path}:{number}'
  if isinstance(line, text.TextError):
    raise BadItemError(where, str(line))
  if text.is_blank(line):
    raise BadItemError(where, 'blank line, a caption was expected')
  name, *rest = text.normal(line).split(None, 1)
  if not name.split('#', 1)[0] or '#' not in name or CONTROL.search(name):
    raise BadItemError(
      where,
      f'malformed line, it begins with {name[:60]!r} where a caption id such '
      "as 'v_abc#enc#0' was expected",
    )
  if not rest or text.is_blank(rest[0]):
    raise BadItemError(where, f'caption {name!r} has no text after its id')
  return Caption(name, ' '.join(rest[0].split()), number)


def read_captions(
  path: pathlib.Path, skip_bad: bool = False
) -> tuple[list[Caption], list[tuple[str, str]]]:
  """Returns the captions of a file in file order, and the lines left out.

  Args:
    path: The file in UTF-8, `<caption id> <sentence>` on each line; blank
      lines at the end are fine. Ids and sentences are read in NFC.
    skip_bad: Whether to leave out bad lines instead of raising.

  Returns:
    The captions, and (where, reason) for each line left out.

  Raises:
    BadItemError: For a line that is malformed or not UTF-8, a caption without
      text, or a repeated id, with the file and the line number.
    DataError: If nothing is left.
    TextError: If the whole file is in another encoding than UTF-8.
  """
  captions, skipped, seen = [], [], {}
  lines = text.read_each_row(path)
  while lines and isinstance(lines[-1], str) and text.is_blank(lines[-1]):
    lines.pop()
  for number, line in enumerate(lines, 1):
    try:
      caption = _parse(line, path, number)
      if caption.id in seen:
        raise BadItemError(
          f'{path}:{number}',
          f'duplicate caption id {caption.id!r}, first seen in line '
          f'{seen[caption.id]}',
        )
    except BadItemError as error:
      if not skip_bad:
        raise
      skipped.append((error.item, error.reason))
      continue
    seen[caption.id] = number
    captions.append(caption)
  if not captions:
    raise DataError(
      f'{path} holds no usable caption ({len(lines)} lines); expected one '
      '`<video id>#enc#<k> <sentence>` a line, unpack the release again'
    )
  return captions, skipped
