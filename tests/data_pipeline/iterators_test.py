"""Tests of the iterators: names, shapes, order, resuming, processes."""

import dataclasses
import itertools
import threading

import numpy as np
import pytest

from data_pipeline import iterators
from data_pipeline.errors import DataError
from data_pipeline.opening import open_corpus
from data_pipeline.prefetch import Prefetcher
from data_pipeline.prepare import prepare

PLAN = ('clip_sizes', 'clip_groups')


@pytest.fixture(params=['pooled', 'merged'])
def corpora(request, content, options, tmp_path):
  """The same corpus from the release and from records."""
  options = dataclasses.replace(options, clips=request.param)
  content.write(tmp_path, 'bigfile')
  prepare(options, progress=False)
  found = {
    storage: open_corpus(dataclasses.replace(options, storage=storage))
    for storage in ('release', 'records')
  }
  assert {name: c.storage for name, c in found.items()} == {
    name: name for name in found
  }
  return found


def _take(split, count=7, **kwargs):
  kwargs = {'batch_size': 4, 'seed': 1, 'multiple': 4, **kwargs}
  with iterators.train_batches(split, **kwargs) as batches:
    return list(itertools.islice(batches, count))


def _pipelines():
  return [
    'resident',
    pytest.param(
      'streaming', marks=pytest.mark.filterwarnings('ignore::Warning')
    ),
  ]


def _need(pipeline):
  if pipeline == 'streaming':
    pytest.importorskip('tensorflow')


@pytest.mark.filterwarnings('ignore::Warning')
@pytest.mark.parametrize('kind', [DataError, ZeroDivisionError])
def test_a_stream_raises_what_reading_raised(kind):
  _need('streaming')
  from data_pipeline.streaming import Stream

  def make(number):
    if number == 2:
      raise kind('of batch 2')
    return {'x': np.full(3, number)}

  stream = Stream(make, 0, 9, prefetch=1)
  assert next(stream)['x'][0] == 0
  with pytest.raises(kind, match='of batch 2'):
    list(stream)


def test_names_and_shapes_of_a_training_batch(corpora):
  split = corpora['records'].splits['train']
  (batch,) = _take(split, 1)
  n = len(batch['caption_mask'])
  plan = PLAN if split.options.merged else ()
  assert {k: (v.shape, v.dtype.name) for k, v in batch.items()} == {
    'clip_features': ((4, 32, 6), 'float32'),
    'frame_features': ((4, 128, 6), 'float32'),
    'frame_mask': ((4, 128), 'bool'),
    'video_mask': ((4,), 'bool'),
    'word_features': ((n, 30, 5), 'float32'),
    'word_mask': ((n, 30), 'bool'),
    'caption_mask': ((n,), 'bool'),
    'caption_video': ((n,), 'int32'),
    **dict.fromkeys(plan, ((4, 32), 'int32')),
  }


def test_content_of_training_batches(corpora):
  split = corpora['release'].splits['train']
  first, last = _take(split, 2)
  assert list(first['video_mask']) == [True] * 4
  assert list(last['video_mask']) == [True, False, False, False]
  for batch in (first, last):
    for name in ('clip_features', 'frame_features'):
      assert not batch[name][~batch['video_mask']].any()
    assert not batch['frame_features'][~batch['frame_mask']].any()
    assert not batch['word_features'][~batch['word_mask']].any()
    assert not batch['word_mask'][~batch['caption_mask']].any()
    assert batch['word_mask'][batch['caption_mask']].any(axis=1).all()
    owners = batch['caption_video'][batch['caption_mask']]
    assert set(owners) == set(np.flatnonzero(batch['video_mask']))
  assert sum(b['caption_mask'].sum() for b in (first, last)) == 38
  if split.options.merged:
    assert (first['frame_mask'] == first['video_mask'][:, None]).all()
    real = last['video_mask']
    np.testing.assert_array_equal(last['clip_sizes'].sum(axis=1), 128)
    np.testing.assert_array_equal(last['clip_sizes'][~real], 4)
    np.testing.assert_array_equal(
      last['clip_groups'][~real], np.tile(np.arange(32), (3, 1))
    )


@pytest.mark.parametrize('storage', ['release', 'records'])
@pytest.mark.parametrize('pipeline', _pipelines())
def test_every_path_gives_the_same_bits(
  corpora, assert_same, storage, pipeline
):
  _need(pipeline)
  expected = _take(corpora['release'].splits['train'], prefetch=0)
  got = _take(corpora[storage].splits['train'], pipeline=pipeline)
  for one, other in zip(got, expected, strict=True):
    assert_same(one, other)


@pytest.mark.parametrize('pipeline', _pipelines())
@pytest.mark.parametrize('position', [1, 2, 5])
def test_resuming_goes_on_where_it_stopped(
  corpora, assert_same, pipeline, position
):
  _need(pipeline)
  split = corpora['records'].splits['train']
  expected = _take(split)[position:]
  got = _take(split, 7 - position, pipeline=pipeline, position=position)
  for one, other in zip(got, expected, strict=True):
    assert_same(one, other)


@pytest.mark.parametrize('pipeline', _pipelines())
def test_position_counts_what_was_handed_out(corpora, pipeline):
  _need(pipeline)
  split = corpora['records'].splits['train']
  batches = iterators.train_batches(
    split, batch_size=4, seed=0, position=5, pipeline=pipeline
  )
  assert (batches.position, batches.steps_per_epoch) == (5, 2)
  next(batches)
  next(iter(batches))
  assert batches.position == 7
  batches.close()


