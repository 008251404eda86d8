"""Scores that are products with tokens, in every storage form."""

import numpy as np
import pytest

from dreamprvr_jax.archive.index import writer
from dreamprvr_jax.archive.index.encoding import Videos
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.search.searcher import Searcher
from dreamprvr_jax.devices import meshes
from dreamprvr_jax.trained.retriever import Retriever
from dreamprvr_jax.training_free.moments import moments
from dreamprvr_jax.training_free.rows import mean_token
from tests.helpers.golden import load

WIDTH = 32


@pytest.fixture(scope='module')
def golden():
  return load('tf_prvr')


def tokens_of(golden, model):
  """Returns the tokens of twelve videos."""
  found = []
  for part in 'AB':
    for i in range(6):
      frames = golden[f'{part}/videos/{i}'].astype(np.float64)
      if model == 'tf_prvr':
        found.append(moments(frames)[0])
      else:
        unit = frames / np.linalg.norm(frames, axis=1, keepdims=True)
        found.append(unit[: 3 + i].astype(np.float32))
  return found


def videos_of(tokens):
  most = max(map(len, tokens))
  count = len(tokens)
  frames = np.zeros((count, most, WIDTH), np.float32)
  mask = np.zeros((count, most), bool)
  for i, rows in enumerate(tokens):
    frames[i, : len(rows)], mask[i, : len(rows)] = rows, True
  batch = {
    'clip_features': np.stack([mean_token(rows)[None] for rows in tokens]),
    'frame_features': frames,
    'frame_mask': mask,
    'video_mask': np.ones(count, bool),
  }
  ids = [f'v{i}' for i in range(count)]
  return Videos(ids, np.full(count, 9.0), lambda: [batch])


@pytest.mark.parametrize('model', ['tf_prvr', 'best_frame'])
@pytest.mark.parametrize(
  ('form', 'first_pass', 'tolerance'),
  [
    ('float16', None, 1e-3),
    ('int8', None, 1e-2),
    ('float16+int8', 'int8', 1e-3),
  ],
)
def test_ranks_by_products(
  golden, tmp_path, model, form, first_pass, tolerance
):
  """The opposite queries have negative products with many videos, where a
  padded token of zeros would be the best."""
  queries = np.concatenate([golden['queries'], -golden['queries']])
  retriever = Retriever.free(model, width=WIDTH)
  tokens = tokens_of(golden, model)
  writer.create(tmp_path, retriever, videos_of(tokens), tokens=form)
  store = Store(tmp_path)
  mesh = meshes.make_mesh()
  searcher = Searcher(retriever, store, mesh)
  encoded = searcher.encode(*retriever.words(queries[:, None]))
  scores, rows = searcher.search(encoded, 12, first_pass=first_pass)
  unit = queries / np.linalg.norm(queries, axis=1, keepdims=True)
  expected = np.stack([(unit @ t.T).max(axis=1) for t in tokens], axis=1)
  np.testing.assert_allclose(
    scores, np.take_along_axis(expected, rows, axis=1), atol=tolerance
  )
  assert (np.diff(scores, axis=1) <= 0).all()
  assert (scores < 0).any()
  # Float32 tokens in the memory of a CPU give the same as stored ones.
  if first_pass is None:
    assert searcher._parts.exact == 'units'
    few = Searcher(retriever, store, mesh, device_bytes=1)
    assert few._parts.exact == form
    np.testing.assert_allclose(few.search(encoded, 12)[0], scores, atol=1e-5)


def test_first_pass_reads_the_length_of_tokens(golden, tmp_path):
  """With the lengths left out, long tokens would be lost among short ones."""
  retriever = Retriever.free('tf_prvr', width=WIDTH)
  tokens = [
    t * (4 if i % 3 else 0.2)
    for i, t in enumerate(tokens_of(golden, 'tf_prvr'))
  ]
  writer.create(tmp_path, retriever, videos_of(tokens), tokens='float16+int8')
  searcher = Searcher(retriever, Store(tmp_path), meshes.make_mesh())
  encoded = searcher.encode(*retriever.words(golden['queries'][:, None]))
  assert searcher.recall(encoded, 3, first_pass='int8', rescore=2) > 0.9
