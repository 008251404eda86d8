"""Searching with a kept query encoder instead of a whole checkpoint."""

import json
import shutil

import jax
import numpy as np
import pytest

from dreamprvr_jax import checkpoints
from dreamprvr_jax.archive.search.index import Index
from dreamprvr_jax.devices import meshes, programs
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.trained import kept, query_program
from dreamprvr_jax.trained.kept import KeptRetriever
from dreamprvr_jax.trained.retriever import Retriever
from tests.helpers.commands import call, untrained


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  place, _ = untrained(tmp_path_factory.mktemp('made'), 'gmmformer', (6, 4, 9))
  return place


@pytest.fixture
def checkpoint(trained, tmp_path):
  return shutil.copytree(trained, tmp_path / 'checkpoint')


@pytest.fixture
def place(monkeypatch, tmp_path):
  """Returns the folder of programs, of a process with one device."""
  monkeypatch.setattr(programs, '_place', tmp_path / 'programs')
  monkeypatch.setattr(jax, 'device_count', lambda: 1)
  return tmp_path / 'programs'


def query(retriever):
  width = retriever.stored['text_width']
  features = np.random.default_rng(0).normal(size=(1, 4, width))
  return retriever.words(features)


def no_weights(*_):
  raise AssertionError('the weights were read')


def test_one_query_is_encoded_with_the_same_numbers(
  checkpoint, place, monkeypatch
):
  whole = Retriever.load(checkpoint)
  words, mask = query(whole)
  encode = jax.jit(
    lambda variables, words, mask: whole.model.apply(
      variables, words, mask, method='encode_query'
    )
  )
  expected = np.asarray(encode(whole.variables, words, mask))
  assert kept.find(checkpoint, whole.digest) is None
  first = kept.keep(whole)
  assert first.variables is whole.variables
  monkeypatch.setattr(Retriever, 'load', no_weights)
  second = kept.find(checkpoint, whole.digest)
  for found in (first, second):
    assert isinstance(found, KeptRetriever)
    np.testing.assert_array_equal(found.encode_one(words, mask), expected)
  assert second.stored == whole.stored
  assert second.model == whole.model
  assert second.is_plain
  assert kept.keep(second) is second


def test_only_the_weights_of_the_query_encoder_are_kept(checkpoint, place):
  whole = Retriever.load(checkpoint)
  kept.keep(whole)
  (file,) = place.iterdir()
  assert file.stat().st_mode & 0o077 == 0
  size = sum(leaf.nbytes for leaf in jax.tree.leaves(whole.variables))
  assert file.stat().st_size < size


def test_weights_are_read_when_they_are_needed(checkpoint, place):
  whole = Retriever.load(checkpoint)
  kept.keep(whole)
  found = kept.find(checkpoint, whole.digest)
  jax.tree.map(np.testing.assert_array_equal, found.variables, whole.variables)
  assert found.variables is found.variables


def test_another_checkpoint_is_not_taken_for_this_one(checkpoint, place):
  whole = Retriever.load(checkpoint)
  kept.keep(whole)
  assert kept.find(checkpoint, '0' * 16) is None
  found = kept.find(checkpoint, whole.digest)
  other = jax.tree.map(lambda leaf: leaf + 1, jax.device_get(whole.variables))
  checkpoints.save_weights(checkpoint, other, whole.stored)
  assert kept.find(checkpoint, whole.digest) is None
  with pytest.raises(UserError, match='give the command again'):
    _ = found.variables
  assert kept.find(checkpoint / 'none', whole.digest) is None


@pytest.mark.parametrize('what', ['config', 'seal', 'sources', 'release'])
def test_a_program_of_other_circumstances_is_not_used(
  checkpoint, place, monkeypatch, what
):
  whole = Retriever.load(checkpoint)
  kept.keep(whole)
  if what == 'config':
    stored = json.loads((checkpoint / 'config.json').read_text())
    stored['config']['model']['dropout'] = 0.5
    (checkpoint / 'config.json').write_text(json.dumps(stored))
  elif what == 'seal':
    (checkpoint / 'seal.json').unlink()
  elif what == 'sources':
    monkeypatch.setattr(query_program, '_sources', lambda: ['base.py 1 2'])
  else:
    monkeypatch.setattr(programs.jaxlib, '__version__', '0.0.1')
  assert kept.find(checkpoint, whole.digest) is None


@pytest.mark.parametrize('length', [0.5, 1.0])
def test_a_damaged_program_is_made_again(checkpoint, place, length):
  whole = Retriever.load(checkpoint)
  kept.keep(whole)
  (file,) = place.iterdir()
  data = bytearray(file.read_bytes())
  data[-1] ^= 1
  file.write_bytes(data[: int(len(data) * length)])
  assert kept.find(checkpoint, whole.digest) is None
  assert isinstance(kept.keep(whole), KeptRetriever)
  assert kept.find(checkpoint, whole.digest) is not None


def test_a_folder_that_cannot_be_written_is_done_without(checkpoint, place):
  place.touch()
  whole = Retriever.load(checkpoint)
  assert kept.keep(whole) is whole


def test_none_is_kept_without_a_folder_or_with_several_devices(
  checkpoint, place, monkeypatch
):
  whole = Retriever.load(checkpoint)
  monkeypatch.setattr(jax, 'device_count', lambda: 2)
  assert kept.keep(whole) is whole
  monkeypatch.setattr(jax, 'device_count', lambda: 1)
  monkeypatch.setattr(programs, '_place', None)
  assert kept.keep(whole) is whole
  assert kept.find(checkpoint, whole.digest) is None
  assert not place.exists()


def test_searches_find_the_same_with_and_without_it(
  checkpoint, place, monkeypatch, tmp_path
):
  index = tmp_path / 'index'
  assert call('index', f'--checkpoint={checkpoint}', f'--index={index}') == 0
  shutil.rmtree(place)
  mesh = meshes.make_mesh(1)

  def hits(queries=1):
    opened = Index.open(index, mesh=mesh)
    words, mask = query(opened.retriever)
    words, mask = words.repeat(queries, axis=0), mask.repeat(queries, axis=0)
    found = opened.search(words, mask, 5, cutoff='none')
    return opened.retriever, [
      [hit.to_json(i) for i, hit in enumerate(row)] for row in found
    ]

  monkeypatch.setattr(programs, '_place', None)
  retriever, expected = hits()
  assert retriever.encode_one is None
  several = hits(3)[1]
  monkeypatch.setattr(programs, '_place', place)
  assert hits()[1] == expected
  assert hits(3)[1] == several
  monkeypatch.setattr(Retriever, 'load', no_weights)
  retriever, found = hits()
  assert isinstance(retriever, KeptRetriever)
  assert found == expected
