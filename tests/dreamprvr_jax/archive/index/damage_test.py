"""An index with changed files, or files of another program."""

import copy
import json
import os
import pickle
import shutil

import numpy as np
import pytest

from dreamprvr_jax import folders
from dreamprvr_jax.archive.database.export import export
from dreamprvr_jax.archive.index import layout, store, writer
from dreamprvr_jax.archive.index.checksums import sealed
from dreamprvr_jax.archive.index.compaction import compact, remove
from dreamprvr_jax.archive.index.files import DamagedError
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.search.index import Index
from dreamprvr_jax.archive.search.neighbours import Neighbours
from dreamprvr_jax.errors import UserError
from tests.helpers.databases import needs_edge
from tests.helpers.searching import made, retriever, seal, videos_of

VIDEOS = 12
PLAIN = (
  *(None, True, False, 0, -1, 1, 7, 99999, 2**31, 10**30, 32.0, 1e999),
  *('', 'v1', '..', '/etc', '../../x', 'a\nb', '\ud83d', 'x' * 300),
  *([], [[]], [0], ['v1'], {}, {'name': 1}, [{}], [[[['v1']]]]),
)


@pytest.fixture(scope='module')
def data():
  return made(VIDEOS, 5)


@pytest.fixture(scope='module')
def whole(data, tmp_path_factory):
  """An index of two segments; videos were removed from one of them."""
  place = tmp_path_factory.mktemp('whole') / 'index'
  rows = np.arange(VIDEOS)
  writer.create(
    place, retriever(), videos_of(data, rows[:8]), tokens='float16+int8'
  )
  writer.append(place, retriever(), videos_of(data, rows[8:]))
  remove(place, ['v2', 'v3'])
  return place


@pytest.fixture
def place(whole, tmp_path):
  shutil.copytree(whole, tmp_path / 'index')
  return tmp_path / 'index'


def segments(place):
  named = json.loads((place / 'manifest.json').read_text())['segments']
  return [place / 'segments' / segment['name'] for segment in named]


def everything(place):
  """Returns the bytes of all files below a folder."""
  return {
    path.relative_to(place): path.read_bytes()
    for path in place.rglob('*')
    if path.is_file()
  }


def opens(place):
  """Returns whether an index can be opened and read; if not, checks that the
  error is one sentence."""
  try:
    found = Store(place)
    for name in layout.array_specs(found.manifest):
      assert len(found.read(name, 0, len(found))) == len(found)
    for rows in found.rows_of().values():
      assert all(isinstance(found.ids[row], str) for row in rows)
  except UserError as error:
    sentence = str(error)
  else:
    return True
  assert sentence.isprintable()
  return False


def places(value, path=()):
  """Yields the path to every value inside a JSON value."""
  yield path
  if isinstance(value, dict | list):
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
      yield from places(inner, (*path, key))


def changed(content, path, value):
  if not path:
    return value
  content = copy.deepcopy(content)
  inner = content
  for key in path[:-1]:
    inner = inner[key]
  inner[path[-1]] = value
  return content


def written(content):
  """Returns the text of a manifest, with a right checksum if there is one."""
  if isinstance(content, dict) and content.get('version') == 4:
    return sealed(content)
  return json.dumps(content)


def test_any_value_at_any_place_of_the_manifest(place):
  path = place / 'manifest.json'
  content = json.loads(path.read_text())
  opened = 0
  for where in places(content):
    # One file of a segment stands for all.
    if 'files' in where and where[4:5] not in ((), ('ids.json',)):
      continue
    for value in PLAIN:
      path.write_text(written(changed(content, where, value)))
      opened += opens(place)
  # Some values are valid: any checkpoint, and rows that may be removed.
  assert opened > 20
  # A change without a new checksum is found, whatever it is.
  path.write_text(json.dumps({**content, 'checkpoint': 'elsewhere'}))
  with pytest.raises(
    DamagedError, match=r'manifest\.json has the checksum \w{8} where .* was'
  ):
    Store(place)
  path.write_text('[' * 100_000)
  assert not opens(place)


def test_any_value_at_any_place_of_the_ids(place):
  path = segments(place)[1] / 'ids.json'
  content = json.loads(path.read_text())
  for where in places(content):
    for value in PLAIN:
      path.write_text(json.dumps(changed(content, where, value)))
      seal(place)
      opened = opens(place)
      is_text = isinstance(value, str) and where != ()
      # The id of a removed video may occur twice.
      if not (is_text and value != '\ud83d'):
        assert not opened, (where, value)


