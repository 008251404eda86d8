"""Reads the files of `torch.save` without torch and without trusting them.

Such a file is a zip archive: `data.pkl` is a pickle of the saved object, and
`data/<key>` has the raw numbers of each storage that its tensors use. A pickle
can call any function by its name. So it is first read into inert records
(`inert_pickle`), which become plain data by fixed rules (`inert_values`; those
for tensors are in `torch_tensors`). Nothing that the file names is ever
imported or run.
"""

import os
import zipfile
from collections.abc import Callable
from typing import Any

from dreamprvr_jax.host_memory import available_memory
from dreamprvr_jax.interop.inert_pickle import (
  PickleError,
  Record,
  load_records,
)
from dreamprvr_jax.interop.inert_values import Opaque, Rebuilder
from dreamprvr_jax.interop.torch_tensors import (
  ArchiveError,
  Tensors,
  name_value,
)

__all__ = ['ArchiveError', 'read_archive']

# zipfile raises these for a member that it cannot read: NotImplementedError for
# unsupported forms of the format, UnicodeDecodeError for a name that is not
# text.
_DAMAGE = (
  zipfile.BadZipFile,
  EOFError,
  OSError,
  NotImplementedError,
  UnicodeDecodeError,
)
# ValueError: the directory of the archive may point outside of the file.
_NO_ZIP = (*_DAMAGE, ValueError)
# Most bytes of the pickle alone, without weights: a thousand times the size in
# a checkpoint.
_MAX_PICKLE = 2**28

_RESAVE = 'load it with torch and save it again with torch >= 1.6'


def read_archive(
  path: str | os.PathLike,
  *,
  lenient: bool = False,
  only: Callable[[list[Any]], set[Any]] | None = None,
) -> Any:
  """Returns the object that `torch.save` wrote, as plain data.

  Dicts of every kind come back as dict (keys in their order; a state dict's
  `_metadata` is dropped), deques as list, `torch.Size` as tuple, devices and
  element types as str ('cuda:0', 'torch.float32'), numpy scalars as Python
  numbers. Tensors and parameters come back as read-only numpy arrays with
  the tensor's shape and element type, except that bfloat16 and the float8
  types become float32. Tensors that shared a storage share memory here too.
  Objects of other classes, quantised and sparse tensors among them, come back
  as `Opaque`; so does a dict key that cannot be one as plain data, such as a
  tensor (which is then in `Opaque.args`).

  Args:
    path: A file written by `torch.save` of torch 1.6 or later.
    lenient: Whether a value that cannot be read, such as a tensor that reaches
      outside its storage, becomes an `Opaque` with the reason in `problem`
      instead of an error.
    only: From the keys of a dict to those that are read. The other values come
      back as `Opaque`.

  Returns:
    The object.

  Raises:
    ArchiveError: If the file has another format or an older one of torch, is
      damaged or truncated, or declares more bytes than it has or than fit into
      memory; unless lenient, also if a value cannot be read.
    OSError: If the file cannot be opened.
  """
  path = os.fspath(path)
  with open(path, 'rb') as file:
    start = file.read(512)
    size = file.seek(0, os.SEEK_END)
    try:
      archive = zipfile.ZipFile(file)
    except _NO_ZIP as error:
      raise ArchiveError(f'{path}: {_diagnose(start)}.') from error
    with archive:
      try:
        return _Reader(archive, size).read(lenient, only)
      except ArchiveError as error:
        raise ArchiveError(f'{path}: {error}.') from error


def _diagnose(start: bytes) -> str:
  """Returns the format of a file that is not a zip archive."""
  expected = 'expected a zip archive written by torch.save'
  if start.startswith(b'PK\x03\x04'):
    return f'the zip archive is truncated or damaged; {expected}'
  if start.startswith(b'\x80') and b'\x6c\xfc\x9c\x46\xf9\x20' in start[:16]:
    return f'a torch file in the format before torch 1.6; {_RESAVE}'
  if start.startswith(b'\x80'):
    return f'a bare pickle, not a zip archive; {_RESAVE} if torch wrote it'
  if start[257:262] == b'ustar':
    return f'a tar file, the oldest format of torch; {_RESAVE}'
  if not start:
    return f'the file is empty; {expected}'
  return f'not a zip archive (it starts with {start[:8]!r}); {expected}'


