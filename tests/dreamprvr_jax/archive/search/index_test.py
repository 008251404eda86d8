"""Search of an index against a plain computation of everything."""

import jax
import numpy as np
import pytest

from dreamprvr_jax.archive.index import writer
from dreamprvr_jax.archive.index.layout import dequantize, quantize
from dreamprvr_jax.archive.index.store import Store, open_index
from dreamprvr_jax.archive.search.index import Index
from dreamprvr_jax.devices import meshes
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.trained.inference import blank_of, model_of
from dreamprvr_jax.trained.retriever import Retriever
from dreamprvr_jax.types import VideoEncoding
from tests.helpers import models
from tests.helpers.models import apply
from tests.helpers.retrieval import expected_scores
from tests.helpers.searching import WIDTH, made, retriever, videos_of

VIDEOS, QUERIES = 45, 70
# Bytes of a row: 8 float16 tokens and the mask of 5 frames.
ROW = 2 * 8 * WIDTH + 5


@pytest.fixture(scope='module')
def data():
  return made(VIDEOS, QUERIES)


@pytest.fixture(scope='module')
def place(data, tmp_path_factory):
  folder = tmp_path_factory.mktemp('index') / 'made'
  writer.create(folder, retriever(), videos_of(data), tokens='float16+int8')
  return folder


def best(scores, k):
  order = np.argsort(-scores, axis=1, kind='stable')[:, :k]
  return np.take_along_axis(scores, order, axis=1), order


def check(index, data, k, **options):
  expected, order = best(expected_scores(data)[2], k)
  hits = index.search(data['words'], data['word_mask'], k, **options)
  names = [[hit.video_id for hit in row] for row in hits]
  assert names == [[f'v{i}' for i in row] for row in order]
  found = [[hit.score for hit in row] for row in hits]
  np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize('devices', [(1, 1), (8, 1), (8, 4)])
@pytest.mark.parametrize('rows', [None, 2])
def test_exact_search(place, data, devices, rows):
  mesh = meshes.make_mesh(*devices)
  # Two parts are in memory at a time, and a few videos are scored at a time.
  room = None if rows is None else 2 * rows * ROW
  index = Index.open(
    place, retriever(), mesh=mesh, device_bytes=room, products=64 * 8 * 2
  )
  assert index.searcher.resident() == (rows is None)
  check(index, data, 10)
  check(index, data, 1)
  # This returns all videos, from the tokens that are in memory now.
  check(index, data, 45)
  assert len(index.search(data['words'][:1], k=100)[0]) == VIDEOS


@pytest.mark.parametrize('tokens', ['float16', 'int8'])
def test_tokens_in_the_form_that_memory_allows(data, tokens, tmp_path):
  place = tmp_path / 'x'
  writer.create(place, retriever(), videos_of(data), tokens=tokens)
  wide = 4 * 8 * WIDTH
  one = meshes.make_mesh(1, 1)
  open_with = lambda room: Index.open(
    place, retriever(), mesh=one, device_bytes=room
  )
  fast, tight = open_with(2 * wide * VIDEOS), open_with(wide * VIDEOS)
  assert fast.searcher.bytes_per_video() == wide
  assert tight.searcher.bytes_per_video() < wide
  assert fast.searcher.resident()
  assert tight.searcher.resident()
  for queries in (data['words'], data['words'][:1]):
    found = [index.search(queries, k=VIDEOS) for index in (fast, tight)]
    for row, other in zip(*found, strict=True):
      scores = {hit.video_id: hit.score for hit in row}
      for hit in other:
        assert scores[hit.video_id] == pytest.approx(hit.score, abs=1e-6)


def test_equal_scores_are_in_the_order_of_the_index(tmp_path):
  data = made(VIDEOS, QUERIES, ties=True)
  writer.create(tmp_path / 'index', retriever(), videos_of(data))
  index = Index.open(tmp_path / 'index', retriever(), products=64 * 8 * 2)
  words = data['words'] * 0
  for row in index.search(words, k=12):
    assert [hit.video_id for hit in row] == [f'v{i}' for i in range(12)]


@pytest.mark.parametrize('room', [None, 2 * 4 * ROW])
def test_a_first_pass_that_keeps_all_is_exact(place, data, room):
  index = Index.open(place, retriever(), device_bytes=room, products=1600)
  check(index, data, 9, first_pass='int8', rescore=5)


