"""Lists of an index: made, searched, and kept up to date."""

import json
import logging
import multiprocessing
import random

import numpy as np
import pytest

from dreamprvr_jax.archive.index import checksums, compaction, writer
from dreamprvr_jax.archive.index.files import DamagedError
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.search import list_keeping
from dreamprvr_jax.archive.search.first_pass import FirstPass, standing
from dreamprvr_jax.archive.search.index import Index
from dreamprvr_jax.archive.search.list_keeping import keep_lists
from dreamprvr_jax.devices import meshes
from dreamprvr_jax.errors import UserError
from tests.helpers.models import shared_fields
from tests.helpers.power_cuts import Order
from tests.helpers.searching import WIDTH, Plain, retriever

CLIPS, FRAMES = 3, 6
MEMORY = 1e9


@pytest.fixture(autouse=True)
def as_if_many(monkeypatch):
  """Few videos would all be scored."""
  monkeypatch.setattr('dreamprvr_jax.archive.search.searcher._AS_ONE', 0)


class Product(Plain):
  """Scores by products: tokens are not of unit length."""

  token_score = 'product'


def row(number, part=0):
  """Returns a row whose frames are two shots and a frame of its own."""
  rng = np.random.default_rng([number, part])
  shots = rng.standard_normal((2, WIDTH))
  frames = np.concatenate([np.repeat(shots, 3, axis=0)])
  frames = frames + 0.05 * rng.standard_normal(frames.shape)
  frames *= rng.uniform(0.5, 2)
  clips = frames[::2] + 0.05 * rng.standard_normal((CLIPS, WIDTH))
  mask = np.arange(FRAMES) < rng.integers(3, FRAMES + 1)
  as_stored = lambda x: x[None].astype(np.float16).astype(np.float32)
  return {
    'clip_tokens': as_stored(clips),
    'frame_tokens': as_stored(frames * mask[:, None]),
    'frame_mask': mask[None],
    'clip_edges': np.linspace(0, 1, CLIPS + 1, dtype=np.float32)[None],
    'frame_edges': np.linspace(0, 1, FRAMES + 1, dtype=np.float32)[None],
    'starts': np.array([10.0 * part]),
    'durations': np.array([10.0]),
    'cores': np.array([[0, 1]], np.float32),
  }


def fill(place, numbers, *, name='v{}', seed=0, model=None, tokens='float16'):
  """Adds videos; every third one has two parts."""
  with writer.open_segment(place, model or retriever(), tokens=tokens) as added:
    for number in numbers:
      parts = range(2 if number % 3 == 0 else 1)
      rows = [row(number + 1000 * seed, part) for part in parts]
      added.add(name.format(number), rows)


def keep(place, recall=0.0, *, model=None):
  return keep_lists(place, model or retriever(), recall=recall, memory=MEMORY)


def opened(place, model=None):
  return Index.open(place, model or retriever(), mesh=meshes.make_mesh())


def queries(count=12):
  rng = np.random.default_rng(7)
  return rng.standard_normal((count, WIDTH)).astype(np.float32)


def ids(index, found):
  return [[index.store.ids[r] for r in rows] for rows in found[1]]


def same(place, k=5, model=None, **options):
  """Compares a search by lists with the exact one; returns the latter's ids."""
  index = opened(place, model)
  search = index.searcher.search
  exact = search(queries(), k, **options)
  found = search(queries(), k, first_pass='lists', **options)
  np.testing.assert_array_equal(found[1], exact[1])
  np.testing.assert_allclose(found[0], exact[0], rtol=1e-5, atol=1e-6)
  return ids(index, exact)


@pytest.mark.parametrize('tokens', ['float16', 'int8'])
@pytest.mark.parametrize('kind', [Plain, Product])
def test_lists_find_what_the_exact_search_finds(tmp_path, kind, tokens):
  model = retriever(kind(**shared_fields()))
  fill(tmp_path / 'x', range(60), model=model, tokens=tokens)
  lists = keep(tmp_path / 'x', 0.9, model=model).lists
  assert lists.found >= lists.recall == 0.9
  assert lists.trained == 60
  # Fewer videos are scored than there are, and each is found once.
  assert lists.depth < 60
  for few in same(tmp_path / 'x', model=model):
    assert len(set(few)) == 5
  assert len(same(tmp_path / 'x', k=200, model=model)[0]) == 60


