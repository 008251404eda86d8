"""Identifies the encoder of features by its file."""

import json
import types

import pytest

from dreamprvr_jax.cli.encoder_identity import identity_of
from dreamprvr_jax.errors import UserError

IDENTITY = {'name': 'embedded', 'visual_width': 8, 'text_width': 6}


def corpus(folder, visual_width=8, text_width=6):
  return types.SimpleNamespace(
    options=types.SimpleNamespace(folder=folder),
    visual_width=visual_width,
    text_width=text_width,
  )


@pytest.mark.parametrize('mark', ['', '\ufeff'])
def test_identity(tmp_path, mark):
  assert identity_of(corpus(tmp_path)) is None
  text = mark + json.dumps(IDENTITY)
  (tmp_path / 'encoder.json').write_text(text, encoding='utf-8')
  assert identity_of(corpus(tmp_path)) == IDENTITY
  # An archive without captions has no word features.
  assert identity_of(corpus(tmp_path, text_width=0)) == IDENTITY
  assert identity_of(corpus(tmp_path, visual_width=9)) is None


@pytest.mark.parametrize(
  ('content', 'sentence'),
  [
    (b'{', 'is not JSON'),
    (b'[' * 100_000, 'too deeply'),
    (b'[1]', 'does not describe an encoder'),
    (b'{"visual_width": 8, "text_width": null}', 'does not describe'),
    (b'{"name": "caf\xe9"}', 'holds the bytes e9'),
  ],
)
def test_damaged_files(tmp_path, content, sentence):
  (tmp_path / 'encoder.json').write_bytes(content)
  with pytest.raises(UserError, match=rf'encoder\.json.*{sentence}'):
    identity_of(corpus(tmp_path))
