"""Rows of new videos in the arrays of a segment."""

import contextlib

import numpy as np
import pytest

from dreamprvr_jax.archive.index.layout import row_specs
from dreamprvr_jax.archive.index.segment_writer import Form, SegmentWriter
from dreamprvr_jax.errors import UserError

SIZES = {'clips': 2, 'frames': 3, 'width': 4, 'registers': 1}


def row(**changes):
  specs = row_specs('float16', SIZES, parts=True)
  ones = {name: np.ones((1, *s), np.float32) for name, (s, _) in specs.items()}
  return {**ones, 'frame_mask': np.ones((1, 3), bool), **changes}


def place(tmp_path, name):
  folder = tmp_path / 'segments' / name
  folder.mkdir(parents=True)
  return folder


@pytest.mark.parametrize('tokens', ['float16', 'int8', 'float16+int8'])
@pytest.mark.parametrize('registers', [True, False])
def test_the_arrays_are_those_of_the_form(tokens, registers, tmp_path):
  folder = place(tmp_path, 'a')
  form = Form(tokens, registers=registers)
  with contextlib.closing(SegmentWriter(folder, form)) as writer:
    writer.add('v', [row()])
    segment = writer.finish()
  sizes = {**SIZES, 'registers': int(registers)}
  assert writer.sizes == sizes
  for name, (shape, dtype) in row_specs(tokens, sizes, parts=True).items():
    found = np.load(folder / f'{name}.npy')
    assert (found.shape, found.dtype) == ((1, *shape), dtype)
    assert f'{name}.npy' in segment.files
  assert ('registers.npy' in segment.files) == registers


@pytest.mark.parametrize(
  ('name', 'kind'),
  [
    ('clip_tokens', 'clip'),
    ('frame_tokens', 'frame'),
    ('registers', 'register'),
  ],
)
def test_what_float16_cannot_hold_is_refused(name, kind, tmp_path):
  folder = place(tmp_path, 'a')
  with contextlib.closing(SegmentWriter(folder, Form('float16'))) as writer:
    writer.add('v', [row()])
    wrong = row(**{name: np.full(row()[name].shape, 1e6)})
    with pytest.raises(UserError, match=f"{kind} tokens of the video 'w' are"):
      writer.add('w', [wrong])
    assert writer.ids == ['v']
    assert writer.finish().rows == 1