def test_bytes_of_headers_and_ends_of_files(place):
  rng = np.random.default_rng(0)
  for path in sorted(segments(place)[0].iterdir()):
    raw = path.read_bytes()
    for size in {0, 1, 5, 9, 10, 40, len(raw) - 1}:
      path.write_bytes(raw[:size])
      assert not opens(place), (path, size)
    path.write_bytes(raw + b' ' if path.suffix == '.npy' else raw + b',')
    assert not opens(place)
    for _ in range(60):
      flipped = bytearray(raw)
      at = int(rng.integers(min(len(raw), 128)))
      flipped[at] ^= 1 << int(rng.integers(8))
      path.write_bytes(flipped)
      opens(place)
    path.write_bytes(raw)
  assert opens(place)


@pytest.mark.parametrize(
  'header',
  [
    "{'descr': '<f2', 'fortran_order': False, 'shape': (8, 3, 16), ",
    "{'descr': '<f2', 'fortran_order': False, 'shape': (8, 3, 16), }} ",
    "{'descr': '<f2', 'fortran_order': True, 'shape': (8, 3, 16), } ",
    "{'descr': '|O', 'fortran_order': False, 'shape': (8, 3, 16), } ",
    "{'descr': '<f2', 'fortran_order': False, 'shape': (), } ",
    "{'descr': '<f2', 'fortran_order': False, 'shape': (99999999999999,), } ",
    "{'descr': [('a', '<f2')], 'fortran_order': False, 'shape': (8,), } ",
    '(' * 110,
  ],
)
def test_headers_that_are_none(header, place):
  path = segments(place)[0] / 'clip_tokens.npy'
  raw = path.read_bytes()
  path.write_bytes(raw[:10] + header.ljust(117).encode()[:117] + raw[127:])
  with pytest.raises(DamagedError, match=r'clip_tokens\.npy cannot be read'):
    Store(place)


def test_what_a_manifest_says_twice_or_elsewhere(place):
  path = place / 'manifest.json'
  content = json.loads(path.read_text())
  first = content['segments'][0]
  for segments_, sentence in (
    ([first, first], 'names the segment .* twice'),
    ([{**first, 'name': '../segments'}], 'which is no name of a segment'),
    ([{**first, 'name': str(place)}], 'which is no name of a segment'),
    ([{**first, 'removed': [99999]}], 'not rising from 0 to below 8'),
    ([{**first, 'removed': [3, 2]}], 'not rising from 0 to below 8'),
    ([{**first, 'rows': 10**6}], 'of shape .1000000,'),
    ([{**first, 'videos': 10**6}], 'videos of .* is 1000000 of 6 rows'),
    ([{**first, 'videos': 5}], 'names 5 videos of .*, which has 6'),
  ):
    path.write_text(sealed({**content, 'segments': segments_}))
    with pytest.raises(UserError, match=sentence):
      Store(place)
  path.write_text(sealed({**content, 'clips': 32.0}))
  with pytest.raises(UserError, match=r'clips is 32\.0'):
    Store(place)
  ids = segments(whole_of(path, content))[1] / 'ids.json'
  ids.write_text(json.dumps(['v0', 'v9', 'v10', 'v11']))
  seal(place)
  with pytest.raises(UserError, match="has the video 'v0' twice"):
    Store(place)


def whole_of(path, content):
  path.write_text(sealed(content))
  return path.parent


@pytest.mark.parametrize(
  'name', ['manifest.json', 'segments', 'SEGMENT', 'SEGMENT/frame_mask.npy']
)
def test_links_are_not_followed(name, place, tmp_path):
  first = segments(place)[0]
  path = place / name.replace('SEGMENT', f'segments/{first.name}')
  path.rename(tmp_path / 'elsewhere')
  path.symlink_to(tmp_path / 'elsewhere')
  before = everything(tmp_path)
  for call in (Store, compact, lambda root: remove(root, ['v1'])):
    with pytest.raises(UserError, match=r'is a link|was not written by'):
      call(place)
  assert everything(tmp_path) == before


