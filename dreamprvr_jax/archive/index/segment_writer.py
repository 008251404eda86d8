"""Writes the rows of new videos into the arrays of a segment."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from dreamprvr_jax import text
from dreamprvr_jax.archive.index.array_files import ArrayFile
from dreamprvr_jax.archive.index.encoding import finite
from dreamprvr_jax.archive.index.layout import BRANCHES, quantize, row_specs
from dreamprvr_jax.archive.index.manifest import Manifest, Segment
from dreamprvr_jax.archive.index.segments import write_names
from dreamprvr_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Form:
  """How videos are stored.

  Attributes:
    tokens: One of `manifest.TOKENS`.
    registers: Whether registers are stored, if the model has them.
    parts: See `Manifest`.
    sizes: The sizes of a row, by the manifest's names; empty if the first row
      decides.
  """

  tokens: str
  registers: bool = True
  parts: bool = True
  sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)

  @classmethod
  def of(cls, manifest: Manifest) -> 'Form':
    """Returns the form of the videos of an index."""
    return cls(
      manifest.tokens,
      manifest.registers > 0,
      manifest.parts,
      manifest.sizes,
    )


class SegmentWriter:
  """The rows of a new segment, in the order in which they come.

  Attributes:
    ids: Id of each row's video.
    sizes: The sizes of a row, by the manifest's names; empty before the first.
  """

  def __init__(self, folder: pathlib.Path, form: Form, where: str = ''):
    """Args:
    folder: The folder of the segment.
    form: How videos are stored.
    where: The index, for errors.
    """
    self.ids: list[str] = []
    self.sizes: dict[str, int] = {}
    self._folder, self._form, self._where = folder, form, where
    self._sources: list[dict[str, Any]] = []
    self._known: set[str] = set()
    self._files: dict[str, ArrayFile] = {}

  def add(
    self,
    video: str,
    rows: Iterable[Mapping[str, np.ndarray]],
    source: Mapping[str, Any] | None = None,
  ) -> None:
    """Adds the rows of a video; adds none if that fails.

    Args:
      video: Its id.
      rows: Arrays of one row or more, by name, see `layout.row_specs`;
        tokens as float32.
      source: What is known of its file; `id` is added.

    Raises:
      UserError: If tokens or registers are not finite as float16, rows have
        other sizes than those of the index, there is no row, or the video came
        before.
    """
    name = text.check(video, f'the id {video!r} of a video')
    if name in self._known:
      raise UserError(
        f'an id comes twice among the videos ({name!r}); leave one of them out'
      )
    count = len(self.ids)
    try:
      for some in rows:
        self.write(some, f'the video {name!r}')
        self.ids += [name] * len(some['frame_mask'])
      if len(self.ids) == count:
        raise UserError(f'the video {name!r} has no row to index')
    except BaseException:
      del self.ids[count:]
      for file in self._files.values():
        file.cut(count)
      raise
    self._known.add(name)
    if source is not None:
      self._sources.append({**source, 'id': name})

  def write(self, rows: Mapping[str, np.ndarray], where: str) -> None:
    """Writes some rows; see `add`.

    Args:
      rows: Arrays by name.
      where: Which videos they are, for errors.
    """
    found = dict(rows)
    if not self._form.registers:
      found.pop('registers', None)
    sizes = self._sizes_of(found)
    wanted = self.sizes or self._form.sizes
    if wanted and sizes != dict(wanted):
      raise UserError(
        f'{self._where} has {dict(wanted)} per row, {where} {sizes}; index '
        'them with the config of the index'
      )
    self.sizes = sizes
    form = self._form
    specs = row_specs(form.tokens, sizes, parts=form.parts)
    for branch in BRANCHES:
      values = finite(found[f'{branch}_tokens'], branch, where)
      found[f'{branch}_tokens'] = values
      if 'int8' in self._form.tokens:
        pair = quantize(values)
        found[f'{branch}_codes'], found[f'{branch}_scales'] = pair
    if 'registers' in found:
      found['registers'] = finite(found['registers'], 'register', where)
    for name, (shape, dtype) in specs.items():
      if name not in self._files:
        path = self._folder / f'{name}.npy'
        self._files[name] = ArrayFile(path, shape, dtype)
      if found[name].shape[1:] != shape:
        raise ValueError(f'{name} is {found[name].shape}, not {shape} per row')
      self._files[name].write(found[name])

  def finish(self) -> Segment:
    """Writes all else that belongs to the segment, and syncs it to disk."""
    files = {f'{name}.npy': file.finish() for name, file in self._files.items()}
    self.close()
    return write_names(self._folder, self.ids, self._sources, files)

  def close(self) -> None:
    """Closes the files."""
    with contextlib.ExitStack() as stack:
      for file in self._files.values():
        stack.callback(file.close)

  def _sizes_of(self, rows: Mapping[str, np.ndarray]) -> dict[str, int]:
    _, clips, width = rows['clip_tokens'].shape
    return {
      'clips': clips,
      'frames': rows['frame_mask'].shape[1],
      'width': width,
      'registers': rows['registers'].shape[1] if 'registers' in rows else 0,
    }
