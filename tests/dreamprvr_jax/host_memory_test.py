"""Tests of dreamprvr_jax.host_memory."""

import builtins
import os
import subprocess
import sys

from dreamprvr_jax import host_memory


def test_the_kernels_estimate_is_taken():
  with open('/proc/meminfo') as file:
    lines = dict(line.split(':') for line in file)
  total = int(lines['MemTotal'].split()[0]) * 1024
  found = host_memory.available_memory()
  assert found is not None
  assert 0 < found <= total


def test_free_pages_without_proc(monkeypatch):
  def missing(path, *args, **kwargs):
    raise FileNotFoundError(path)

  monkeypatch.setattr(builtins, 'open', missing)
  sizes = {'SC_AVPHYS_PAGES': 3, 'SC_PAGE_SIZE': 4096}
  monkeypatch.setattr(os, 'sysconf', sizes.get)
  assert host_memory.available_memory() == 3 * 4096
  monkeypatch.setattr(os, 'sysconf_names', {})
  assert host_memory.available_memory() is None


def test_needs_no_jax():
  code = (
    'import sys\n'
    'from dreamprvr_jax.host_memory import keep_freed_pages\n'
    'keep_freed_pages()\n'
    'print("jax" in sys.modules)'
  )
  out = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert out.stdout.strip() == 'False'


def test_sizes_for_people():
  assert host_memory.size_text(3 * 2**29) == '1.50 GiB'
  assert host_memory.size_text(350_000) == '0.3 MiB'
