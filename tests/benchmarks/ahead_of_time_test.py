"""Compiles programs for TPUs without having one, and checks that they fit.

This needs the extra `tpu-aot`; run it with `pytest -m tpu_aot`.
"""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]

pytestmark = [
  pytest.mark.tpu_aot,
  pytest.mark.skipif(
    importlib.util.find_spec('libtpu') is None,
    reason="no TPU compiler: pip install -e '.[tpu-aot]'",
  ),
]


def compiled(*options):
  """Returns (exit code, facts) of benchmarks/ahead_of_time.py."""
  # The suite's own settings are for CPU devices.
  suites = {'XLA_FLAGS', 'JAX_NUM_CPU_DEVICES', 'JAX_COMPILATION_CACHE_DIR'}
  environment = {k: v for k, v in os.environ.items() if k not in suites}
  done = subprocess.run(
    [sys.executable, 'benchmarks/ahead_of_time.py', *options],
    cwd=ROOT,
    env=environment,
    capture_output=True,
    text=True,
  )
  assert done.stdout, done.stderr
  return done.returncode, json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.parametrize('topology', ['v5e:2x4', 'v6e:2x4'])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_tvr_fits_16_gb_with_128_videos_per_chip(topology, dtype):
  code, facts = compiled(
    '--dataset=tvr', f'--dtype={dtype}', f'--topology={topology}'
  )
  assert facts['global_batch'] == 1024
  assert 1 < facts['step']['gib'] <= 15.75
  assert 0.01 < facts['encoder']['gib'] <= 15.75
  # Gradients are summed; queries are gathered.
  assert facts['collectives']['all-reduce']
  assert facts['collectives']['all-gather']
  assert code == 0


def test_words_and_gaussians_of_ral_fit():
  code, facts = compiled(
    '--dataset=tvr', '--dtype=bfloat16', '--topology=v5e:2x4', '--name=ral'
  )
  assert 1 < facts['step']['gib'] <= 15.75
  assert code == 0


def test_what_does_not_fit_is_refused():
  # The same program gets a limit that it exceeds, to check that the limit is
  # read.
  code, facts = compiled(
    '--dataset=quickstart', '--batch=16', '--topology=v5e:1x1', '--limit=0.01'
  )
  assert not facts['fits']
  assert code == 1
