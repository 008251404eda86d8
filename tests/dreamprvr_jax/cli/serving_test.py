"""Serving from the command line: a process starts, answers and ends."""

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import numpy as np
import pytest

import main
from dreamprvr_jax import checkpoints
from dreamprvr_jax.archive.encoders import build
from dreamprvr_jax.archive.index import writer
from dreamprvr_jax.archive.index.compaction import remove
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.jobs.indexing import videos_of
from dreamprvr_jax.trained.inference import blank_of, model_of
from dreamprvr_jax.trained.retriever import Retriever
from tests.helpers import models, runs
from tests.helpers.commands import call, untrained

BROWSER = shutil.which('chromium') or shutil.which('google-chrome')


@pytest.fixture(scope='module')
def index(tmp_path_factory):
  """An index whose checkpoint names its text encoder."""
  folder = tmp_path_factory.mktemp('served')
  place, corpus = untrained(folder, 'gmmformer', (4, 3, 9))
  stored, encoder = checkpoints.read_config(place), build('embedded')
  blank = blank_of(stored['config'], corpus.visual_width, encoder.text_width)
  variables = models.drawn(model_of(stored['config']), blank)
  told = {'text_width': encoder.text_width, 'encoder': encoder.identity}
  checkpoints.save_weights(folder / 'worded', variables, {**stored, **told})
  videos = videos_of(corpus.splits['test'], np.arange(9), 4)
  writer.create(folder / 'index', Retriever.load(folder / 'worded'), videos)
  return folder / 'index'


@pytest.fixture
def start(index):
  started = []

  def make(*flags):
    """Returns a server and the line with its address."""
    command = ['--mode=serve', f'--index={index}', *flags]
    server = runs.start(command)
    started.append(server)
    for line in server.stdout:
      if 'serving on' in line:
        return server, line
    raise AssertionError(server.stderr.read())

  yield make
  for server in started:
    server.kill()
    server.communicate()


def fetched(url, question=None):
  request = urllib.request.Request(url)
  if question:
    request.data = json.dumps(question).encode()
    request.add_header('Content-Type', 'application/json')
  try:
    with urllib.request.urlopen(request, timeout=60) as answer:
      return answer.status, json.load(answer)
  except urllib.error.HTTPError as error:
    return error.code, json.load(error)


def ready(url):
  end = time.monotonic() + 120
  while fetched(f'{url}/api/health')[0] != 200:
    assert time.monotonic() < end
    time.sleep(0.1)


def test_a_server_answers_until_sigterm(start, capsys, index):
  server, line = start('--port=0')
  url = re.search(r'http://127\.0\.0\.1:\d+', line)[0]
  ready(url)
  status, answer = fetched(f'{url}/api/search', {'query': 'a dog', 'k': 4})
  assert status == 200
  assert len(answer['hits']) == 4
  assert answer['hits'][0]['moments'][0]['start'] is not None
  assert not fetched(f'{url}/api/health')[1]['semantic']
  texts = [{'query': text} for text in ('un caf\u00e9', 'un cafe\u0301')]
  found = [fetched(f'{url}/api/search', text)[1]['hits'] for text in texts]
  assert found[0] == found[1]
  status, answer = fetched(f'{url}/api/search', {'query': '?!'})
  assert status == 400
  assert 'no word that the text encoder embedded reads' in answer['error']
  taken = url.rpartition(':')[2]
  assert call('--mode=serve', f'--index={index}', f'--port={taken}') == 2
  assert f'--port={taken} cannot be listened on' in capsys.readouterr().err
  # Requests in progress are still answered.
  found = []
  asking = threading.Thread(
    target=lambda: found.append(fetched(f'{url}/api/search', {'query': 'x'}))
  )
  asking.start()
  asking.join(0.002)
  server.send_signal(signal.SIGTERM)
  _, err = server.communicate(timeout=30)
  asking.join()
  assert server.returncode == 143
  assert 'Traceback' not in err
  assert [status for status, _ in found] in ([200], [])


