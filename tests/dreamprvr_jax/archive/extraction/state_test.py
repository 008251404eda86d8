"""The clean-up at the end of an extraction."""

import json

import numpy as np
import pytest

from data_pipeline.errors import DataError
from dreamprvr_jax.archive.extraction.state import (
  Source,
  State,
  keep,
  keep_reason,
)
from dreamprvr_jax.archive.extraction.video import Extracted

SETTINGS = {'fps': 2.0}


def kept_one(folder, tmp_path):
  state = State(folder, SETTINGS)
  path = tmp_path / 'v.mp4'
  path.write_bytes(b'video')
  source = Source.of(path)
  found = Extracted(np.ones((3, 4), np.float32), 1.5)
  keep(str(folder), 'v', source, found)
  keep_reason(str(folder), 'w', source, 'broken')
  return state, folder / '.extracting/parts'


def test_parts_are_cleared(tmp_path):
  state, parts = kept_one(tmp_path / 'c', tmp_path)
  assert len(list(parts.iterdir())) == 2
  state.finish({'name': 'x'})
  assert not parts.exists()
  assert State(tmp_path / 'c', SETTINGS).videos['v']['frames'] == 3


def test_files_of_somebody_else_are_left_alone(tmp_path):
  state, parts = kept_one(tmp_path / 'c', tmp_path)
  note = parts / 'notes.txt'
  note.write_text('mine')
  with pytest.raises(DataError, match=r'notes\.txt was not written by'):
    State(tmp_path / 'c', SETTINGS)
  # The file appeared while the extraction ran.
  state.finish({'name': 'x'})
  assert [path.name for path in parts.iterdir()] == ['notes.txt']


@pytest.mark.parametrize('row', [{'reason': 'x'}, 7, None])
def test_rows_that_describe_no_file(row, tmp_path):
  (tmp_path / 'skipped.json').write_text(json.dumps({'v1': row}))
  with pytest.raises(DataError, match=r"skipped\.json .* file of 'v1'; delete"):
    State(tmp_path, {})
