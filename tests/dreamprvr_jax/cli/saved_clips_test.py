"""The names of saved clips."""

import pytest

from dreamprvr_jax.cli.saved_clips import name_of


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
