"""Tests of the manifest."""

import dataclasses
import json

import numpy as np
import pytest

from data_pipeline.errors import DataError
from data_pipeline.opening import open_corpus
from data_pipeline.paths import manifest_path
from data_pipeline.prepare import prepare


def _records(options):
  return open_corpus(dataclasses.replace(options, storage='records'))


def test_damaged_manifest(content, options, tmp_path):
  content.write(tmp_path)
  prepare(options, progress=False)
  path = manifest_path(options)
  text = path.read_text()
  path.write_text(text[:50])
  with pytest.raises(DataError, match=r'manifest\.json cannot be read'):
    _records(options)
  path.write_text('[' * 10**5)
  with pytest.raises(DataError, match='nests its JSON too deeply'):
    _records(options)
  path.write_text(text.replace('"format": 1', '"format": 99'))
  with pytest.raises(DataError, match='of format 99, this program reads'):
    _records(options)


@pytest.mark.parametrize(
  'change',
  [
    lambda facts: facts.pop('sources'),
    lambda facts: facts.update(new=1),
    lambda facts: facts.update(splits=[]),
    lambda facts: facts.update(skipped=['x']),
    lambda facts: facts['splits']['train'].pop('shard_bytes'),
    lambda facts: facts['splits']['train'].update(shard_bytes=[-1, 0, 0]),
    lambda facts: facts['splits']['train'].update(videos=1 << 70),
    lambda facts: facts['splits']['train'].update(videos='5'),
    lambda facts: facts['splits']['train']['shard_lengths'].pop(),
    lambda facts: facts['sources'].update(x=None),
    lambda facts: next(iter(facts['sources'].values())).pop('sha256'),
    lambda facts: facts.update(visual_width=-1),
    lambda facts: facts.update(text_width=True),
  ],
)
def test_a_manifest_of_other_facts(content, options, tmp_path, change):
  content.write(tmp_path)
  prepare(options, progress=False)
  path = manifest_path(options)
  facts = json.loads(path.read_text())
  change(facts)
  path.write_text(json.dumps(facts))
  with pytest.raises(DataError, match=r'lacks facts .* prepare the records'):
    _records(options)
  prepare(options, progress=False)
  assert _records(options).storage == 'records'


def test_skipped_items_are_in_the_manifest(content, options, tmp_path):
  content.videos['v_d'][0, 0] = np.nan
  content.write(tmp_path)
  with pytest.raises(DataError, match='NaN'):
    prepare(options, progress=False)
  options = dataclasses.replace(options, skip_bad=True)
  prepare(options, progress=False)
  ((item, reason),) = _records(options).skipped
  assert item == "video 'v_d'"
  assert 'NaN' in reason
