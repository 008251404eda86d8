"""The tables of commands and flags, and everything derived from them."""

import dataclasses
import importlib
import subprocess
import sys

import pytest

import main
from configs.keys import DESCRIPTIONS
from dreamprvr_jax.cli import flags
from dreamprvr_jax.cli import help as help_texts
from dreamprvr_jax.cli.commands import COMMANDS, spelled
from dreamprvr_jax.cli.options import OPTIONS, options_of
from dreamprvr_jax.errors import UserError
from tests.helpers import runs

# Fields of a command's dataclass that are not flags of the same meaning.
_EXTRA = {'config', 'given', 'overrides'}
# Flags that the dispatcher itself reads.
_COMMON = {'config', 'progress', 'coordinator', 'num_processes', 'process_id'}
# Runs the command line in a process that cannot import JAX.
_WITHOUT_JAX = """
import sys
class Missing:
  def find_spec(self, name, path=None, target=None):
    if name.partition('.')[0] in ('jax', 'jaxlib', 'flax', 'tensorflow'):
      raise AssertionError(f'{name} was imported')
sys.meta_path.insert(0, Missing())
from dreamprvr_jax.cli.main import main
for line in sys.stdin.read().splitlines():
  print('exit', main(['dreamprvr', *line.split()]))
"""


@pytest.mark.parametrize('name', COMMANDS)
def test_a_commands_dataclasses_are_its_flags(name):
  fields = set()
  for form in COMMANDS[name].forms:
    module, _, function = form.run.partition(':')
    module = importlib.import_module(f'dreamprvr_jax.cli.{module}')
    assert callable(getattr(module, function))
    fields |= {f.name for f in dataclasses.fields(vars(module)[form.arguments])}
    assert {*form.when, *form.needs, *form.needs_one} <= OPTIONS.keys()
  taken = {option.name for option in options_of(name)}
  both = {'methods', 'sweep'} if 'overrides' in fields else set()
  if name == 'inspect':
    both = {'collection'}
  assert fields - _EXTRA - both <= taken
  assert taken <= fields | _COMMON


def test_help_says_something():
  for name, option in OPTIONS.items():
    for command, about in option.help.items():
      assert command in COMMANDS
      assert len(about) > 6
      assert about.lower() != name
      assert not about.endswith('.')


def test_used_keys_are_keys():
  help_texts.config_keys(())
  for command in COMMANDS.values():
    for key in command.keys:
      assert any(k == key or k.startswith(f'{key}.') for k in DESCRIPTIONS)


def test_the_page_of_the_documentation_is_the_table():
  page = (runs.ROOT / 'docs' / 'commands.md').read_text(encoding='utf-8')
  assert page == help_texts.page()
  assert max(map(len, page.splitlines())) <= 120


@pytest.mark.parametrize(
  'argv',
  [
    ['prepare', '--config=quickstart', '--config.seed=3'],
    ['--mode=prepare', '--config=configs/quickstart.py', '--config.seed=3'],
    ['--mode', 'prepare', '--config', 'quickstart', '--config.seed', '3'],
    ['--config=quickstart', '--mode=prepare', '--config.seed=3'],
    ['prepare', '--mode=prepare', '--config=quickstart', '--config.seed=3'],
  ],
)
def test_both_forms_of_a_command(argv):
  values = flags.parse(['main.py', *argv])
  assert values.mode == 'prepare'
  assert values.config.seed == 3
  assert values.config.data.collection == 'simulated'


def test_train_is_the_command_if_none_is_named():
  values = flags.parse(['main.py', '--config=tvr:hlformer'])
  assert values.mode == 'train'
  assert values.config.model.name == 'hlformer'
  form = flags.form_of(values)
  assert form.run == 'training:run'
  assert flags.default_workdir('configs/tvr.py:hlformer') == 'runs/tvr-hlformer'


