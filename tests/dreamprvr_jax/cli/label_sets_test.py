"""The sets of right videos of a split."""

import json
import types

import numpy as np
import pytest

from data_pipeline.errors import DataError
from dreamprvr_jax.cli.label_sets import LabelSets, show

SPLIT = types.SimpleNamespace(
  caption_ids=['a#enc#0', 'b#enc#0', 'b#enc#1'],
  captions=['One.', 'One.', 'Two.'],
  caption_video=np.asarray([0, 1, 1]),
  video_ids=['a', 'b', 'c'],
)
SCORES = np.asarray([[0.1, 0.3, 0.2], [0.3, 0.2, 0.1], [0.9, 0.1, 0.5]])


def write(path, queries):
  rows = [
    {'query_id': query, 'caption': caption, 'gt_video_ids': [query[0], *others]}
    for query, (caption, *others) in queries.items()
  ]
  path.write_text('\n'.join(map(json.dumps, rows)))
  return str(path)


@pytest.fixture
def some(tmp_path):
  """A file with labels of two of the three queries."""
  labels = {'a#enc#0': ('One.', 'c'), 'b#enc#1': ('Two.',)}
  return write(tmp_path / 'some.jsonl', labels)


def test_three_sets(tmp_path, capsys):
  labels = {
    'a#enc#0': ('one', 'c'),
    'b#enc#0': ('One.',),
    'b#enc#1': ('Two.', 'c'),
  }
  path = write(tmp_path / 'all.jsonl', labels)
  found = LabelSets(path, SPLIT).metrics(SCORES)
  assert found['file'] == path
  sets = ('single', 'released', 'closed')
  assert [found[name]['positives'] for name in sets] == [3, 5, 7]
  assert found['single']['coverage']['R@1'] == 0
  assert found['closed']['hit']['R@1'] == pytest.approx(200 / 3)
  assert found['closed']['coverage']['R@1'] == pytest.approx(
    100 * (1 / 3 + 1 / 2) / 3
  )
  show(found)
  out = capsys.readouterr().out
  assert 'right videos of 3 queries: 3 single, 5 released, 7 closed' in out
  assert 'closed: hit' in out


def test_other_sentences_are_warned_of(tmp_path, some, caplog):
  LabelSets(some, SPLIT, labelled_only=True)
  assert not caplog.records
  path = write(tmp_path / 'x', {'a#enc#0': ('Three.',)})
  LabelSets(path, SPLIT, labelled_only=True)
  assert '1 of 1 queries have another sentence' in caplog.text


def test_queries_without_label(tmp_path, some):
  with pytest.raises(DataError, match='1 of 3 queries have no label: b#enc#0'):
    LabelSets(some, SPLIT)
  found = LabelSets(some, SPLIT, labelled_only=True).metrics(SCORES)
  assert found['single']['queries'] == 2
  # Only the sentences of evaluated queries count.
  assert found['closed']['positives'] == 3
  assert found['single']['MeanR'] == 3
  path = write(tmp_path / 'x', {'z#enc#0': ('Z.',)})
  with pytest.raises(DataError, match='3 of 3 queries have no label'):
    LabelSets(path, SPLIT, labelled_only=True)
