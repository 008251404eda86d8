"""An index whose segments workers wrote equals that of one process."""

import json
import pathlib
import pickle

import jax
import numpy as np
import pytest

from data_pipeline.opening import open_corpus
from data_pipeline.options import DataOptions
from dreamprvr_jax import checkpoints, folders
from dreamprvr_jax.archive.index import checksums, writer
from dreamprvr_jax.archive.index.layout import CHECKSUMS
from dreamprvr_jax.archive.index.manifest import SEGMENTS
from dreamprvr_jax.archive.index.segments import locked
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.jobs import indexing
from dreamprvr_jax.archive.jobs.engine import Engine
from dreamprvr_jax.archive.search.index import Index
from dreamprvr_jax.cli import data, flags
from dreamprvr_jax.cli.retriever import free_of
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.trained import inference
from tests.helpers import runs
from tests.helpers.commands import call, untrained
from tests.helpers.searching import made, retriever, videos_of

BEAM = '--engine=beam', '--workers=2'
# The name of a job.
JOB = '0' * 32


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
  place, _ = untrained(
    tmp_path_factory.mktemp('retriever'),
    'gmmformer',
    (10, 6, 14),
  )
  return place


def contents(place):
  """Returns everything that an index stores, in order."""
  store = Store(place)
  found = {
    name: store.read(name, 0, len(store)).tobytes() for name in store._arrays
  }
  return store.ids, store.items.tolist(), found


def test_two_workers(checkpoint, tmp_path, capsys):
  pytest.importorskip('apache_beam', reason='needs the extra `batch`')
  one, two = tmp_path / 'one', tmp_path / 'two'
  flags = f'--checkpoint={checkpoint}', '--tokens=float16+int8'
  assert call('--mode=index', f'--index={one}', *flags) == 0
  repeat = '--engine_options=--direct_runner_bundle_repeat=1'
  index = '--mode=index', f'--index={two}'
  assert call(*index, *flags, *BEAM, repeat) == 0
  assert '14 videos in 2 segments' in capsys.readouterr().out
  assert len(Store(two).manifest.segments) == 2
  assert contents(two) == contents(one)
  assert len(list((two / SEGMENTS).iterdir())) == 2
  # A removed video is added again behind the others.
  ids = Store(two).ids
  for place, engine in ((one, ()), (two, BEAM)):
    edit = '--mode=index', f'--index={place}', '--append', f'--remove={ids[3]}'
    assert call(*edit, *engine) == 0
  assert contents(two) == contents(one)
  assert Store(two).ids[-1] == ids[3]


@pytest.fixture(params=['one process', 'parts', 'beam'])
def engine(request, monkeypatch):
  """Flags to encode videos in one process, as pickled parts in this process, or
  with two workers."""
  if request.param == 'one process':
    return ()
  if request.param == 'beam':
    pytest.importorskip('apache_beam', reason='needs the extra `batch`')
    return BEAM

  def run(self, work, elements):
    for element in elements:
      function, value = pickle.loads(pickle.dumps((work, element)))
      function(value)

  monkeypatch.setattr(Engine, 'run', run)
  return BEAM


@pytest.fixture(scope='module')
def broken(checkpoint, tmp_path_factory):
  """A checkpoint whose tokens are not finite."""
  place = tmp_path_factory.mktemp('broken') / 'checkpoint'
  _, variables = inference.load(checkpoint)
  spoiled = jax.tree.map(lambda x: x * np.nan, variables)
  checkpoints.save_weights(place, spoiled, checkpoints.read_config(checkpoint))
  return place