@pytest.mark.parametrize(
  ('argv', 'sentence'),
  [
    (['trian'], "'trian' is not a command (did you mean train?)"),
    (['--mode=serv'], 'did you mean serve?'),
    (['train', '--mode=serve'], 'the command is train, but --mode=serve'),
    (
      ['extract', '--vidoes=x'],
      'unknown flag --vidoes (did you mean --videos?)',
    ),
    (
      ['evaluate', '--append'],
      'evaluate does not take --append, which is a flag of index; see',
    ),
    (['train', '--noappend'], 'train does not take --append'),
    (
      ['train', '--config=quickstart', '--index=x'],
      'a flag of index, inspect, search, serve and export',
    ),
    (['extract', '--config.seed=1'], 'extract does not take --config'),
    (
      ['train', '--config=quickstart', '--config.train.epohcs=1'],
      'no key config.train.epohcs (did you mean config.train.epochs?)',
    ),
    (['train', '--config=quickstrat'], 'did you mean quickstart?'),
    (['prepare', '--config=tvr', 'stray'], "'stray' is not a flag"),
    (['extract', '--fps=many'], 'many'),
    (['prepare', '--config.seed=1'], 'but no config is given'),
  ],
)
def test_typos(argv, sentence):
  with pytest.raises(UserError) as caught:
    flags.parse(['main.py', *argv])
  assert sentence in str(caught.value)


@pytest.mark.parametrize(
  ('argv', 'sentence'),
  [
    (['train'], 'train needs --config=...; for example: dreamprvr train'),
    (['serve'], 'serve needs --index=...'),
    (['import', '--features=x'], 'import needs --out=...'),
    (['import'], 'import needs --official=...'),
    (
      ['inspect'],
      'inspect needs --config=FILE.py[:MODEL], --features=PATH, '
      '--checkpoint=DIR or --index=DIR; for example: ',
    ),
    (['export', '--out=x'], 'export needs --checkpoint=...'),
    (['table', '--config=tvr', '--workdir=x'], 'table needs --methods=...'),
  ],
)
def test_what_a_command_needs(argv, sentence):
  values = flags.parse(['main.py', *argv])
  with pytest.raises(UserError) as caught:
    flags.form_of(values)
  assert sentence in str(caught.value)


def test_defaults_of_a_form():
  values = flags.parse(['main.py', 'extract', '--videos=a', '--out=b'])
  extraction = importlib.import_module('dreamprvr_jax.cli.extraction')
  filled = flags.fill(extraction.Request, values, flags.form_of(values), {})
  assert (filled.collection, filled.encoder) == ('videos', 'embedded')
  assert (filled.videos, filled.out, filled.fps) == ('a', 'b', 2.0)


@pytest.mark.parametrize(
  ('program', 'line'),
  [
    ('/usr/bin/dreamprvr', 'dreamprvr serve --index=X'),
    ('main.py', 'python main.py --mode=serve --index=X'),
  ],
)
def test_commands_are_spelled_as_they_were_started(monkeypatch, program, line):
  monkeypatch.setattr(sys, 'argv', [program])
  assert spelled('serve', '--index=X') == line


def test_the_overview_lists_the_commands(capsys):
  assert main.main(['main.py', '--help']) == 0
  out = capsys.readouterr().out
  assert all(f'\n  {name}' in out for name in COMMANDS)
  assert '--index' not in out
  assert 'model.width' not in out


def test_the_help_of_a_command_is_about_it_alone(capsys):
  assert main.main(['main.py', 'train', '--help']) == 0
  out = capsys.readouterr().out
  assert '--workdir=DIR' in out
  assert 'model.num_registers=4' in out
  assert 'optimizer.lr=0.00025' in out
  assert 'frame_length' in out
  assert '(gmmformer)' in out
  assert '--index' not in out
  assert 'rerank.' not in out
  assert main.main(['main.py', '--mode=extract', '-h']) == 0
  out = capsys.readouterr().out
  assert '--fps=N' in out
  assert 'config.' not in out


def test_help_and_typos_do_without_jax():
  lines = [
    '--help',
    'train --help',
    'serve -h',
    'trian',
    'trian --help',
    'train --config=quickstart --config.modle.width=3',
    'train --config=quickstart --index=x',
    'serve --idnex=x',
    'search',
  ]
  done = subprocess.run(
    [sys.executable, '-c', _WITHOUT_JAX],
    cwd=runs.ROOT,
    input='\n'.join(lines),
    capture_output=True,
    text=True,
  )
  codes = [line for line in done.stdout.splitlines() if line[:4] == 'exit']
  assert codes == ['exit 0'] * 3 + ['exit 2'] * 6, done.stderr
