"""Answers and refusals of the server."""

import re
import threading
import time

import pytest

from dreamprvr_jax.archive.serving.limits import Limits
from dreamprvr_jax.errors import UserError
from tests.helpers.serving import VIDEOS, open_index, served, words

SEARCH = '/api/search'


@pytest.fixture(scope='module')
def index(tmp_path_factory):
  return open_index(tmp_path_factory.mktemp('index'))


@pytest.fixture(scope='module')
def client(index):
  with served(index) as (client, _):
    yield client


def test_search(client, index):
  answer = client.post(SEARCH, json={'query': ' a  dog ', 'k': 12})
  assert answer.status_code == 200
  content = answer.json()
  assert content['query'] == 'a dog'
  assert content['videos'] == VIDEOS
  (expected,) = index.search(words('a dog'), k=12)
  assert [h['video'] for h in content['hits']] == [h.video_id for h in expected]
  for rank, (hit, other) in enumerate(
    zip(content['hits'], expected, strict=True), 1
  ):
    assert hit['rank'] == rank
    assert hit['score'] == pytest.approx(other.score, abs=1e-6)
    assert hit['timeline'] == pytest.approx(other.timeline, abs=1e-4)
    assert hit['file'] is None
    # NaN is not valid JSON.
    known = int(hit['video'][1:]) % 5 != 4
    assert (hit['duration'] is not None) == known
    first = hit['moments'][0]
    assert first['span'] == list(other.moments[0].span)
    assert (first['start'] is not None) == known


def test_what_a_request_may_ask_for(client):
  short = client.post(
    SEARCH, json={'query': 'x', 'k': 2, 'moments': 1, 'timeline': False}
  ).json()
  assert [len(hit['moments']) for hit in short['hits']] == [1, 1]
  assert all(hit['timeline'] is None for hit in short['hits'])


@pytest.mark.parametrize(
  ('body', 'sentence'),
  [
    ({'like': {'video': 'v3'}}, 'like.at: field required'),
    ({'like': {'video': 'v3', 'at': -1}}, 'like.at: '),
    ({'query': 3}, 'query: input should be a valid string'),
    ({'query': 'a', 'k': 0}, 'k: '),
    ({'query': 'a', 'k': 101}, 'k: input should be less than or equal to 100'),
    ({'query': 'a', 'k': '7'}, 'k: input should be a valid integer'),
    ({'query': 'a', 'moments': 11}, 'moments: '),
    ({'query': 'a', 'colour': 'red'}, 'colour: '),
    ([1], 'the request: '),
  ],
)
def test_malformed_searches(body, sentence, client):
  answer = client.post(SEARCH, json=body)
  assert answer.status_code == 422
  assert sentence in answer.json()['error']


@pytest.mark.parametrize(
  ('body', 'sentence'),
  [
    (b'', 'the request is not JSON'),
    (b'{', 'the request is not JSON'),
    (b'{"query": "a"\x00}', 'the request is not JSON'),
    (b'\xff\xfe', 'UTF-8'),
    ('{"query": "a"}'.encode('utf-16'), 'UTF-8'),
    ('{"query": "caf\u00e9"}'.encode('latin-1'), 'UTF-8'),
    (b'\xef\xbb\xbf{"query": "a"}', 'byte order mark'),
    (b'[' * 60000, 'too deeply'),
    (b'{"query": "a", "\\ud800": 1}', 'a key of the request holds'),
    (b'{"query": "\\ud800"}', 'query holds \\ud800'),
    (b'{"query": "a\\u0000b"}', 'query holds a NUL character'),
    (b'{"query": " \\u200b\\u00a0"}', 'the query is empty'),
    (b'{"query": ""}', 'the query is empty'),
    (b'{}', 'the query is empty'),
    (b'{"query": "a", "k": NaN}', 'NaN is no number'),
    (b'{"query": "a", "k": 1' + b'0' * 6000 + b'}', 'the request is not JSON'),
  ],
)
def test_bodies_that_are_no_question(body, sentence, client):
  answer = client.post(
    SEARCH, content=body, headers={'content-type': 'application/json'}
  )
  assert answer.status_code == 400
  assert list(answer.json()) == ['error']
  assert sentence in answer.json()['error']


def test_bodies_of_other_kinds(client):
  for kind in ('text/plain', 'application/x-www-form-urlencoded', ''):
    answer = client.post(
      SEARCH, content=b'{"query": "a"}', headers={'content-type': kind}
    )
    assert answer.status_code == 415
    assert 'application/json' in answer.json()['error']


def test_accents_may_be_composed_or_not(client):
  composed, parted = (
    client.post(SEARCH, json={'query': text}).json()
    for text in ('caf\u00e9 red', 'cafe\u0301 red')
  )
  assert parted['query'] == composed['query'] == 'caf\u00e9 red'
  assert parted['hits'] == composed['hits']


