"""--mode=export --index: an index goes to a database, which is tried."""

import numpy as np
import pytest

from dreamprvr_jax.trained.retriever import Retriever
from tests.helpers.commands import call, untrained
from tests.helpers.databases import needs_edge


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  return untrained(tmp_path_factory.mktemp('retriever'), 'gmmformer', (4, 2, 6))


@pytest.fixture(scope='module')
def index(trained):
  place = trained[0].parent / 'index'
  assert (
    call('--mode=index', f'--checkpoint={trained[0]}', f'--index={place}') == 0
  )
  return place


@needs_edge
def test_an_export_is_tried_and_searched(trained, index, capsys, tmp_path):
  place = tmp_path / 'database'
  exported = ('--mode=export', f'--index={index}', f'--database={place}')
  width = Retriever.load(trained[0]).stored['text_width']
  queries = tmp_path / 'queries.npz'
  draw = np.random.default_rng(0)
  np.savez(queries, **{f'q{i}': draw.normal(size=(3, width)) for i in range(5)})
  assert call(*exported, f'--queries={queries}') == 0
  out = capsys.readouterr().out
  assert '6 videos (6 sent, 0 removed), ' in out
  assert '@6 1.0000 of the exact search, over 256 queries far from ' in out
  assert f'over 5 queries of {queries}; ' in out
  assert call(*exported) == 0
  assert '6 videos (0 sent, 0 removed), ' in capsys.readouterr().out
  gone = trained[1].splits['test'].video_ids[0]
  assert call('--mode=index', f'--index={index}', f'--remove={gone}') == 0
  searched = ('--mode=search', f'--index={index}', f'--database={place}')
  assert call(*searched, f'--queries={queries}') == 2
  assert 'only what changed is sent' in capsys.readouterr().err
  assert call(*exported) == 0
  assert '5 videos (0 sent, 1 removed), ' in capsys.readouterr().out
  assert call(*searched, f'--queries={queries}', '--k=2') == 0
  assert 'recall@2 1.0000 of the exact search' in capsys.readouterr().out


def test_what_is_refused(index, capsys, tmp_path):
  exported = ('--mode=export', f'--index={index}')
  assert call(*exported) == 2
  assert 'export needs --database=...' in capsys.readouterr().err
  assert call(*exported, '--database=http://h:1') == 2
  assert 'is no address of a collection' in capsys.readouterr().err
  # Bad queries are found before anything is written.
  place = tmp_path / 'database'
  queries = tmp_path / 'queries.xml'
  queries.write_text('')
  code = call(*exported, f'--database={place}', f'--queries={queries}')
  assert code == 2
  assert "ends in '.xml'" in capsys.readouterr().err
  assert not place.exists()