def test_a_first_pass_finds_most(tmp_path):
  data = made(500, QUERIES)
  videos = videos_of(data, batch=100)
  writer.create(tmp_path / 'x', retriever(), videos, tokens='float16+int8')
  searcher = Index.open(tmp_path / 'x', retriever()).searcher
  queries = searcher.encode(data['words'], data['word_mask'])
  assert searcher.recall(queries, 10, first_pass='int8') >= 0.99
  # Without extra candidates, places 10 and 11 may swap, but scores are exact.
  without = searcher.recall(queries, 10, first_pass='int8', rescore=1)
  assert 0.9 <= without < 1
  scores, rows = searcher.search(queries, 10, first_pass='int8', rescore=1)
  whole = expected_scores(data)[2]
  np.testing.assert_allclose(
    scores, np.take_along_axis(whole, rows, axis=1), atol=1e-6
  )


def test_int8_tokens(data, tmp_path):
  writer.create(tmp_path / 'x', retriever(), videos_of(data), tokens='int8')
  rounded = dict(data)
  for name in ('clips', 'frames'):
    rounded[name] = dequantize(*quantize(data[name]))
    error = np.abs(rounded[name] - data[name]).max(axis=-1)
    steps = np.abs(data[name]).max(axis=-1) / 127
    assert (error <= steps * 0.501).all()
  index = Index.open(tmp_path / 'x', retriever())
  check(index, rounded, 10)
  with pytest.raises(UserError, match='has int8 tokens'):
    index.search(data['words'], k=3, first_pass='int8')
  sizes = [
    sum(f.stat().st_size for f in folder.rglob('*_*.npy'))
    for folder in (tmp_path / 'x', tmp_path / 'y')
    if folder == tmp_path / 'x'
    or writer.create(folder, retriever(), videos_of(data))
  ]
  assert sizes[0] < 0.8 * sizes[1]


def test_hits_say_when(place, data):
  index = Index.open(place, retriever())
  (hits,) = index.search(data['words'][3], k=VIDEOS, moments=2)
  query = data['words'][3, 0]
  cosine = lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b)
  for hit in hits:
    video = int(hit.video_id[1:])
    assert 1 <= len(hit.moments) <= 2
    assert hit.moments[0].score == hit.score
    frames = int(data['mask'][video].sum())
    assert len(hit.timeline) == max(frames, 3)
    if video % 5 == 4:
      assert np.isnan(hit.duration)
    else:
      assert hit.duration == 10 + video
      assert 0 <= hit.moments[0].start < hit.moments[0].end <= hit.duration
    count = len(hit.timeline)
    for i in range(count):
      clip = int((i + 0.5) / count * 3)
      expected = 0.7 * cosine(query, data['clips'][video, clip])
      frame = int((i + 0.5) / count * frames)
      expected += 0.3 * cosine(query, data['frames'][video, frame])
      assert hit.timeline[i] == pytest.approx(expected, abs=1e-5)


def test_merged_clips_have_their_own_stretches(data, tmp_path):
  sizes = np.tile(np.asarray([3, 1, 1], np.int32), (VIDEOS, 1))
  folder = tmp_path / 'x'
  writer.create(folder, retriever(), videos_of(data, clip_sizes=sizes))
  (file,) = folder.glob('segments/*/clip_edges.npy')
  np.testing.assert_allclose(np.load(file)[7], [0, 0.6, 0.8, 1], atol=1e-6)


FAMILY = ('ms_sl', 'holmes_multi', 'ral', 'diffusionret', 'gmmformer')


@pytest.mark.parametrize('name', FAMILY)
def test_scores_are_those_of_the_model(name, tmp_path):
  from configs.quickstart import get_config
  from dreamprvr_jax.cli.provenance import plain_config

  config = plain_config(get_config(name))
  config['model'] |= {'width': 16, 'num_heads': 2}
  config['data'] |= {'num_clips': 4, 'max_frames': 8, 'max_words': 5}
  model = model_of(config)
  variables = models.drawn(model, blank_of(config, WIDTH, WIDTH))
  trained = retriever(model, variables, config=config)
  data = made(20, 6, clips=4, frames=8)
  words = np.random.default_rng(1).normal(size=(6, 4, WIDTH))
  mask = np.arange(4) < np.asarray([1, 2, 3, 4, 4, 4])[:, None]
  writer.create(tmp_path / 'x', trained, videos_of(data))
  index = Index.open(tmp_path / 'x', trained, products=64 * 12 * 2)
  hits = index.search(words, mask, k=20)

  queries = apply(
    model, variables, *trained.words(words, mask), method='encode_query'
  )
  found = apply(
    model,
    variables,
    data['clips'],
    data['frames'],
    data['mask'],
    method='encode_video',
  )
  # Stored tokens are float16, whose last bit may be rounded either way.
  store = Store(tmp_path / 'x')
  tokens = [
    store.read(f'{branch}_tokens', 0, 20).astype(np.float32)
    for branch in ('clip', 'frame')
  ]
  np.testing.assert_allclose(tokens[0], found.clip_tokens, 1e-3, 1e-5)
  np.testing.assert_allclose(tokens[1], found.frame_tokens, 1e-3, 1e-5)
  videos = VideoEncoding(*tokens, data['mask'])
  scores = apply(model, variables, queries, videos, method='score')
  fused = model.clip_weight * scores.clip + model.frame_weight * scores.frame
  for row, of_query in zip(hits, np.asarray(fused), strict=True):
    assert len({hit.video_id for hit in row}) == 20
    for hit in row:
      own = of_query[int(hit.video_id[1:])]
      assert hit.score == pytest.approx(own, abs=2e-6)
  assert trained.is_plain == (name == 'gmmformer')
  if not trained.is_plain:
    with pytest.raises(UserError, match=r'that of .* is not'):
      index.search(words, mask, first_pass='int8')


