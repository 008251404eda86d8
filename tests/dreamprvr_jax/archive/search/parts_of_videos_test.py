"""Videos with several rows: their best row counts, and they are found once."""

import json

import numpy as np
import pytest

from dreamprvr_jax.archive.index import compaction, writer
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.search.index import Index
from dreamprvr_jax.archive.search.neighbours import Neighbours
from dreamprvr_jax.archive.search.timelines import pooled, video_timelines
from dreamprvr_jax.devices import meshes
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.trained.retriever import Retriever
from tests.helpers.searching import WIDTH, retriever

FRAMES = 4
CLIPS = 2
PART, OVERLAP = 20.0, 4.0


def parts(rng, count, near=None):
  """Returns the rows of a video of parts; `near` is the third frame and the
  second clip of part 1."""
  found = []
  for part in range(count):
    frames = rng.normal(size=(1, FRAMES, WIDTH)).astype(np.float32)
    clips = rng.normal(size=(1, CLIPS, WIDTH)).astype(np.float32)
    if near is not None and part == 1:
      frames[0, 2] = clips[0, 1] = near
    start = part * (PART - OVERLAP)
    low = 0.0 if part == 0 else OVERLAP / 2 / PART
    high = 1.0 if part == count - 1 else 1 - OVERLAP / 2 / PART
    found.append(
      {
        'clip_tokens': clips,
        'frame_tokens': frames.astype(np.float16).astype(np.float32),
        'frame_mask': np.ones((1, FRAMES), bool),
        'clip_edges': np.linspace(0, 1, CLIPS + 1, dtype=np.float32)[None],
        'frame_edges': np.linspace(0, 1, FRAMES + 1, dtype=np.float32)[None],
        'starts': np.array([start]),
        'durations': np.array([PART]),
        'cores': np.array([[low, high]], np.float32),
      }
    )
  return found


def fill(place, counts, *, start=0, tokens='float16', near=None, each=False):
  """Adds videos with some numbers of parts; in one segment each if asked."""
  groups = [[i] for i in range(len(counts))] if each else [range(len(counts))]
  for group in groups:
    with writer.open_segment(
      place, retriever(), tokens=tokens, archive={'fps': 2.0}
    ) as segment:
      for i in group:
        number = start + i
        rng = np.random.default_rng(number)
        near_here = near.get(number) if near else None
        rows = parts(rng, counts[i], near_here)
        segment.add(f'v{number}', rows, {'file': f'/x/{number}.mp4'})


def words(seed, queries=9):
  found = np.random.default_rng(seed).normal(size=(queries, 1, WIDTH))
  return found.astype(np.float32)


def expected(store, queries, k):
  """Returns the best ids of each query, by plain NumPy."""
  model = retriever().model
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  every = np.arange(len(store))
  scores = 0.0
  for branch, weight in (
    ('clip', model.clip_weight),
    ('frame', model.frame_weight),
  ):
    products = np.einsum(
      'nd,rsd->nrs', unit(queries), unit(store.tokens(branch, every))
    )
    scores = scores + weight * products.max(-1)
  found = []
  for row in scores:
    best = {
      name: max(row[list(rows)]) for name, rows in store.rows_of().items()
    }
    found.append(sorted(best, key=lambda name: -best[name])[:k])
  return found


@pytest.mark.parametrize('tokens', ['float16', 'int8', 'float16+int8'])
@pytest.mark.parametrize('devices', [1, 8])
def test_the_best_videos_are_found_once(tokens, devices, tmp_path):
  counts = [1, 7, 2, 30, 1, 3, 1, 1, 12]
  fill(tmp_path / 'x', counts[:5], tokens=tokens)
  fill(tmp_path / 'x', counts[5:], start=5, tokens=tokens)
  store = Store(tmp_path / 'x')
  assert store.manifest.num_videos == store.videos == len(counts)
  assert len(store) == store.manifest.num_rows == sum(counts)
  mesh = meshes.make_mesh(devices)
  index = Index.open(tmp_path / 'x', retriever(), mesh=mesh)
  queries = words(1)
  for k in (1, 4, 9):
    hits = index.search(queries, k=k)
    assert [[h.video_id for h in row] for row in hits] == expected(
      store, queries[:, 0], k
    )
  if '+' in tokens:
    hits = index.search(queries, k=4, first_pass='int8')
    assert [[h.video_id for h in row] for row in hits] == expected(
      store, queries[:, 0], 4
    )


