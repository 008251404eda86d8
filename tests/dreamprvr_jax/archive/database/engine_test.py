"""The engine of a database is imported when one is opened, and not before."""

import subprocess
import sys

import pytest

from dreamprvr_jax.archive.database.engine import is_address, library
from dreamprvr_jax.errors import UserError

ENGINES = ('qdrant_client', 'qdrant_edge')


def test_nothing_is_imported_before_a_database_is_opened():
  program = (
    'import sys; import dreamprvr_jax.archive.database.export; '
    f'print([x for x in {ENGINES} if x in sys.modules])'
  )
  found = subprocess.run(
    [sys.executable, '-c', program], capture_output=True, text=True, check=True
  )
  assert found.stdout.strip() == '[]'


def test_addresses():
  assert is_address('http://host:6333/videos')
  assert not is_address('/databases/videos')
  assert not is_address('videos:new')


def test_a_library_that_is_missing():
  with pytest.raises(UserError, match=r'which is not installed .*; install it'):
    library('qdrant_that_is_not_there')
