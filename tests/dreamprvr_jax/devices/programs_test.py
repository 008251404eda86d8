"""The folder of compiled programs: whose it is, its size, and equal numbers."""

import json
import logging
import os
import pathlib
import stat
import subprocess
import sys
import time
import zlib

import jax
import numpy as np
import pytest

from dreamprvr_jax.devices import programs
from dreamprvr_jax.trained import inference
from tests.helpers.runs import ROOT

# Settings of JAX that `keep` may change.
SETTINGS = (
  'jax_compilation_cache_dir',
  'jax_enable_compilation_cache',
  *programs._SETTINGS,
)
# Two steps of a model that compiles quickly.
QUICK = (
  '--config=configs/quickstart.py:gmmformer',
  '--noprogress',
  '--config.simulated.videos=(16, 6, 7)',
  '--config.data.batch_size=8',
  '--config.data.eval_video_batch=4',
  '--config.data.eval_query_batch=16',
  '--config.data.workers=1',
  '--config.model.width=16',
  '--config.model.num_heads=2',
  '--config.model.block_widths=(1.0,)',
  '--config.train.epochs=1',
  '--config.report.pictures=False',
)


@pytest.fixture
def kept(monkeypatch, tmp_path):
  """Returns a function that calls `keep`, and returns the folder that JAX is
  told; all of it in an empty cache folder."""
  former = {name: getattr(jax.config, name) for name in SETTINGS}
  for name in SETTINGS:
    monkeypatch.delenv(name.upper(), raising=False)
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  jax.config.update('jax_compilation_cache_dir', None)

  def keep(folder=programs.AUTO):
    programs.keep(folder)
    return jax.config.jax_compilation_cache_dir

  yield keep
  for name, value in former.items():
    jax.config.update(name, value)


def put(folder, name, content=b'program', seconds=0.0, blocks=0):
  """Writes a compressed program that was used some seconds ago."""
  folder.mkdir(parents=True, exist_ok=True)
  path = folder / f'{name}-cache'
  path.write_bytes(zlib.compress(content + os.urandom(4096 * blocks)))
  then = time.time() - seconds
  os.utime(path, (then, then))
  return path


def names(folder):
  return {path.name.removesuffix('-cache') for path in folder.rglob('*-cache')}


def test_programs_are_kept_by_default_for_this_user_alone(kept, tmp_path):
  folder = pathlib.Path(kept())
  assert folder.parent == tmp_path / 'cache/dreamprvr_jax/programs'
  assert folder.name == programs.key()
  for place in (folder, folder.parent, folder.parent.parent):
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
  assert jax.config.jax_persistent_cache_min_compile_time_secs == 0
  assert jax.config.jax_persistent_cache_min_entry_size_bytes == -1
  assert kept() == str(folder)


def test_a_named_folder_is_used_as_it_is(kept, tmp_path):
  assert kept(str(tmp_path / 'mine')) == str(tmp_path / 'mine')
  assert not (tmp_path / 'cache').exists()


def test_an_empty_value_keeps_none(kept, tmp_path):
  assert kept('') is None
  assert not (tmp_path / 'cache').exists()