def test_refusals_change_nothing(checkpoint, broken, engine, tmp_path, capsys):
  place, foreign = tmp_path / 'index', tmp_path / 'own/segments/notes/a.txt'
  foreign.parent.mkdir(parents=True)
  foreign.write_text('mine')
  index = '--mode=index', f'--index={place}'
  val = '--config.data.eval_split=val'
  assert call(*index, f'--checkpoint={checkpoint}', val, *engine) == 0
  before = contents(place)
  capsys.readouterr()

  def refused(sentence, *flags):
    assert call(*flags, *engine) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert 'Traceback' not in err
    assert contents(place) == before
    assert len(list((place / SEGMENTS).iterdir())) == len(
      Store(place).manifest.segments
    )

  good, bad = f'--checkpoint={checkpoint}', f'--checkpoint={broken}'
  refused('not finite as float16', *index, bad)
  refused('was made with the checkpoint', *index, bad, '--append')
  refused('bits is unknown', *index, good, '--tokens=bits')
  refused('nowhere', *index, '--checkpoint=/nowhere')
  refused("no video 'x'", *index, '--remove=x', '--append')
  own = '--mode=index', f'--index={tmp_path}/own', good
  refused('nothing was changed: move it elsewhere', *own)
  assert [p.name for p in tmp_path.rglob('own/**/*')] == [
    'segments',
    'notes',
    'a.txt',
  ]
  with folders.held(place, 'index'):
    refused('is in use by another command', *index, good)
    refused('is in use by another command', *index, good, '--append')


def part_writer(data, cuts, **changes):
  """Writes the parts of generated videos in this process."""

  def write(root: pathlib.Path, tokens: str, registers: bool):
    names = []
    rows = np.arange(len(data['clips']))
    for number, few in enumerate(np.split(rows, cuts)):
      names.append(f'{JOB}-{number:05}')
      for _ in range(2):
        writer.write_part(
          root,
          names[-1],
          retriever(),
          videos_of(data, few),
          tokens=changes.get('tokens', tokens),
          registers=registers,
        )
    return names

  return write


def test_parts_of_whole_batches_are_those_of_one_segment(tmp_path):
  data = made(45)
  writer.create(tmp_path / 'one', retriever(), videos_of(data))
  for cuts in ([16, 32], [8], []):
    parts = part_writer(data, cuts)
    place = tmp_path / str(cuts)
    videos = videos_of(data)
    writer.create(place, retriever(), videos, elsewhere=parts)
    assert contents(place) == contents(tmp_path / 'one')
    for folder, files in Store(place).manifest.files.items():
      assert files == checksums.record(place / folder)


def test_a_part_whose_checksums_are_no_checksums(tmp_path):
  data = made(9)

  def parts(*given):
    (name,) = part_writer(data, [])(*given)
    path = tmp_path / SEGMENTS / name / CHECKSUMS
    path.write_text('{"ids.json": 3}')
    return [name]

  with pytest.raises(UserError, match=r'checksums\.json has no checksums'):
    writer.create(tmp_path, retriever(), videos_of(data), elsewhere=parts)


def lost(root, tokens, registers):
  del tokens, registers
  (root / SEGMENTS / JOB).mkdir(parents=True)
  return [JOB]


def stopped(root, tokens, registers):
  lost(root, tokens, registers)
  raise KeyboardInterrupt


@pytest.mark.parametrize(
  ('elsewhere', 'raised'),
  [
    (stopped, KeyboardInterrupt),
    (lost, 'was not written; --index must be a folder'),
    (part_writer(made(40), [8]), 'are not the expected ones'),
  ],
)
def test_the_old_index_stays(tmp_path, elsewhere, raised):
  data = made(45)
  writer.create(tmp_path, retriever(), videos_of(data, range(20)))
  before = contents(tmp_path)
  error = UserError if isinstance(raised, str) else raised
  match = raised if isinstance(raised, str) else None
  with pytest.raises(error, match=match):
    writer.create(tmp_path, retriever(), videos_of(data), elsewhere=elsewhere)
  assert contents(tmp_path) == before
  assert len(Index.open(tmp_path, retriever()).store) == 20
  # The next write deletes its remains.
  writer.append(tmp_path, retriever(), videos_of(data, range(20, 45)))
  assert len(list((tmp_path / SEGMENTS).iterdir())) == 2


def test_workers_write_while_the_launcher_holds_the_index(tmp_path):
  data = made(5)
  with locked(tmp_path) as root:
    part_writer(data, [])(root, 'int8', False)
    with pytest.raises(UserError, match='is in use by another command'):
      writer.create(tmp_path, retriever(), videos_of(data))