def test_few_videos_are_all_scored(tmp_path, monkeypatch):
  fill(tmp_path / 'x', range(60))
  depth = keep(tmp_path / 'x', 0.9).lists.depth
  searcher = opened(tmp_path / 'x').searcher
  path = 'dreamprvr_jax.archive.search.searcher._AS_ONE'
  monkeypatch.setattr(path, (60 - 1) // depth)
  assert searcher.chosen('auto') == 'lists'
  monkeypatch.setattr(path, -(-60 // depth))
  assert searcher.chosen('auto') is None
  # Tokens that are read from the files in each search are no faster.
  monkeypatch.setattr(searcher, 'resident', lambda: False)
  assert searcher.chosen('auto') == 'lists'


def test_lists_in_codes(tmp_path, monkeypatch):
  monkeypatch.setattr('dreamprvr_jax.archive.lists.branch_lists._FEW', 64)
  fill(tmp_path / 'x', range(400))
  lists = keep(tmp_path / 'x', 0.9).lists
  assert lists.probes <= 64
  index = opened(tmp_path / 'x')
  assert index.searcher.lists.first.most_probes > 1
  assert index.searcher.recall(queries(50), 5, first_pass='lists') > 0.8


def test_lists_are_the_default_on_a_cpu(tmp_path, monkeypatch, caplog):
  fill(tmp_path / 'x', range(30))
  index = opened(tmp_path / 'x')
  assert index.searcher.chosen('auto') is None
  with pytest.raises(UserError, match='has no lists'):
    index.searcher.search(queries(), 3, first_pass='lists')
  keep(tmp_path / 'x', 0.9)
  searcher = opened(tmp_path / 'x').searcher
  assert searcher.chosen('auto') == 'lists'
  assert searcher.chosen('none') is None
  monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
  assert searcher.chosen('auto') is None
  assert 'dreamprvr_jax[lists]' in caplog.text


def test_changes_are_seen_before_the_lists_know_them(tmp_path):
  place = tmp_path / 'x'
  fill(place, range(40))
  former = keep(place, 0.9).lists
  fill(place, range(40, 50))
  assert any('v45' in few for few in same(place, k=25))
  # The same ids with other contents.
  fill(place, range(10), seed=3)
  same(place)
  compaction.remove(place, ['v12', 'v45'])
  assert not any('v12' in few for few in same(place, k=48))
  # Two videos change their names.
  compaction.rename(place, {'v20': {'id': 'v21'}, 'v21': {'id': 'v20'}})
  same(place)
  compaction.compact(place)
  same(place)
  lists = Store(place).manifest.lists
  assert lists.name == former.name
  assert {'v0', 'v9', 'v20', 'v21'} <= set(lists.dropped)
  assert keep(place).lists == lists


def test_lists_are_extended(tmp_path, monkeypatch):
  place = tmp_path / 'x'
  fill(place, range(40))
  keep(place, 0.9)
  fill(place, range(30, 60), seed=2)
  monkeypatch.setattr(list_keeping, '_LATE', 8)
  lists = keep(place).lists
  assert (lists.trained, lists.dropped) == (40, ())
  first = opened(place).searcher.lists.first
  assert len(first.late) == 0
  late, gone = standing(Store(place), lists)
  assert (late, gone) == (0, pytest.approx(10 / 70))
  same(place)
  # Another recall needs no new ones. Those before the last are removed.
  again = keep(place, 0.5).lists
  assert (again.recall, again.trained) == (0.5, 40)
  names = {path.name for path in (place / 'lists').iterdir()}
  assert names == {lists.name, again.name}
  same(place, k=1)


def test_lists_are_made_again(tmp_path, caplog):
  caplog.set_level(logging.INFO)
  place = tmp_path / 'x'
  fill(place, range(10))
  keep(place, 0.9)
  fill(place, range(10, 50))
  assert keep(place).lists.trained == 50
  assert 'there were 10 videos when they were made' in caplog.text
  compaction.remove(place, [f'v{i}' for i in range(30)])
  assert keep(place).lists.trained == 20
  assert '60 % of their videos are gone' in caplog.text
  same(place)
  compaction.remove(place, [f'v{i}' for i in range(30, 50)])
  assert keep(place).lists is None


def test_lists_that_were_removed_meanwhile(tmp_path, caplog):
  place = tmp_path / 'x'
  fill(place, range(30))
  keep(place, 0.9)
  index = opened(place)
  exact = index.searcher.search(queries(), 3)
  keep(place, 0.8)
  keep(place, 0.7)
  found = index.searcher.search(queries(), 3, first_pass='auto')
  np.testing.assert_array_equal(found[1], exact[1])
  assert 'were made again since it was opened' in caplog.text


def test_conditions_on_videos(tmp_path, monkeypatch):
  place = tmp_path / 'x'
  fill(place, range(60))
  keep(place, 0.9)
  fill(place, range(60, 64))
  allowed = np.ones(len(Store(place)), bool)
  allowed[::2] = False
  same(place, allowed=allowed)
  monkeypatch.setattr('dreamprvr_jax.archive.search.list_search._FEW', 0)
  same(place, allowed=allowed)


def test_a_damaged_file_is_named(tmp_path):
  place = tmp_path / 'x'
  fill(place, range(30))
  name = keep(place, 0.9).lists.name
  for file in sorted((place / 'lists' / name).iterdir()):
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DamagedError, match=file.name):
      opened(place).searcher.search(queries(), 3, first_pass='lists')
    file.write_bytes(content)
  same(place)


def test_damaged_lists_are_made_again(tmp_path, caplog):
  place = tmp_path / 'x'
  fill(place, range(30))
  name = keep(place, 0.9).lists.name
  for file, change in (
    ('frame.faiss', lambda: keep(place, 0.8)),
    ('names.json', lambda: fill(place, [3], seed=5)),
  ):
    path = place / 'lists' / name / file
    path.write_bytes(b'[]' + path.read_bytes()[2:])
    change()
    assert f'{file} has the checksum' in caplog.text
    lists = Store(place).manifest.lists
    name = lists and lists.name
  # The lists that could not follow a change are dropped.
  assert lists is None
  keep(place, 0.9)
  same(place)


def test_too_many_videos_beside_the_lists(tmp_path, monkeypatch, caplog):
  place = tmp_path / 'x'
  fill(place, range(30))
  keep(place, 0.9)
  fill(place, range(30, 40))
  monkeypatch.setattr('dreamprvr_jax.archive.search.searcher._MOST_LATE', 5)
  index = opened(place)
  assert index.searcher.chosen('auto') is None
  assert 'are not in its lists; all videos are scored' in caplog.text


def test_lists_that_find_no_allowed_video(tmp_path, monkeypatch):
  monkeypatch.setattr('dreamprvr_jax.archive.search.list_search._FEW', 0)
  place = tmp_path / 'x'
  fill(place, range(60))
  keep(place, 0.9)
  empty = lambda self, queries, depth, *_: np.full((len(queries), depth), -1)
  monkeypatch.setattr(FirstPass, 'candidates', empty)
  same(place, k=2)


def test_a_failure_leaves_the_index_as_it_was(tmp_path, monkeypatch):
  place = tmp_path / 'x'
  fill(place, range(30))
  before = (place / 'manifest.json').read_bytes()

  def broken(*_, **__):
    raise KeyboardInterrupt

  monkeypatch.setattr(list_keeping, '_measured', broken)
  with pytest.raises(KeyboardInterrupt):
    keep(place, 0.9)
  assert (place / 'manifest.json').read_bytes() == before
  assert not list((place / 'lists').iterdir())


@pytest.mark.slow
def test_a_killed_command_leaves_the_index_as_before_or_after(tmp_path):
  place = tmp_path / 'x'
  fill(place, range(300))
  keep(place, 0.9)
  fill(place, range(200, 400), seed=2)
  expected = same(place)
  draw, context = random.Random(0), multiprocessing.get_context('spawn')
  for _ in range(12):
    # Another recall each time, so that there is always something to do.
    process = context.Process(target=keep, args=(place, draw.uniform(0.5, 0.9)))
    process.start()
    process.join(draw.uniform(1, 12))
    process.kill()
    process.join()
    assert same(place) == expected
    checked = Store(place).manifest.files
    for folder, files in checked.items():
      checksums.check(place / folder, files)
  # The next change removes what was left over.
  first, second = keep(place, 0.95).lists.name, keep(place, 0.8).lists.name
  assert {path.name for path in (place / 'lists').iterdir()} == {first, second}


def test_refusals(tmp_path):
  place = tmp_path / 'x'
  fill(place, range(10))
  with pytest.raises(UserError, match=r'recall=1\.5 is no share'):
    keep(place, 1.5)
  with pytest.raises(UserError, match='more than --memory'):
    keep_lists(place, retriever(), recall=0.9, memory=100)

  class Other(Plain):
    token_score = 'other'

  with pytest.raises(UserError, match='leave out --recall'):
    keep(place, 0.9, model=retriever(Other(**shared_fields())))
  assert keep(place).lists is None
  content = json.loads((place / 'manifest.json').read_text())
  assert content['lists'] is None


def test_what_a_power_cut_leaves(tmp_path, monkeypatch):
  order = Order(monkeypatch)
  place = tmp_path / 'index'
  order.check(place, lambda: fill(place, range(20)))
  order.check(place, lambda: keep(place, 0.9))
  order.check(place, lambda: keep(place, 0.95))
