"""Caption files: one caption a line, its id first."""

import dataclasses
import pathlib

from data_pipeline.errors import BadItemError, DataError


@dataclasses.dataclass(frozen=True)
class Caption:
  """One line of a caption file."""

  id: str
  text: str
  line: int

  @property
  def video(self) -> str:
    """The id of the video: what stands before the first '#'."""
    return self.id.split('#', 1)[0]

  @property
  def number(self) -> int:
    """The k of '<video id>#enc#<k>'; -1 where it is not a number."""
    tail = self.id.rsplit('#', 1)[-1]
    return int(tail) if tail.isascii() and tail.isdigit() else -1


def _decode(raw: bytes) -> str:
  try:
    return raw.decode('utf-8')
  except UnicodeDecodeError:
    # The text is only shown; one odd byte must not cost the corpus.
    return raw.decode('iso-8859-1')


def _parse(raw: bytes, path: pathlib.Path, number: int) -> Caption:
  where = f'{path}:{number}'
  parts = _decode(raw).split(None, 1)
  name = parts[0]
  if not name.split('#', 1)[0] or '#' not in name:
    raise BadItemError(
      where,
      f'malformed line, it begins with {name[:60]!r} where a caption id such '
      "as 'v_abc#enc#0' was expected",
    )
  if len(parts) < 2 or not parts[1].split():
    raise BadItemError(where, f'caption {name!r} has no text after its id')
  return Caption(name, ' '.join(parts[1].split()), number)


def read_captions(
  path: pathlib.Path, skip_bad: bool = False
) -> tuple[list[Caption], list[tuple[str, str]]]:
  """Returns the captions of a file in file order, and what was left out.

  Args:
    path: the file, `<caption id> <sentence>` on each line; blank lines at the
      end are fine.
    skip_bad: leave bad lines out instead of raising.

  Returns:
    The captions, and (where, reason) for each line left out.

  Raises:
    BadItemError: for a malformed line, a caption without text, or an id that
      was seen before, with the file and the line number.
    DataError: if nothing is left.
  """
  captions, skipped, seen = [], [], {}
  lines = path.read_bytes().split(b'\n')
  while lines and not lines[-1].strip():
    lines.pop()
  for number, raw in enumerate(lines, 1):
    try:
      if not raw.strip():
        raise BadItemError(
          f'{path}:{number}', 'blank line, a caption was expected'
        )
      caption = _parse(raw, path, number)
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