@pytest.mark.parametrize('pipeline', _pipelines())
@pytest.mark.parametrize('count', [2, 4])
def test_processes_get_slices_of_the_global_batch(corpora, pipeline, count):
  _need(pipeline)
  split = corpora['records'].splits['train']
  whole = _take(split, 3)
  parts = [
    _take(split, 3, pipeline=pipeline, process_index=p, process_count=count)
    for p in range(count)
  ]
  for number, batch in enumerate(whole):
    for name, value in batch.items():
      pieces = [part[number][name] for part in parts]
      assert {piece.shape[0] for piece in pieces} == {len(value) // count}
      np.testing.assert_array_equal(np.concatenate(pieces), value)


def test_what_cannot_be_divided_is_refused(corpora):
  split = corpora['release'].splits['train']
  with pytest.raises(DataError, match='batch_size of 4 cannot be divided'):
    _take(split, process_count=3)
  with pytest.raises(DataError, match=r'multiple=13\) of \d+ cannot'):
    _take(split, process_count=2, multiple=13)
  with pytest.raises(DataError, match="pipeline='x' is not one of"):
    _take(split, pipeline='x')
  with pytest.raises(DataError, match='position=-1'):
    _take(split, position=-1)


@pytest.mark.parametrize('batch_size', [1, 3, 50])
def test_odd_batch_sizes(corpora, batch_size):
  split = corpora['records'].splits['train']
  batches = _take(split, batch_size=batch_size, count=-(-5 // batch_size))
  assert sum(b['caption_mask'].sum() for b in batches) == 38
  assert {len(b['video_mask']) for b in batches} == {batch_size}


@pytest.mark.parametrize('pipeline', _pipelines())
@pytest.mark.parametrize('batch_size', [1, 2, 50])
def test_evaluation_batches(corpora, assert_same, pipeline, batch_size):
  _need(pipeline)
  split = corpora['records'].splits['val']
  kwargs = {'batch_size': batch_size, 'pipeline': pipeline}
  videos = list(iterators.video_batches(split, **kwargs))
  queries = list(iterators.query_batches(split, **kwargs))
  plan = PLAN if split.options.merged else ()
  assert {k: v.shape for k, v in videos[0].items()} == {
    **dict.fromkeys(plan, (batch_size, 32)),
    'clip_features': (batch_size, 32, 6),
    'frame_features': (batch_size, 128, 6),
    'frame_mask': (batch_size, 128),
    'video_mask': (batch_size,),
  }
  assert {k: v.shape for k, v in queries[0].items()} == {
    'word_features': (batch_size, 30, 5),
    'word_mask': (batch_size, 30),
    'caption_mask': (batch_size,),
  }
  for batches, mask, expected in (
    (videos, 'video_mask', split.read_videos([0, 1])),
    (queries, 'caption_mask', split.read_captions([0, 1, 2])),
  ):
    joined = {
      name: np.concatenate([b[name] for b in batches]) for name in batches[0]
    }
    real = joined.pop(mask)
    assert real[: real.sum()].all()
    assert not any(v[~real].any() for k, v in joined.items() if k not in PLAN)
    assert_same({k: v[real] for k, v in joined.items()}, expected)


def test_evaluation_processes(corpora):
  split = corpora['records'].splits['train']
  (whole,) = iterators.query_batches(split, batch_size=40)
  parts = [
    next(
      iterators.query_batches(
        split, batch_size=40, process_index=p, process_count=2
      )
    )
    for p in range(2)
  ]
  for name, value in whole.items():
    np.testing.assert_array_equal(
      np.concatenate([part[name] for part in parts]), value
    )


def test_a_corpus_of_one(content, options, tmp_path):
  content.lines = {'train': ['v_a#enc#0 One.'], 'val': ['v_a#enc#0 One.']}
  content.write(tmp_path)
  prepare(options, progress=False)
  split = open_corpus(options).splits['train']
  (batch,) = _take(split, 1, multiple=1, batch_size=1)
  assert batch['word_features'].shape == (1, 30, 5)
  assert batch['word_mask'].sum() == batch['frame_mask'].sum() == 1


@pytest.mark.parametrize('pipeline', _pipelines())
def test_errors_come_out_of_the_background(
  content, options, tmp_path, monkeypatch, pipeline
):
  _need(pipeline)
  content.write(tmp_path)
  split = open_corpus(options).splits['val']
  good = split.source.captions

  def fail(indices):
    if 2 in indices:
      raise DataError('the third caption is bad')
    return good(indices)

  split.source.captions = fail
  monkeypatch.setattr(iterators, 'resident_source', lambda s: s.source)
  batches = iterators.query_batches(split, batch_size=1, pipeline=pipeline)
  next(batches)
  next(batches)
  with pytest.raises(DataError, match='the third caption'):
    next(batches)


def test_prefetching_stops_when_closed_or_dropped():
  before = threading.active_count()
  made = []
  batches = Prefetcher(lambda n: made.append(n) or n, itertools.count(), 2)
  assert [next(batches), next(batches)] == [0, 1]
  batches.close()
  with pytest.raises(StopIteration):
    next(batches)
  assert len(made) <= 4
  assert threading.active_count() == before
  assert list(Prefetcher(lambda n: n, iter(range(3)), 2)) == [0, 1, 2]
  assert list(Prefetcher(lambda n: n, iter(range(3)), 0)) == [0, 1, 2]