def test_pipes_are_not_waited_for(place):
  path = segments(place)[0] / 'durations.npy'
  path.unlink()
  os.mkfifo(path)
  with pytest.raises(DamagedError, match=r'durations\.npy is no file'):
    Store(place)


@pytest.mark.parametrize('room', [None, 800])
def test_a_file_that_is_cut_while_it_is_open(room, place, data):
  """A memory-mapped file would crash the process."""
  index = Index.open(place, retriever(), device_bytes=room)
  for path in segments(place)[0].glob('*.npy'):
    os.truncate(path, 200)
  with pytest.raises(DamagedError, match='was cut after it had been opened'):
    index.search(data['words'], k=3)


def test_a_file_that_is_replaced_while_it_is_open(place, data):
  index = Index.open(place, retriever(), device_bytes=800)
  names = lambda: [
    [hit.video_id for hit in row] for row in index.search(data['words'], k=9)
  ]
  before = names()
  shutil.rmtree(place / 'segments')
  assert names() == before


def test_a_reader_between_a_manifest_and_what_it_named(
  place, data, monkeypatch
):
  """While an index is opened, it is rewritten and its old files are removed."""
  read, times = store.read_ids, []

  def slow(path):
    if not times:
      times.append(path)
      writer.create(place, retriever(), videos_of(data, [5, 6]))
      compact(place)
    return read(path)

  monkeypatch.setattr(store, 'read_ids', slow)
  assert Store(place).ids == ['v5', 'v6']
  assert times


@pytest.mark.parametrize('name', ['clip_tokens', 'frame_tokens'])
@pytest.mark.parametrize('value', [np.nan, np.inf])
@pytest.mark.parametrize('room', [None, 800])
@pytest.mark.parametrize('first_pass', [None, 'int8', 'other'])
def test_tokens_that_are_not_finite(name, value, room, first_pass, place, data):
  path = segments(place)[1] / f'{name}.npy'
  tokens = np.load(path)
  tokens[1, 0, 3] = value
  np.save(path, tokens)
  seal(place)
  index = Index.open(place, retriever(), device_bytes=room)
  if first_pass == 'other':
    first_pass = lambda queries, count: np.tile(np.arange(8, 12), (5, 1))
  with pytest.raises(DamagedError, match="tokens of the video 'v9' that are"):
    index.search(data['words'], k=4, first_pass=first_pass, rescore=3)
  # A removed video does no harm.
  remove(place, ['v9'])
  index = Index.open(place, retriever(), device_bytes=room)
  if first_pass is None:
    hits = index.search(data['words'], k=VIDEOS)
    assert all(np.isfinite(hit.score) for row in hits for hit in row)


def test_scales_that_are_not_finite(data, tmp_path):
  writer.create(tmp_path, retriever(), videos_of(data), tokens='int8')
  path = segments(tmp_path)[0] / 'frame_scales.npy'
  array = np.load(path)
  array[4, 0] = np.nan
  np.save(path, array)
  seal(tmp_path)
  with pytest.raises(
    DamagedError, match="tokens of the video 'v4' that are not"
  ):
    Index.open(tmp_path, retriever()).search(data['words'], k=2)


def test_neighbours_of_tokens_that_are_not_finite(place):
  path = segments(place)[1] / 'clip_tokens.npy'
  tokens = np.load(path)
  tokens[0] = np.nan
  np.save(path, tokens)
  seal(place)
  with pytest.raises(DamagedError, match="of the video 'v8'"):
    Neighbours(Store(place))


def test_a_query_that_is_not_finite(place):
  searcher = Index.open(place, retriever()).searcher
  with pytest.raises(UserError, match='the encoding of a query has numbers'):
    searcher.search(np.full((1, 16), np.nan, np.float32), 3)


@needs_edge
def test_a_database_gets_no_damaged_tokens(place, tmp_path):
  path = segments(place)[0] / 'clip_tokens.npy'
  tokens = np.load(path)
  tokens[0] = np.nan
  np.save(path, tokens)
  seal(place)
  with pytest.raises(UserError, match='that are not finite'):
    export(str(tmp_path / 'db'), Store(place))


def test_damage_comes_back_from_another_process():
  error = DamagedError('there', 'is missing')
  again = pickle.loads(pickle.dumps(error))
  assert (str(again), again.path) == (str(error), 'there')


def foreign(folder, name):
  path = folder / name
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text('mine')