def test_parts_are_whole_batches():
  rows = range(10_000)
  for workers in (1, 3, 16, 20_000):
    parts = list(indexing._cut(rows, 24, workers))
    assert [row for part in parts for row in part] == list(rows)
    assert all(len(part) % 24 == 0 for part in parts[:-1])
    assert max(map(len, parts)) < indexing._VIDEOS + 24


def test_paths_mean_the_same_in_any_folder(monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  options = DataOptions(
    root='data', prepared_dir='gs://there', moments='a.json,/b.json'
  )
  found = indexing.anywhere(options)
  assert found.root == str(tmp_path / 'data')
  assert found.prepared_dir == 'gs://there'
  assert found.moments == f'{tmp_path}/a.json,/b.json'
  assert indexing.anywhere(found) == found


def test_another_checkpoint_is_refused(checkpoint):
  plan = indexing.Plan(str(checkpoint), 'other', None, '', 4, 1, 1, '')
  part = indexing.Part(plan, 'nowhere', 'p', (0,), 'int8', False)
  with pytest.raises(UserError, match='for a worker, but other where the job'):
    indexing.work(part)


def test_an_engine_is_given_the_parts_in_order(tmp_path):
  class Noted(Engine):
    def run(self, work, elements):
      assert work is indexing.work
      noted.extend(elements)

  noted = []
  plan = indexing.Plan('there', 'digest', None, 'test', 4, 1, 1, '')
  write = indexing.elsewhere(Noted('beam', workers=2), plan, range(3, 14))
  names = write(tmp_path, 'int8', True)
  assert [part.name for part in noted] == names == sorted(names)
  assert [part.rows for part in noted] == [
    (3, 4, 5, 6, 7, 8, 9, 10),
    (11, 12, 13),
  ]
  assert {part.index for part in noted} == {str(tmp_path)}


FREE = (
  f'--config={runs.ROOT}/configs/quickstart.py:tf_prvr',
  '--config.simulated.videos=(3, 3, 6)',
  '--config.data.workers=1',
  '--config.model.beta=0.4',
)


def test_without_training(tmp_path, capsys):
  place = tmp_path / 'index'
  root = f'--config.data.root={tmp_path}/data'
  assert call('--mode=index', f'--index={place}', *FREE, root) == 0
  config = flags.parse(['main.py', *FREE, root]).config
  split = open_corpus(data.data_options(config)).splits['test']
  store = Store(place)
  assert store.ids == split.video_ids
  free = free_of(config, split)
  assert store.manifest.digest == free.digest
  count = 0
  for batch in indexing.videos_of(split, np.arange(6), 4).batches():
    for row in np.flatnonzero(batch['video_mask']):
      mask = batch['frame_mask'][row]
      tokens = batch['frame_features'][row][mask]
      np.testing.assert_array_equal(
        store.read('frame_tokens', count, count + 1)[0][mask],
        tokens.astype(np.float16),
      )
      # Padded tokens repeat the last one, and no border is beyond the end.
      padding = store.read('frame_tokens', count, count + 1)[0][~mask]
      assert (padding == tokens[-1].astype(np.float16)).all()
      edges = batch['frame_edges'][row]
      borders = split.frame_edges[count] / split.num_frames[count]
      np.testing.assert_allclose(edges[: len(borders)], borders, atol=1e-6)
      assert (edges[len(borders) :] == 1).all()
      count += 1
  assert count == 6
  # Videos of another split fit into the rows of the index.
  val = open_corpus(data.data_options(config)).splits['val']
  length = store.manifest.frames
  assert length % 32 == 0
  (batch,) = indexing.videos_of(val, np.arange(3), 3, length).batches()
  assert batch['frame_features'].shape[1] == length
  assert batch['frame_edges'].shape[1] == length + 1
  with pytest.raises(UserError, match='room for 1'):
    indexing.videos_of(val, np.arange(3), 3, 1)
  worker = indexing._retriever('nowhere', json.dumps(free.facts))
  assert worker.digest == free.digest


def test_a_config_with_a_trained_model_needs_its_checkpoint(tmp_path, capsys):
  config = f'--config={runs.ROOT}/configs/quickstart.py:gmmformer'
  assert call('--mode=index', f'--index={tmp_path}/index', config) == 2
  assert '--config=configs/NAME.py:tf_prvr' in capsys.readouterr().err