def test_jaxs_own_settings_come_first(kept, monkeypatch, tmp_path):
  jax.config.update('jax_enable_compilation_cache', False)
  assert kept() is None
  jax.config.update('jax_enable_compilation_cache', True)
  jax.config.update('jax_compilation_cache_dir', str(tmp_path / 'theirs'))
  assert kept() == str(tmp_path / 'theirs')
  assert not (tmp_path / 'cache').exists()
  jax.config.update('jax_compilation_cache_dir', None)
  seconds = jax.config.jax_persistent_cache_min_compile_time_secs
  monkeypatch.setenv('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '3')
  kept()
  assert jax.config.jax_persistent_cache_min_compile_time_secs == seconds


@pytest.mark.parametrize('right', [stat.S_IWGRP, stat.S_IWOTH])
def test_a_folder_that_others_may_write_to_is_refused(
  kept, caplog, tmp_path, right
):
  folder = pathlib.Path(kept())
  jax.config.update('jax_compilation_cache_dir', None)
  folder.chmod(0o700 | right)
  with caplog.at_level(logging.INFO):
    assert kept() is None
  assert f'other users may write to {folder}' in caplog.text


def test_a_folder_of_another_user_is_refused(kept, caplog, monkeypatch):
  folder = pathlib.Path(kept())
  jax.config.update('jax_compilation_cache_dir', None)
  mine = os.geteuid()
  monkeypatch.setattr(os, 'geteuid', lambda: mine + 1)
  with caplog.at_level(logging.INFO):
    assert kept() is None
  assert f'belongs to the user with the number {mine}' in caplog.text
  assert folder.exists()


def test_a_home_that_cannot_be_written_costs_one_line(
  kept, caplog, monkeypatch, tmp_path
):
  # Not by rights: tests may run as root.
  (tmp_path / 'file').touch()
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
  with caplog.at_level(logging.INFO):
    assert kept() is None
  (record,) = caplog.records
  assert 'compiled programs are not kept' in record.getMessage()


def test_a_relative_cache_folder_is_ignored(monkeypatch, tmp_path):
  monkeypatch.setenv('XDG_CACHE_HOME', 'cache')
  monkeypatch.setenv('HOME', str(tmp_path))
  monkeypatch.setattr(sys, 'platform', 'linux')
  assert programs.cache_folder() == tmp_path / '.cache'
  monkeypatch.setattr(sys, 'platform', 'darwin')
  assert programs.cache_folder() == tmp_path / 'Library/Caches'


def test_several_processes_and_old_releases_on_macos_keep_none(
  kept, monkeypatch
):
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  assert kept() is None
  monkeypatch.undo()
  monkeypatch.setattr(sys, 'platform', 'darwin')
  monkeypatch.setattr(programs.jaxlib, '__version__', '0.9.2')
  assert not programs._is_reliable()
  monkeypatch.setattr(programs.jaxlib, '__version__', '0.10.0')
  assert programs._is_reliable()


def test_the_key_tells_cpus_and_releases_apart(monkeypatch):
  found = {programs.key()}
  monkeypatch.setattr(programs, '_cpu', lambda: iter(['flags : sse avx512f']))
  found.add(programs.key())
  monkeypatch.setattr(programs.jaxlib, '__version__', '0.0.1')
  found.add(programs.key())
  assert len(found) == 3


def test_what_was_not_used_for_longest_is_removed(tmp_path):
  for name, seconds in (('a', 300), ('b', 200), ('c', 100), ('d', 0)):
    put(tmp_path / name[0], name, seconds=seconds, blocks=16)
  programs.tidy(tmp_path, 2**20, 0)
  assert names(tmp_path) == {'a', 'b', 'c', 'd'}
  programs.tidy(tmp_path, 200_000, 150_000)
  assert names(tmp_path) == {'c', 'd'}


@pytest.mark.parametrize('library', ['zlib', 'zstandard'])
def test_what_is_not_whole_is_removed(tmp_path, library):
  compress = zlib.compress
  if library == 'zstandard':
    compress = pytest.importorskip('zstandard').compress
  whole, half = compress(b'a' * 9 + bytes(range(99))), tmp_path / 'b-cache'
  (tmp_path / 'a-cache').write_bytes(whole)
  half.write_bytes(whole[: len(whole) // 2])
  (tmp_path / 'c-cache').touch()
  (tmp_path / 'notes').write_text('not a program')
  programs.tidy(tmp_path)
  assert names(tmp_path) == {'a'}
  assert (tmp_path / 'notes').exists()


def test_programs_are_read_once(tmp_path):
  path = put(tmp_path, 'a', seconds=60)
  programs.tidy(tmp_path)
  then = path.stat().st_mtime
  path.write_bytes(b'')
  os.utime(path, (then, then))
  programs.tidy(tmp_path)
  assert path.exists()


@pytest.mark.long
def test_loaded_programs_give_the_numbers_of_compiled_ones(tmp_path):
  """The first process compiles all programs, the second loads all."""
  found, files = [], []
  for name in ('compiled', 'loaded'):
    work, index = tmp_path / name, tmp_path / f'{name}-index'
    data = f'--config.data.root={tmp_path}/data'
    commands = [
      [*QUICK, data, f'--workdir={work}'],
      ['index', f'--checkpoint={work}', f'--index={index}', '--noprogress'],
      ['search', f'--index={index}', f'--out={work}/hits.json', '--noprogress'],
    ]
    code = (
      'import json, sys, main\n'
      'for command in json.loads(sys.argv[1]):\n'
      '  assert main.main(["main.py", *command]) == 0, command\n'
    )
    env = {**os.environ, 'XDG_CACHE_HOME': str(tmp_path / 'cache')}
    env['JAX_NUM_CPU_DEVICES'] = '1'
    for setting in SETTINGS:
      env.pop(setting.upper(), None)
    run = subprocess.run(
      [sys.executable, '-c', code, json.dumps(commands)],
      cwd=ROOT,
      env=env,
      capture_output=True,
      text=True,
    )
    assert run.returncode == 0, run.stderr
    assert 'AOT' not in run.stderr
    assert 'Warning' not in run.stderr
    hits = json.loads((work / 'hits.json').read_text())
    found.append((parameters(work), hits['queries']))
    files.append(names(tmp_path / 'cache'))
  assert files[0] == files[1] != set()
  (first, before), (second, after) = found
  assert before == after
  jax.tree.map(np.testing.assert_array_equal, first, second)


def parameters(workdir):
  _, variables = inference.load(workdir)
  return jax.tree.map(np.asarray, variables)
