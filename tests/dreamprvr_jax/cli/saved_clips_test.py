"""Saved clips: their names, and what they need."""

import sys

import pytest

from dreamprvr_jax.cli.saved_clips import name_of, save_clips
from dreamprvr_jax.errors import UserError


@pytest.mark.parametrize(
  ('title', 'name'),
  [
    ('2024/dog run.mp4', '01 dog run 1.0-2.5.mp4'),
    ('a:b?.mp4', '01 a_b_ 1.0-2.5.mp4'),
    # A letter of three bytes is kept whole or not at all.
    (f'x{"犬" * 83}.mp4', f'01 x{"犬" * 39} 1.0-2.5.mp4'),
  ],
)
def test_every_file_system_takes_a_name(title, name):
  found = name_of(1, title, {'start': 1.0, 'end': 2.5})
  assert found == name
  assert len(found.encode()) < 200


def test_without_pyav_nothing_is_tried(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'av', None)
  hit = {'rank': 1, 'video': 'v', 'moments': [{'start': 0.0, 'end': 1.0}]}
  with pytest.raises(UserError, match='install it'):
    save_clips(
      [{'id': 'q', 'hits': [hit] * 2}],
      str(tmp_path / 'clips'),
      lambda hit: 'v.mp4',
      progress=False,
    )
  assert not (tmp_path / 'clips').exists()