@pytest.mark.parametrize(
  'path', ['/', '/api/health', '/api/videos/v3', '/openapi.json', '/nowhere']
)
def test_head_is_get_without_a_body(path, client):
  whole, head = client.get(path), client.head(path)
  assert head.status_code == whole.status_code
  assert head.content == b''
  for name in ('content-length', 'content-type', 'content-security-policy'):
    assert head.headers[name] == whole.headers[name]


def test_methods(client):
  answer = client.head(SEARCH)
  assert (answer.status_code, answer.headers['allow']) == (405, 'POST')
  answer = client.post('/api/health')
  assert (answer.status_code, answer.headers['allow']) == (405, 'GET, HEAD')
  assert list(answer.json()) == ['error']


def test_large_bodies_are_not_read(client):
  whole = client.post(SEARCH, content=b'x' * 70_000)
  pieces = client.post(
    SEARCH,
    content=(b'{"query": "' + b'x' * 9000 for _ in range(9)),
    headers={'content-type': 'application/json'},
  )
  for answer in (whole, pieces):
    assert answer.status_code == 413
    assert '65,536 bytes' in answer.json()['error']


def test_other_paths(client):
  for path in ('/nowhere', '/docs', '/redoc', '/api', '/page/index.html'):
    answer = client.get(path)
    assert answer.status_code == 404
    assert path in answer.json()['error']
  assert client.get(SEARCH).status_code == 405
  paths = client.get('/openapi.json').json()['paths']
  asked = paths[SEARCH]['post']['requestBody']['content']['application/json']
  assert set(asked['schema']['properties']) >= {
    'query',
    'like',
    'k',
    'moments',
    'timeline',
  }
  assert {SEARCH, '/api/health', '/api/videos/{video}'} <= set(paths)


def test_facts_of_a_video(client):
  assert client.get('/api/videos/v3').json() == {
    'video': 'v3',
    'title': 'v3',
    'folder': '',
    'date': '',
    'duration': 13.0,
    'rows': 1,
    'clips': 3,
    'frames': 2,
    'registers': 0,
    'width': 16,
    'tokens': 'float16',
    'file': None,
  }
  assert client.get('/api/videos/v4').json()['duration'] is None
  for path in ('/api/videos/v99', '/api/videos/v99/similar', '/videos/v99'):
    answer = client.get(path)
    assert answer.status_code == 404
    assert "no video 'v99'" in answer.json()['error']


def test_similar_videos(client):
  content = client.get('/api/videos/v3/similar?k=4').json()
  assert content['by'] == 'clips'
  assert 'stores no registers' in content['note']
  values = [hit['similarity'] for hit in content['hits']]
  assert values == sorted(values, reverse=True)
  assert len(values) == 4
  assert 'v3' not in {hit['video'] for hit in content['hits']}
  for k in ('0', '101', 'x'):
    assert client.get(f'/api/videos/v3/similar?k={k}').status_code == 400


def test_the_page_needs_nothing_from_elsewhere(client):
  answer = client.get('/')
  assert answer.headers['content-type'].startswith('text/html')
  assert "default-src 'self'" in answer.headers['content-security-policy']
  assert "'unsafe-inline'" not in answer.headers['content-security-policy']
  seen, waiting = set(), {'/'}
  while waiting:
    path = waiting.pop()
    seen.add(path)
    part = client.get(path)
    assert part.is_success, path
    assert part.headers['cache-control'] == 'no-cache'
    links = part.text.replace('http://www.w3.org/2000/svg', '')
    assert '//' not in links.replace('// ', '').replace('</', '')
    waiting |= set(re.findall(r'/page/[a-z]+\.[a-z]+', links)) - seen
  assert {'/page/main.js', '/page/style.css', '/page/player.js'} <= seen


def test_only_its_own_machine_is_answered(client, index, caplog):
  for host in ('127.0.0.1:8000', 'localhost', '[::1]:8000', '127.0.0.2'):
    assert client.get('/api/health', headers={'host': host}).is_success
  for host in ('example.com', '192.168.0.7:8000', 'localhost.example.com', ''):
    answer = client.get('/api/health', headers={'host': host})
    assert answer.status_code == 421
    assert '--host' in answer.json()['error']
  assert 'everyone' not in caplog.text
  with served(index, local=False, ready=False) as (other, _):
    port = other.base_url.port
    assert f'everyone who can reach port {port} of this' in caplog.text
    assert other.get('/', headers={'host': 'example.com'}).is_success