def test_what_systems_put_into_folders_is_in_nobodys_way(place, data):
  (segment, *_) = (place / 'segments').iterdir()
  for path in (place, place / 'segments', segment):
    for name in ('.DS_Store', '._ids.json', '.nfs0001'):
      (path / name).touch()
  writer.append(place, retriever(), videos_of(data_of_more(), [41]))
  assert 'v41' in Store(place).ids
  remove(place, Store(place).rows_of())
  compact(place)
  assert Store(place).ids == []


def data_of_more():
  return made(50, 1, seed=1)


def test_many_segments(place, data, monkeypatch):
  """All files of an index stay open."""
  count = len(Store(place).manifest.segments)
  asked = []
  monkeypatch.setattr(store, 'allow_files', lambda n: asked.append(n) or True)
  Store(place)
  assert asked[0] >= count * 5
  monkeypatch.setattr(store, 'allow_files', lambda n: False)
  with pytest.raises(
    UserError, match=rf'has {count} segments of \d+ files, .*ulimit'
  ):
    Store(place)


@pytest.mark.parametrize('is_index', [False, True])
@pytest.mark.parametrize(
  'name',
  [
    'segments/notes/a.txt',
    'segments/a.txt',
    f'segments/{"0" * 32}/a.txt',
    f'segments/{"0" * 32}/ids.json/a.txt',
  ],
)
def test_foreign_files_are_left_alone(name, is_index, place, data, tmp_path):
  root = place if is_index else tmp_path / 'own'
  foreign(root, name)
  before = everything(root)
  videos = videos_of(data, [1])
  with pytest.raises(UserError, match='was not written by --mode=index'):
    writer.create(root, retriever(), videos)
  if is_index:
    for call in (compact, lambda root: remove(root, ['v1'])):
      with pytest.raises(UserError, match='was not written by --mode=index'):
        call(root)
  assert everything(root) == before


@pytest.mark.parametrize(
  'name', ['segments.txt', 'manifest.json', 'segments/../a.txt', '.hidden']
)
def test_a_folder_of_somebody_else(name, data, tmp_path):
  (tmp_path / 'segments').mkdir()
  foreign(tmp_path, name)
  before = everything(tmp_path)
  with pytest.raises(UserError, match=r'holds other files|no manifest of'):
    writer.create(tmp_path, retriever(), videos_of(data, [1]))
  assert everything(tmp_path) == before


def test_an_index_of_an_earlier_version(place, data):
  (place / folders.MARKER).unlink()
  foreign(place, 'README.txt')
  assert opens(place)
  writer.append(place, retriever(), videos_of(data, [2]))
  assert folders.kind_of(place) == 'index'
  assert (place / 'README.txt').read_text() == 'mine'


def test_what_an_earlier_version_left_when_it_was_killed(place, data):
  for name in ('manifest.json', folders.MARKER):
    (place / name).unlink()
  for name in ('.manifest.json.123.tmp', '.1-0123abcd.partial.manifest.json'):
    (place / name).write_text('{')
  writer.create(place, retriever(), videos_of(data, [2]))
  assert len(list((place / 'segments').iterdir())) == 1
  assert not list(place.glob('.*manifest*'))
  assert Store(place).ids == ['v2']


def test_ids_meet_in_their_composed_form(place, data):
  composed, decomposed = 'caf\u00e9', 'cafe\u0301'
  videos = videos_of(data, [2])
  object.__setattr__(videos, 'ids', [decomposed])
  writer.append(place, retriever(), videos)
  assert Store(place).ids[-1] == composed
  with pytest.raises(UserError, match=f'has the video {composed!r} already'):
    writer.append(place, retriever(), videos)
  assert composed not in writer_ids(remove(place, [decomposed]), place)
  object.__setattr__(videos, 'ids', ['half \ud83d'])
  with pytest.raises(UserError, match=r'holds \\ud83d, which is half of a'):
    writer.append(place, retriever(), videos)
  # An earlier version stored ids unchanged.
  path = segments(place)[1] / 'ids.json'
  path.write_text(json.dumps([decomposed, 'v9', 'v10', 'v11']))
  seal(place)
  assert composed in Store(place).rows_of()


def writer_ids(manifest, place):
  assert Store(place).manifest == manifest
  return Store(place).rows_of()