def test_one_video_fills_the_first_list(tmp_path):
  """All best rows belong to one video; the search looks further."""
  near = words(3, 1)[0, 0]
  fill(tmp_path / 'x', [1, 1, 1])
  with writer.open_segment(tmp_path / 'x', retriever()) as segment:
    rows = parts(np.random.default_rng(9), 200)
    for row in rows:
      row['frame_tokens'][:] = row['clip_tokens'][0, 0] = near
    segment.add('long', rows)
  index = Index.open(tmp_path / 'x', retriever())
  hits = index.search(near[None], k=4)[0]
  assert hits[0].video_id == 'long'
  assert {h.video_id for h in hits} == {'long', 'v0', 'v1', 'v2'}


def test_a_database_that_finds_too_few_videos_is_refused(tmp_path):
  fill(tmp_path / 'x', [1, 1, 1])
  index = Index.open(tmp_path / 'x', retriever())

  def two(queries, count):
    found = np.full((len(queries), max(count, 2)), -1, np.int32)
    found[:, :2] = 0, 2
    return found

  query = words(3, 1)[0]
  hits = index.search(query, k=2, first_pass=two, duplicates=True)[0]
  assert {hit.video_id for hit in hits} == {'v0', 'v2'}
  with pytest.raises(UserError, match='finds fewer than 3 of 3 videos'):
    index.search(query, k=3, first_pass=two, duplicates=True)


def test_moments_are_in_seconds_of_the_whole_file(tmp_path):
  near = words(5, 1)[0, 0]
  fill(tmp_path / 'x', [4, 3], near={0: near})
  index = Index.open(tmp_path / 'x', retriever())
  hit = index.search(near[None], k=1)[0][0]
  assert hit.video_id == 'v0'
  assert hit.duration == 3 * (PART - OVERLAP) + PART
  # The third of four frames of part 1, which begins at 16 s.
  moment = hit.moments[0]
  assert 26 <= moment.peak <= 31
  assert 16 <= moment.start <= moment.peak <= moment.end <= 37
  assert len(hit.timeline) <= 512


def test_a_peak_in_an_overlap_comes_once(tmp_path):
  """The last frame of part 0 and the first of part 1 show the same seconds."""
  near = words(6, 1)[0, 0]
  rows = parts(np.random.default_rng(1), 2)
  rows[0]['frame_tokens'][0, 3] = rows[1]['frame_tokens'][0, 0] = near
  for row in rows:
    row['clip_tokens'][:] = 0
  with writer.open_segment(tmp_path / 'x', retriever()) as segment:
    segment.add('v', rows)
  store = Store(tmp_path / 'x')
  model = retriever().model
  line = video_timelines(store, model, near[None], range(2)).values[0]
  # From 15 s, where the frame of part 0 begins, to 21 s, where that of part 1
  # ends: one stretch.
  high = np.flatnonzero(line > 0.99 * line.max())
  step = 36 / len(line)
  assert (np.diff(high) == 1).all()
  assert high[0] * step == pytest.approx(15, abs=2 * step)
  assert (high[-1] + 1) * step == pytest.approx(21, abs=2 * step)


def test_videos_are_replaced_renamed_and_joined(tmp_path):
  place = tmp_path / 'x'
  fill(place, [2, 3, 1])
  before = Store(place)
  with writer.open_segment(place, retriever()) as segment:
    segment.add('v1', parts(np.random.default_rng(50), 5), {'file': '/new'})
  store = Store(place)
  assert {n: len(r) for n, r in store.rows_of().items()} == {
    **{'v0': 2, 'v2': 1, 'v1': 5},
  }
  files = {row['id']: row['file'] for row in store.sources()}
  assert files == {'v0': '/x/0.mp4', 'v2': '/x/2.mp4', 'v1': '/new'}
  compaction.rename(place, {'v0': {'id': 'a/v0', 'file': '/a/0.mp4'}})
  store = Store(place)
  np.testing.assert_array_equal(
    store.tokens('frame', np.asarray(store.rows_of()['a/v0'])),
    before.tokens('frame', np.asarray(before.rows_of()['v0'])),
  )
  files = {row['id']: row['file'] for row in store.sources()}
  assert files['a/v0'] == '/a/0.mp4'
  assert 'v0' not in files
  compaction.compact(place)
  joined = Store(place)
  assert len(joined.manifest.segments) == 1
  assert list(joined.rows_of()) == list(store.rows_of())
  assert joined.sources() == store.sources()
  assert joined.manifest.archive == {'fps': 2.0}


def test_joining_keeps_the_source_of_a_video_that_was_replaced(tmp_path):
  place = tmp_path / 'x'
  fill(place, [2, 3])
  with writer.open_segment(place, retriever()) as segment:
    segment.add('v1', parts(np.random.default_rng(50), 1), {'file': '/new'})
  # The first segment still has the former source of the video.
  before = Store(place).sources()
  assert before[-1] == {'id': 'v1', 'file': '/new'}
  compaction.compact(place)
  assert len(Store(place).manifest.segments) == 1
  assert Store(place).sources() == before