@pytest.mark.skipif(not BROWSER, reason='there is no browser')
def test_the_page_in_a_browser(start, tmp_path):
  _, line = start('--port=0')
  url = re.search(r'http://\S+', line)[0]
  ready(url)
  page = subprocess.run(
    [
      BROWSER,
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      f'--user-data-dir={tmp_path}',
      '--virtual-time-budget=8000',
      '--dump-dom',
      f'{url}/?q=a%20dog%20%3Cb%3E',
    ],
    capture_output=True,
    text=True,
    timeout=120,
  ).stdout
  assert 'The best 9 of 9 videos' in page
  assert page.count('<article') == page.count('class="score"') == 9
  assert page.count('class="moment"') >= 9
  # The query is shown as text, never as HTML.
  assert '<title>a dog &lt;b&gt;' in page


def test_a_token_from_the_environment(start, monkeypatch):
  monkeypatch.setenv('DREAMPRVR_TOKEN', 'a-secret-of-25-characters')
  _, line = start('--port=0', '--host=0.0.0.0')
  port = line.strip().rpartition(':')[2]
  url = f'http://127.0.0.1:{port}/api/health'
  status, answer = fetched(url)
  assert status == 401
  assert 'Authorization: Bearer' in answer['error']
  request = urllib.request.Request(url)
  request.add_header('Authorization', 'Bearer a-secret-of-25-characters')
  with pytest.raises(urllib.error.HTTPError) as found:
    urllib.request.urlopen(request, timeout=60).close()
  # It is warming up, and says so only to those who know the token.
  assert found.value.code == 503


def test_ctrl_c_while_it_warms_up(start):
  server, line = start('--port=0', '--host=localhost')
  assert 'http://localhost:' in line
  server.send_signal(signal.SIGINT)
  _, err = server.communicate(timeout=60)
  assert server.returncode == 130
  assert 'Traceback' not in err


def test_what_is_refused(index, capsys, monkeypatch, tmp_path):
  assert main.main(['main.py', '--mode=serve']) == 2
  assert 'needs --index' in capsys.readouterr().err

  def refused(sentence, *flags):
    assert call('--mode=serve', *flags) == 2
    assert sentence in capsys.readouterr().err

  given = f'--index={index}'
  refused('is no index', f'--index={tmp_path}')
  refused('/nowhere', given, '--videos=/nowhere')
  refused('has no video', given, f'--videos={tmp_path}')
  refused('cannot be listened on', given, '--host=192.0.2.1', '--no_token')
  refused('cannot be listened on', given, '--port=70000')
  refused('say with --no_token that this is meant', given, '--host=0.0.0.0')
  refused('contradict', given, '--no_token', '--token=a-secret')
  refused('--token is empty', given, '--token=')
  refused('not ASCII', given, '--token=two words')
  monkeypatch.setenv('DREAMPRVR_TOKEN', 'caf\u00e9')
  refused('DREAMPRVR_TOKEN has', given)
  monkeypatch.delenv('DREAMPRVR_TOKEN')
  refused('GiB of converted videos', given, '--cache_gib=0')
  refused('expected 1 or more', given, '--max_connections=0')
  refused('expected 1 or more', given, '--max_connections_per_address=-1')
  for seconds in ('0', 'nan', 'inf'):
    refused('more than 0, the seconds', given, f'--request_seconds={seconds}')
  refused("encoder 'words2vec' is unknown", given, '--encoder=words2vec')
  empty = shutil.copytree(index, tmp_path / 'empty')
  remove(empty, list(Store(empty).rows_of()))
  refused('has no videos; add some', f'--index={empty}')
  package = 'dreamprvr_jax.archive.serving.'
  for name in [name for name in sys.modules if name.startswith(package)]:
    monkeypatch.delitem(sys.modules, name)
  monkeypatch.setitem(sys.modules, 'fastapi', None)
  refused("package fastapi, which is not installed: pip install '", given)