def test_health_and_searches_before_it_is_warm(index):
  gate = threading.Event()

  def slow_words(text):
    gate.wait(30)
    return words(text)

  with served(index, slow_words, ready=False) as (client, service):
    health = client.get('/api/health')
    assert health.status_code == 503
    assert health.json()['status'] == 'warming up'
    answer = client.post(SEARCH, json={'query': 'x'})
    assert answer.status_code == 503
    assert answer.headers['retry-after'] == '1'
    assert 'warming up' in answer.json()['error']
    gate.set()
    end = time.monotonic() + 60
    while service.status != 'ready':
      assert time.monotonic() < end
    health = client.get('/api/health')
    assert health.status_code == 200
    assert health.json() == {
      'status': 'ready',
      'videos': VIDEOS,
      'files': 0,
      'semantic': True,
      'reads': ['text'],
      'damaged': [],
    }
    assert client.post(SEARCH, json={'query': 'x'}).is_success


def test_a_service_that_cannot_warm_up_says_so(index):
  def no_words(text):
    raise UserError('there is no encoder')

  stopped = threading.Event()
  with served(index, no_words, ready=False, on_failure=stopped.set) as (_, s):
    assert stopped.wait(30)
  assert str(s.failure) == 'there is no encoder'


def test_a_damaged_index_is_not_the_fault_of_who_asks(index, caplog):
  with served(index) as (client, service):

    def damaged(*_):
      raise UserError('a secret: the index is damaged')

    service.contents.about = damaged
    answer = client.get('/api/videos/v3')
    assert answer.status_code == 500
    assert 'secret' not in answer.text
    assert 'a secret: the index is damaged' in caplog.text
    del service.contents.about
    former, index.searcher.search = index.searcher.search, damaged
    assert client.post(SEARCH, json={'query': 'x'}).status_code == 500
    index.searcher.search = former
    assert client.post(SEARCH, json={'query': 'x'}).status_code == 200


def test_what_fails_is_logged_and_said_to_be_our_fault(index, caplog):
  with served(index) as (client, service):

    def broken(*_):
      raise ZeroDivisionError('a secret')

    service.contents.about = broken
    answer = client.get('/api/videos/v3')
    assert answer.status_code == 500
    assert answer.json() == {
      'error': 'the server failed at this; its log says more'
    }
    # The connection is closed, and the header says so.
    assert answer.headers['connection'] == 'close'
    assert client.get('/api/videos/v3/similar').status_code == 500
    assert client.get('/').status_code == 200
  assert 'Traceback' in caplog.text
  assert 'ZeroDivisionError: a secret' in caplog.text


def test_busy_late_and_failed(index):
  gate = threading.Event()
  gate.set()

  def some_words(text):
    gate.wait(30)
    if text == 'boom':
      raise RuntimeError('a secret of the server')
    return words(text)

  limits = Limits(waiting=1, seconds=0.5)
  with served(index, some_words, limits=limits) as (client, _):
    failed = client.post(SEARCH, json={'query': 'boom'})
    assert failed.status_code == 500
    assert 'secret' not in failed.text
    gate.clear()
    found = []
    ask = lambda: found.append(client.post(SEARCH, json={'query': 'x'}))
    threads = [threading.Thread(target=ask) for _ in range(40)]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
    assert {answer.status_code for answer in found} == {503, 504}
    for answer in found:
      late = answer.status_code == 504
      assert ('within 0.5 s' if late else 'try again') in answer.json()['error']
      assert late or answer.headers['retry-after'] == '1'
    text = client.get('/metrics').text
    gate.set()
    # The abandoned queries must finish first.
    end = time.monotonic() + 30
    while not client.post(SEARCH, json={'query': 'x'}).is_success:
      assert time.monotonic() < end
    counts = dict(
      line.rsplit(' ', 1) for line in text.splitlines() if line[0] != '#'
    )
    statuses = [answer.status_code for answer in found]
    for reason, count in (
      ('busy', statuses.count(503)),
      ('late', statuses.count(504)),
      ('failed', 1),
    ):
      name = f'dreamprvr_refused_total{{reason="{reason}"}}'
      assert float(counts[name]) == count


def test_metrics(index):
  with served(index) as (client, _):
    for _ in range(3):
      client.post(SEARCH, json={'query': 'x'})
    client.post(SEARCH, json={'query': 'x', 'k': 0})
    client.get('/api/videos/v1')
    client.head('/api/videos/v1')
    client.get('/videos/../../x')
    client.request('BREW', SEARCH)
    text = client.get('/metrics').text
  for line in (
    'requests_total{method="POST",path="/api/search",status="200"} 3.0',
    'requests_total{method="POST",path="/api/search",status="422"} 1.0',
    'requests_total{method="any",path="/api/search",status="405"} 1.0',
    'method="GET",path="/api/videos/{video:path}",status="200"} 1.0',
    'method="HEAD",path="/api/videos/{video:path}",status="200"} 1.0',
    'request_seconds_count{path="/api/search"} 5.0',
    'batch_queries_sum 3.0',
    'batch_seconds_count 3.0',
    'waiting_queries 0.0',
  ):
    assert line in text
  assert 'BREW' not in text
  assert '127.0.0.1' not in text
