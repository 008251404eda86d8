"""The Python of the README and the documentation runs as it is written."""

import pathlib
import re
import runpy

import numpy as np
import pytest

from dreamprvr_jax import checkpoints
from dreamprvr_jax.archive.encoders import build
from dreamprvr_jax.trained.inference import blank_of, model_of
from tests.helpers import models
from tests.helpers.commands import call, untrained
from tests.helpers.videos import make_video, scene

ROOT = pathlib.Path(__file__).parents[2]
# Parts of a model and of its config, which a test of their own puts together;
# and the one that needs TensorFlow and prepared data.
NOT_ALONE = ('class Toy(', '# configs/models/toy.py', 'tensorflow_datasets')
_BLOCK = re.compile(r'^```python\n(.*?)^```', re.MULTILINE | re.DOTALL)


def snippets():
  for path in [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]:
    text = path.read_text('utf-8')
    for found in _BLOCK.finditer(text):
      line = text.count('\n', 0, found.start()) + 1
      if not any(mark in found[1] for mark in NOT_ALONE):
        yield pytest.param(found[1], id=f'{path.name}:{line}')


@pytest.fixture(scope='module')
def place(tmp_path_factory):
  """A folder with what the snippets name: RUN, INDEX and a video."""
  root = tmp_path_factory.mktemp('snippets')
  checkpoint, _ = untrained(root, 'gmmformer', (4, 3, 4))
  stored, encoder = checkpoints.read_config(checkpoint), build('embedded')
  stored['visual_width'] = encoder.visual_width
  stored['text_width'] = encoder.text_width
  stored['encoder'] = encoder.identity
  blank = blank_of(stored['config'], encoder.visual_width, encoder.text_width)
  variables = models.drawn(model_of(stored['config']), blank)
  checkpoints.save_weights(root / 'RUN', variables, stored)
  (root / 'user').mkdir()
  (root / 'user' / 'name').symlink_to(root / 'RUN')
  (root / 'videos').mkdir()
  for seed in range(3):
    make_video(root / 'videos' / f'{seed}.mp4', pictures=60, draw=scene(seed))
  flags = f'--videos={root}/videos', f'--checkpoint={root}/RUN'
  assert call('--mode=index', f'--index={root}/INDEX', *flags) == 0
  make_video(root / 'beach.mp4')
  return root


@pytest.mark.parametrize('code', snippets())
def test_snippets_run(place, code, monkeypatch, capsys):
  monkeypatch.chdir(place)
  path = place / 'snippet.py'
  path.write_text(code, 'utf-8')
  runpy.run_path(str(path), run_name='__main__')
  if 'print' in code:
    assert capsys.readouterr().out


def test_there_are_snippets_of_search():
  code = '\n'.join(x.values[0] for x in snippets())
  assert "index.search('a dog" in code
  assert np.char.count(code, 'Index.open') >= 2
