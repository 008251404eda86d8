"""Any damaged feature file gives values or a one-sentence error."""

import random
import resource

import h5py
import numpy as np
import pytest
from etils import epath

from data_pipeline.bigfile import BigFileStore
from data_pipeline.hdf5 import Hdf5Store
from data_pipeline.importers.features import Features
from data_pipeline.index import load_arrays
from dreamprvr_jax.cli.query_files import read_queries
from dreamprvr_jax.errors import UserError

_ROWS = np.arange(40, dtype=np.float32).reshape(8, 5)
_ROUNDS = 120
# The most that a round may add to the peak memory.
_MOST_KIB = 200 << 10


def write_npy(folder):
  (folder / 'all').mkdir()
  np.save(folder / 'all/v.npy', _ROWS)
  return folder / 'all/v.npy'


def write_npz(folder):
  np.savez(folder / 'all.npz', v=_ROWS, w=_ROWS[:3])
  return folder / 'all.npz'


def write_packed_npz(folder):
  np.savez_compressed(folder / 'all.npz', v=_ROWS, w=_ROWS[:3])
  return folder / 'all.npz'


def write_hdf5(folder, **options):
  with h5py.File(folder / 'all.h5', 'w', **options) as file:
    file['v'] = _ROWS
    file.create_dataset('w', data=_ROWS, chunks=(3, 5), compression='gzip')
    file['x'] = h5py.SoftLink('/v')
  return folder / 'all.h5'


def write_new_hdf5(folder):
  return write_hdf5(folder, libver='latest')


def write_table(folder):
  (folder / 'all').mkdir()
  (folder / 'all/feature.bin').write_bytes(_ROWS.tobytes())
  (folder / 'all/shape.txt').write_text('8 5\n')
  (folder / 'all/id.txt').write_text(' '.join(f'v_{i}' for i in range(8)))
  frames = {'v': ['v_0', 'v_1'], 'w': ['v_7', 'v_3', 'v_2']}
  (folder / 'all/video2frames.txt').write_text(repr(frames))
  return folder / 'all/video2frames.txt'


def read_store(store):
  for name in 'vwx':
    if name in store and store.problem(name) is None:
      assert store.read(name).dtype == np.float32


def readers(path):
  """Returns the functions that open a file and read all of it."""
  if path.suffix == '.txt':
    return [lambda: read_store(BigFileStore(path.parent, 'vw'))]
  place = path.parent if path.suffix == '.npy' else path
  found = [lambda: Features(place, progress=False).check_values()]
  if path.suffix != '.npy':
    found.append(lambda: read_queries(str(path), 5))
  if path.suffix == '.npz':
    found.append(lambda: load_arrays(epath.Path(path)))
  if path.suffix == '.h5':
    found.append(lambda: read_store(Hdf5Store(path, 'vwx')))
  return found


def damaged(whole, seed):
  """Returns the bytes of a file, truncated, partly changed, or both."""
  chance = random.Random(seed)
  raw = bytearray(whole)
  if chance.random() < 0.3:
    raw = raw[: chance.randrange(len(raw))]
  for _ in range(chance.choice([1, 1, 2, 5, 20])):
    if raw:
      place = chance.randrange(len(raw))
      flipped = raw[place] ^ 1 << chance.randrange(8)
      raw[place] = chance.choice([0, 255, flipped, chance.randrange(256)])
  return raw


@pytest.mark.parametrize(
  'write',
  [
    write_npy,
    write_npz,
    write_packed_npz,
    write_hdf5,
    write_new_hdf5,
    write_table,
  ],
)
def test_damage_is_a_sentence(tmp_path, write):
  path = write(tmp_path)
  whole = path.read_bytes()
  for read in readers(path):
    read()
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  sentences = set()
  for seed in range(_ROUNDS):
    path.write_bytes(damaged(whole, seed))
    for read in readers(path):
      try:
        read()
      except UserError as error:
        sentences.add(str(error))
  assert all(0 < len(sentence) < 700 for sentence in sentences)
  # A single .npy is a folder with one bad item, which is reported, not raised.
  assert sentences or path.suffix == '.npy'
  used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
  assert used < _MOST_KIB
