"""Simulates full disks: a small disk, and a limit on the size of files."""

import contextlib
import resource
import shutil
import subprocess

import pytest


@contextlib.contextmanager
def small_disk(folder, size):
  """Mounts a disk of a size such as 2m at `folder`; skips the test if that is
  not allowed."""
  folder.mkdir()
  if not shutil.which('mount') or _call(
    'mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', folder
  ):
    pytest.skip('only root may mount a small disk here')
  try:
    yield folder
  finally:
    _call('umount', '--lazy', folder)


def fill(folder):
  """Writes `filler` until a small disk has no byte left."""
  with contextlib.suppress(OSError), (folder / 'filler').open('ab') as file:
    while True:
      file.write(bytes(4096))
      file.flush()


def enlarge(folder, size):
  """Makes a small disk larger."""
  assert not _call('mount', '-o', f'remount,size={size}', folder)


@contextlib.contextmanager
def short_files(size):
  """Limits files of this process to `size` bytes."""
  former = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, former[1]))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, former)


def _call(*command):
  return subprocess.run(list(map(str, command)), capture_output=True).returncode
