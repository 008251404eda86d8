"""Models by name, against a stand-in for the hub."""

import importlib.util
import inspect
import json
import pathlib
import re
import sys

import jax
import numpy as np
import pytest
import yaml

import dreamprvr_jax
from configs import quickstart
from dreamprvr_jax import checkpoints
from dreamprvr_jax.cli import main
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.trained import card, hub, inference
from dreamprvr_jax.trained.retriever import Retriever
from tests.helpers import fake_hub, models

VISUAL, TEXT = 24, 12
METRICS = {
  'split': 'test',
  'num_queries': 1200,
  'num_videos': 70,
  'R@1': 10.0,
  'R@5': 20.123,
  'R@10': 30.0,
  'R@100': 90.0,
  'SumR': 150.123,
  'epoch': 3,
  'chosen_on': 'val',
  'command': '/secret/main.py',
}


def stored_config():
  config = quickstart.get_config('gmmformer').unlock()
  config.model.width = 16
  config.model.num_heads = 2
  config.data.root = '/secret/data'
  config.data.prepared = 'secret_prepared'
  config.compilation_cache = 'secret_cache'
  config.data.moments = '/secret/moments.json'
  return {
    'config': json.loads(config.to_json()),
    'visual_width': VISUAL,
    'text_width': TEXT,
    'encoder': {'name': 'clip', 'model': '/secret/clip', 'weights': 'abc'},
    'imported_from': {'file': '/secret/best.ckpt'},
    'versions': {'jax': jax.__version__},
    'device': {'kind': 'secret'},
    'command': 'python main.py --secret',
  }


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  place = tmp_path_factory.mktemp('trained')
  stored = stored_config()
  model = inference.model_of(stored['config'])
  shapes = inference.shapes_of(model, stored['config'], VISUAL, TEXT)
  rng = np.random.default_rng(0)
  variables = jax.tree.map(
    lambda s: rng.normal(size=s.shape).astype(s.dtype), shapes
  )
  checkpoints.save_weights(place, variables, stored)
  (place / 'eval_test.json').write_text(json.dumps(METRICS))
  return place


@pytest.fixture
def fake(tmp_path, monkeypatch):
  found = fake_hub.FakeHub(tmp_path / 'hub')
  monkeypatch.setitem(sys.modules, 'huggingface_hub', found)
  monkeypatch.setitem(sys.modules, 'huggingface_hub.errors', found.errors)
  return found


def encoded(model, variables):
  words = np.random.default_rng(1).normal(size=(2, 30, TEXT))
  mask = np.ones((2, 30), bool)
  return models.apply(
    model, variables, words.astype(np.float32), mask, method='encode_query'
  )


def test_pushed_model_loads_by_name_with_equal_outputs(trained, fake):
  assert hub.push(trained, 'anna/tvr').endswith('/anna/tvr')
  assert {path.name for path in (fake.root / 'anna/tvr').iterdir()} == {
    'README.md',
    'config.json',
    'weights.safetensors',
  }
  expected = encoded(*dreamprvr_jax.load(trained))
  found = encoded(*dreamprvr_jax.load('anna/tvr', revision='main'))
  np.testing.assert_array_equal(found, expected)
  assert fake.public == {'anna/tvr'}


def test_downloaded_folder_is_a_checkpoint(trained, fake):
  hub.push(trained, 'anna/tvr')
  folder = fake.root / 'anna/tvr'
  expected = Retriever.load(trained)
  found = Retriever.load(folder)
  assert found.digest == expected.digest
  np.testing.assert_array_equal(
    encoded(found.model, found.variables),
    encoded(expected.model, expected.variables),
  )


def test_nothing_of_the_machine_is_uploaded(trained, fake):
  hub.push(trained, 'anna/tvr', private=True)
  assert not fake.public
  for name in ('config.json', 'README.md'):
    text = (fake.root / 'anna/tvr' / name).read_text()
    assert 'secret' not in text
    assert str(trained) not in text
    assert 'command' not in text
  stored = json.loads((fake.root / 'anna/tvr/config.json').read_text())
  assert stored['encoder'] == {'name': 'clip', 'model': '', 'weights': 'abc'}
  assert stored['config']['data']['collection'] == 'simulated'


def test_card_has_metrics_data_and_limits(trained, fake):
  hub.push(trained, 'anna/tvr', license='mit')
  text = (fake.root / 'anna/tvr/README.md').read_text()
  _, metadata, body = text.split('---\n', 2)
  found = yaml.safe_load(metadata)
  assert found['license'] == 'mit'
  (result,) = found['model-index'][0]['results']
  assert result['dataset']['split'] == 'test'
  assert result['metrics'][4] == {'type': 'SumR', 'value': 150.12}
  assert '| test | 1,200 | 70 | 10.0 | 20.1 |' in body
  assert '3, chosen on val' in body
  assert f'width {VISUAL}' in body
  assert f'width {TEXT}' in body
  assert "dreamprvr_jax.load('anna/tvr')" in body
  assert '## Limits' in body


def test_weights_without_a_run_have_a_card(trained):
  stored = hub.portable(checkpoints.read_config(trained))
  text = card.written('anna/tvr', stored, [], 'mit')
  assert 'No evaluation was stored' in text
  assert 'model-index' not in yaml.safe_load(text.split('---\n')[1])