def test_many_small_segments_are_joined(tmp_path):
  place = tmp_path / 'x'
  fill(place, [1 + i % 3 for i in range(40)], each=True)
  store = Store(place)
  assert len(store.manifest.segments) <= 17
  assert list(store.rows_of()) == [f'v{i}' for i in range(40)]


def test_a_failure_leaves_the_index_as_it_was(tmp_path):
  place = tmp_path / 'x'
  fill(place, [2])
  before = Store(place).manifest

  def broken():
    yield from parts(np.random.default_rng(1), 3)
    raise OSError('the file ends here')

  with writer.open_segment(place, retriever()) as segment:
    segment.add('good', parts(np.random.default_rng(2), 1))
    with pytest.raises(OSError, match='ends here'):
      segment.add('bad', broken())
    segment.add('also good', parts(np.random.default_rng(3), 2))
  store = Store(place)
  assert {n: len(r) for n, r in store.rows_of().items()} == {
    **{'v0': 2, 'good': 1, 'also good': 2},
  }
  manifest = store.manifest

  def stopped():
    with writer.open_segment(place, retriever()) as segment:
      segment.add('more', parts(np.random.default_rng(4), 1))
      raise RuntimeError('stop')

  with pytest.raises(RuntimeError, match='stop'):
    stopped()
  assert Store(place).manifest == manifest
  assert before.segments[0] in manifest.segments
  with writer.open_segment(place, retriever()) as segment:
    segment.add('v9', parts(np.random.default_rng(4), 1))
    with pytest.raises(UserError, match=r"twice among the videos \('v9'\)"):
      segment.add('v9', parts(np.random.default_rng(4), 1))


def test_similar_videos_are_those_with_like_parts(tmp_path):
  place, rng = tmp_path / 'x', np.random.default_rng(0)
  base = rng.normal(size=(CLIPS, WIDTH)).astype(np.float32)
  with writer.open_segment(place, retriever()) as segment:
    for name, scale in (('a', 0.1), ('b', 0.1), ('c', 9.0)):
      rows = parts(rng, 3)
      for row in rows:
        noise = rng.normal(size=base.shape).astype(np.float32)
        row['clip_tokens'][0] = base + scale * noise
      segment.add(name, rows)
  assert Neighbours(Store(place)).nearest('a', 2)[0][0] == 'b'


def test_an_index_of_version_2_is_read_and_searched(tmp_path):
  """Rows were videos, and said neither when they begin nor what they answer
  for."""
  place = tmp_path / 'x'
  fill(place, [1, 1, 1])
  queries = words(2)
  hits = Index.open(place, retriever()).search(queries, k=3)
  path = place / 'manifest.json'
  content = json.loads(path.read_text())
  for name in ('parts', 'retriever', 'archive', 'crc32c'):
    del content[name]
  for segment in content['segments']:
    del segment['rows'], segment['files']
    for name in ('starts', 'cores', 'frame_edges'):
      (place / 'segments' / segment['name'] / f'{name}.npy').unlink()
  path.write_text(json.dumps({**content, 'version': 2}))
  older = Index.open(place, retriever()).search(queries, k=3)
  for new, old in zip(hits, older, strict=True):
    assert [h.video_id for h in new] == [h.video_id for h in old]
    assert [h.moments for h in new] == [h.moments for h in old]
  with pytest.raises(UserError, match='no place for parts of videos'):
    fill(place, [2], start=7)


def test_a_retriever_without_a_checkpoint_is_in_the_manifest(tmp_path):
  free = Retriever.free('best_frame', width=WIDTH)
  rng = np.random.default_rng(0)
  with writer.open_segment(tmp_path / 'x', free) as segment:
    rows = free.rows(rng.normal(size=(40, WIDTH)), start=0.0, duration=20.0)
    rows['cores'] = np.tile(np.float32([0, 1]), (len(rows['starts']), 1))
    segment.add('v', [rows])
  index = Index.open(tmp_path / 'x')
  assert index.retriever.digest == free.digest
  found = index.search(rng.normal(size=(1, WIDTH)).astype(np.float32), k=1)
  assert found[0][0].video_id == 'v'
  assert found[0][0].duration == 20.0


def test_a_timeline_is_shortened_by_its_peaks():
  line = np.zeros(5000, np.float32)
  line[1234] = 1
  short = pooled(line, 512)
  assert len(short) == 512
  assert np.flatnonzero(short).tolist() == [1234 * 512 // 5000]
  assert len(pooled(line[:10], 512)) == 10