@pytest.mark.parametrize(
  ('words', 'mask', 'sentence'),
  [
    (np.zeros((2, 3, WIDTH + 1)), None, r'have the shape \(2, 3, 17\)'),
    (np.zeros(WIDTH), None, 'have the shape'),
    (np.full((1, 2, WIDTH), np.nan), None, 'not finite'),
    (np.zeros((1, 2, WIDTH)), np.zeros((1, 2), bool), 'has no word'),
    (np.zeros((1, 2, WIDTH)), np.ones((1, 3), bool), 'mask of the words'),
    (np.zeros((0, 2, WIDTH)), None, 'no query'),
    ([], None, 'no query was given; give at least one'),
  ],
)
def test_bad_queries(words, mask, sentence, place):
  with pytest.raises(UserError, match=sentence):
    Index.open(place, retriever()).search(words, mask)


def test_numbers_behind_the_words_play_no_part(place, data):
  index = Index.open(place, retriever())
  words = np.concatenate(
    [data['words'], np.full_like(data['words'], np.nan)], 1
  )
  mask = np.tile([True, False], (QUERIES, 1))
  scores = lambda hits: [[hit.score for hit in row] for row in hits]
  assert scores(index.search(words, mask)) == scores(
    index.search(data['words'])
  )


def test_an_index_names_its_checkpoint(place, monkeypatch):
  asked = []

  def load(checkpoint):
    asked.append(checkpoint)
    return retriever(digest='plain' if len(asked) < 3 else 'other')

  monkeypatch.setattr(Retriever, 'load', load)
  store, found = open_index(place)
  assert (len(store), found.digest) == (VIDEOS, 'plain')
  open_index(place, 'elsewhere')
  assert asked == [store.manifest.checkpoint, 'elsewhere']
  with pytest.raises(UserError, match='index again'):
    open_index(place, 'elsewhere')


def test_hits_as_json(place, data):
  index = Index.open(place, retriever())
  ((hit,),) = index.search(data['words'][:1], k=1)
  content = hit.to_json(3)
  assert (content['rank'], content['video']) == (3, hit.video_id)
  first = content['moments'][0]
  assert set(first) == {'start', 'end', 'peak', 'span', 'score'}
  np.testing.assert_allclose(content['timeline'], hit.timeline, atol=6e-6)


def test_bad_requests(place, data):
  index = Index.open(place, retriever())
  with pytest.raises(UserError, match='k is 0'):
    index.search(data['words'], k=0)
  with pytest.raises(UserError, match="no first pass 'int4'"):
    index.search(data['words'], first_pass='int4')
  with pytest.raises(UserError, match='memory_share is 2'):
    Index.open(place, retriever(), memory_share=2)
  with pytest.raises(UserError, match='was made with the checkpoint'):
    Index.open(place, retriever(digest='other'))
  assert jax.device_count() == 8


@pytest.mark.parametrize('rows', [None, 2])
@pytest.mark.parametrize('first_pass', [None, 'int8'])
def test_only_allowed_rows_are_found(place, data, rows, first_pass):
  room = None if rows is None else 2 * rows * ROW
  index = Index.open(place, retriever(), device_bytes=room)
  allowed = np.arange(VIDEOS) % 3 == 1
  queries = index.searcher.encode(
    *index.retriever.words(data['words'], data['word_mask'])
  )
  options = {'first_pass': first_pass, 'rescore': 9}
  scores, found = index.searcher.search(queries, 6, allowed=allowed, **options)
  of_all = expected_scores(data)[2]
  expected, order = best(np.where(allowed, of_all, -np.inf), 6)
  np.testing.assert_array_equal(found, order)
  np.testing.assert_allclose(scores, expected, atol=1e-6)
  few = index.searcher.search(queries, 40, allowed=allowed, **options)[1]
  assert few.shape == (QUERIES, allowed.sum())
  none = np.zeros(VIDEOS, bool)
  assert index.searcher.search(queries, 5, allowed=none)[1].shape[1] == 0