def test_command_says_where_the_model_is(trained, fake, capsys):
  command = ['dreamprvr', 'push', f'--checkpoint={trained}', '--repo=anna/x']
  assert main.main(command) == 0
  assert 'https://huggingface.co/anna/x' in capsys.readouterr().out


def test_folders_are_loaded_without_the_hub(trained, fake, tmp_path):
  dreamprvr_jax.load(trained)
  with pytest.raises(checkpoints.CheckpointError, match=r'no config\.json'):
    dreamprvr_jax.load(tmp_path / 'a' / 'b')
  with pytest.raises(UserError, match='not the name of a model on the hub'):
    dreamprvr_jax.load(trained, revision='main')
  assert not fake.calls


def test_missing_library_is_one_sentence(trained, monkeypatch):
  monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
  for act in (
    lambda: dreamprvr_jax.load('anna/tvr'),
    lambda: hub.push(trained, 'anna/tvr'),
  ):
    with pytest.raises(UserError, match='pip install'):
      act()


@pytest.mark.parametrize(
  ('problem', 'sentence'),
  [
    (fake_hub.GatedRepoError('403'), 'access to anna/tvr .* is restricted'),
    (fake_hub.RepositoryNotFoundError('404'), 'neither a folder here nor'),
    (fake_hub.RevisionNotFoundError('404'), 'does not have this revision'),
    (fake_hub.HFValidationError('bad\nname'), r"'anna/tvr' is not a .*\(bad\)"),
    (fake_hub.OfflineModeIsEnabled('off'), 'HF_HUB_OFFLINE is set'),
    (fake_hub.HTTPError('no route'), r'cannot be downloaded .*\(no route\)'),
    (fake_hub.HfHubHTTPError('500'), r'cannot be downloaded .*\(500\)'),
    (OSError('disk full'), r'cannot be downloaded .*\(disk full\)'),
    (fake_hub.EntryNotFoundError(), r'\(EntryNotFoundError\)'),
  ],
)
def test_errors_of_the_hub_are_sentences(fake, problem, sentence):
  fake.problem = problem
  with pytest.raises(UserError, match=sentence):
    dreamprvr_jax.load('anna/tvr')


def test_mistakes_of_the_program_keep_their_traceback(fake):
  fake.problem = TypeError('a bug')
  with pytest.raises(TypeError, match='a bug'):
    dreamprvr_jax.load('anna/tvr')


def test_unknown_models_and_revisions_are_refused(trained, fake):
  with pytest.raises(UserError, match='neither a folder here nor a model'):
    dreamprvr_jax.load('anna/none')
  hub.push(trained, 'anna/tvr')
  with pytest.raises(UserError, match='does not have this revision'):
    dreamprvr_jax.load('anna/tvr', revision='v9')
  with pytest.raises(UserError, match="'tvr' is not a name on the hub"):
    hub.push(trained, 'tvr')


def test_private_upload_to_a_public_repository_is_refused(trained, fake):
  hub.push(trained, 'anna/tvr')
  before = fake.calls
  with pytest.raises(UserError, match='anna/tvr is public'):
    hub.push(trained, 'anna/tvr', private=True)
  assert fake.calls == before + 2


@pytest.mark.parametrize(
  ('change', 'sentence'),
  [
    (lambda f: (f / 'weights.safetensors').unlink(), r'no weights\.safeten'),
    (lambda f: (f / 'weights.safetensors').write_bytes(b'x'), 'cannot be read'),
    (lambda f: (f / 'config.json').write_text('{}'), 'is not that of a model'),
    (
      lambda f: (f / 'config.json').write_text(
        re.sub(r'"width": 16', '"width": 32', (f / 'config.json').read_text())
      ),
      'tensors are missing, unknown or of another shape',
    ),
  ],
)
def test_other_peoples_files_are_refused(trained, fake, change, sentence):
  hub.push(trained, 'anna/tvr')
  change(fake.root / 'anna/tvr')
  with pytest.raises(UserError, match=sentence):
    dreamprvr_jax.load('anna/tvr')


def test_best_epochs_metrics_are_taken_where_there_is_no_evaluation(
  monkeypatch, tmp_path
):
  best = {'epoch': 7, 'split': 'val', 'metrics': METRICS}
  monkeypatch.setattr(checkpoints, 'best_info', lambda directory: best)
  (found,) = card.results_of(tmp_path)
  assert (found['epoch'], found['chosen_on']) == (7, 'val')


def test_what_we_call_exists_in_the_library():
  if importlib.util.find_spec('huggingface_hub') is None:
    pytest.skip('huggingface_hub is not installed')
  import huggingface_hub as library
  import huggingface_hub.errors

  fakes = fake_hub.FakeHub(pathlib.Path())
  for place, name in (
    (library, 'snapshot_download'),
    (library.HfApi, 'create_repo'),
    (library.HfApi, 'model_info'),
    (library.HfApi, 'upload_folder'),
  ):
    ours = inspect.signature(getattr(fakes, name)).parameters
    assert set(ours) <= set(inspect.signature(getattr(place, name)).parameters)
  for name in vars(fakes.errors):
    assert hasattr(huggingface_hub.errors, name), name
  assert library.errors.HfHubHTTPError.__bases__