class _Reader:
  """One open archive and its members."""

  def __init__(self, archive: zipfile.ZipFile, size: int):
    self._archive = archive
    self._size = size
    self._free = available_memory()
    names = archive.namelist()
    roots = [n for n in names if n == 'data.pkl' or n.endswith('/data.pkl')]
    if len(roots) != 1:
      found = ', '.join((roots or names)[:5]) or 'no members at all'
      raise ArchiveError(f'expected one member data.pkl; found {found}')
    # The folder is named after the file, or just `archive`.
    self._prefix = roots[0].removesuffix('data.pkl')
    if self._prefix + 'constants.pkl' in names:
      raise ArchiveError(
        'a TorchScript program; expected a file written by torch.save'
      )
    order = b'little'  # Archives before torch 2.1 don't say.
    if self._prefix + 'byteorder' in names:
      order = self._member('byteorder').strip()
    if order not in (b'little', b'big'):
      raise ArchiveError(f'byte order {order[:20]!r}; expected little or big')
    self._tensors = Tensors(self._member, '<' if order == b'little' else '>')

  def read(
    self, lenient: bool, only: Callable[[list[Any]], set[Any]] | None
  ) -> Any:
    """Returns the archive's object, see `read_archive`."""
    data = self._member('data.pkl', _MAX_PICKLE)
    try:
      root = load_records(data)
    except PickleError as error:
      raise ArchiveError(f'data.pkl is no readable pickle: {error}') from error
    if only and isinstance(root, Record):
      keys = [key for key, _ in root.items if isinstance(key, str)]
      wanted = only(keys)
      passed = Opaque('', '', problem='it was passed over')
      root.items = [
        (key, value if not isinstance(key, str) or key in wanted else passed)
        for key, value in root.items
      ]
    rules = self._tensors.rules(lambda record: rebuilder.call(record))
    rebuilder = Rebuilder(
      rules, name_value, self._tensors.storage, lenient=lenient
    )
    try:
      return rebuilder.plain(root)
    except ArchiveError:
      raise
    except ValueError as error:  # What rules raise for their arguments.
      raise ArchiveError(str(error)) from error

  def _member(self, name: str, limit: int | None = None) -> bytes:
    """Returns the content of a member of the archive's folder.

    Its declared size is compared with the file and with the free memory before
    anything is read.
    """
    try:
      info = self._archive.getinfo(self._prefix + name)
    except KeyError as error:
      raise ArchiveError(f'expected a member {name}; found none') from error
    # torch compresses nothing, and compressed zeros grow a thousandfold.
    if info.compress_type != zipfile.ZIP_STORED:
      raise ArchiveError(f'member {name} is compressed; {_RESAVE}')
    if info.flag_bits & 1:
      raise ArchiveError(f'member {name} is encrypted; {_RESAVE}')
    held = min(info.compress_size, self._size - info.header_offset)
    if info.file_size > held:
      raise ArchiveError(
        f'member {name} declares {info.file_size:,} bytes, but the file has '
        f'{max(held, 0):,} for it; copy or download it again'
      )
    if limit is not None and info.file_size > limit:
      raise ArchiveError(
        f'member {name} has {info.file_size:,} bytes; expected {limit:,} at '
        'most'
      )
    if self._free is not None:
      self._free -= info.file_size
      if self._free < 0:
        raise ArchiveError(
          f'member {name} of {info.file_size:,} bytes is {-self._free:,} bytes '
          'larger than the free memory; free memory or use a larger machine'
        )
    try:
      return self._archive.read(info)
    except _DAMAGE as error:
      reason = str(error)[:120]  # It may quote much of the file.
      raise ArchiveError(f'member {name} is damaged: {reason}') from error
