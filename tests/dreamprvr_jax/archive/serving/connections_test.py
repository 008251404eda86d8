"""Connections that keep the server waiting are closed, and block nobody."""

import contextlib
import json
import socket
import threading
import time

import httpx
import pytest

from dreamprvr_jax.archive.serving.files import VideoFiles
from dreamprvr_jax.archive.serving.limits import Limits
from tests.helpers.serving import open_index, served, words

HALF = b'GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n'
WHOLE = HALF + b'\r\n'
POST = (
  b'POST /api/search HTTP/1.1\r\nHost: 127.0.0.1\r\n'
  b'Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"query"'
)
LONG = 60.0


@pytest.fixture(scope='module')
def index(tmp_path_factory):
  return open_index(tmp_path_factory.mktemp('index'))


@pytest.fixture(scope='module')
def hasty(index):
  """A client of a server with short timeouts."""
  limits = Limits(header_seconds=0.3, body_seconds=0.3, idle_seconds=0.3)
  with served(index, ready=False, limits=limits) as (client, _):
    yield client


@contextlib.contextmanager
def connected(client, *sent):
  """Yields a connection after sending some bytes."""
  place = client.base_url.host, client.base_url.port
  with socket.create_connection(place, timeout=LONG) as connection:
    for part in sent:
      connection.sendall(part)
    yield connection


def rest(connection):
  """Returns all bytes until the server closes the connection."""
  found = b''
  with contextlib.suppress(ConnectionError):
    while part := connection.recv(2**16):
      found += part
  return found


def refusal(answer):
  """Returns the status and sentence of the last answer in some bytes."""
  head, _, body = answer[answer.rindex(b'HTTP/1.1 ') :].partition(b'\r\n\r\n')
  assert b'connection: close' in head
  return int(head.split()[1]), json.loads(body)['error']


def counted(client, reason):
  name = f'dreamprvr_refused_connections_total{{reason="{reason}"}} '
  lines = client.get('/metrics').text.splitlines()
  found = [line for line in lines if line.startswith(name)]
  return float(found[0].removeprefix(name)) if found else 0.0


def test_half_requests_keep_nobody_out(index):
  limits = Limits(
    connections=25,
    address_connections=20,
    header_seconds=LONG,
    body_seconds=LONG,
  )
  with (
    served(index, ready=False, limits=limits) as (client, _),
    contextlib.ExitStack() as stack,
  ):
    held = [
      stack.enter_context(connected(client, (HALF, POST)[i % 2]))
      for i in range(60)
    ]
    assert client.get('/').status_code == 200
    # The limit was reached, so the oldest connections were closed.
    for connection in held[:41]:
      status, sentence = refusal(rest(connection))
      assert status == 408
      assert 'others needed the connection' in sentence
    held[-1].setblocking(False)
    with pytest.raises(BlockingIOError):
      held[-1].recv(1)
    assert counted(client, 'displaced') == 41
    assert 'dreamprvr_connections 20.0' in client.get('/metrics').text


def test_the_limit_in_all(index):
  limits = Limits(connections=3, header_seconds=LONG)
  with (
    served(index, ready=False, limits=limits) as (client, _),
    contextlib.ExitStack() as stack,
  ):
    held = [stack.enter_context(connected(client, HALF)) for _ in range(9)]
    assert client.get('/').status_code == 200
    assert refusal(rest(held[0]))[0] == 408


@pytest.mark.parametrize(
  ('sent', 'reason'),
  [
    (HALF, 'header'),
    (POST, 'body'),
    # The first request is answered; the next one is incomplete.
    (WHOLE + HALF, 'header'),
    (WHOLE + WHOLE + POST, 'body'),
  ],
)
def test_half_requests_end_in_time(sent, reason, hasty):
  before = counted(hasty, reason)
  with connected(hasty, sent) as connection:
    answer = rest(connection)
  status, sentence = refusal(answer)
  assert status == 408
  assert f'the {reason} of the request was not complete' in sentence
  assert answer.count(b'HTTP/1.1 200') == sent.count(WHOLE)
  assert counted(hasty, reason) == before + 1


@pytest.mark.parametrize('sent', [HALF + b'X: ', POST])
def test_what_trickles_in_gets_no_more_time(sent, hasty):
  with connected(hasty, sent) as connection:
    connection.settimeout(0.02)
    for _ in range(2000):
      # This stays below the size limits of headers and bodies.
      with contextlib.suppress(ConnectionError):
        connection.sendall(b'x' if sent != POST else b' ')
      try:
        answer = connection.recv(2**16)
        break
      except TimeoutError:
        continue
  assert refusal(answer)[0] == 408


@pytest.mark.parametrize(
  'sent',
  [
    b'',
    WHOLE,
    # The answer comes before the body, which is never sent.
    HALF + b'Content-Length: 9\r\n\r\n',
  ],
)
def test_who_asks_nothing_more_is_let_go(sent, hasty):
  with connected(hasty, sent) as connection:
    answer = rest(connection)
  assert answer.count(b'HTTP/1.1 200') == bool(sent)
  assert b' 408 ' not in answer


def test_what_is_no_http(hasty):
  for sent in (b'\x16\x03\x01\r\n\r\n', HALF + b'X: ' + b'x' * 2**17):
    with connected(hasty) as connection:
      with contextlib.suppress(ConnectionError):
        connection.sendall(sent)
      answer = rest(connection)
    # The answer can be lost if the server closes with unread bytes.
    if answer or len(sent) < 100:
      assert refusal(answer)[0] == 400
  assert counted(hasty, 'invalid') == 2


def test_a_server_at_work_refuses_more(index):
  gate = threading.Event()
  gate.set()

  def slow_words(text):
    gate.wait(LONG)
    return words(text)

  limits = Limits(address_connections=3)
  with served(index, slow_words, limits=limits) as (client, _):
    # The client keeps its own connection.
    assert client.get('/').status_code == 200
    gate.clear()
    answers = []

    def ask():
      while True:
        # A half request rightly ends a connection that is still idle, and one
        # whose header has arrived without its body.
        with contextlib.suppress(httpx.TransportError):
          found = client.post('/api/search', json={'query': 'x'})
          if found.status_code != 408:
            answers.append(found)
            return

    asking = [threading.Thread(target=ask) for _ in range(3)]
    for thread in asking:
      thread.start()
    answer, end = b'', time.monotonic() + LONG
    while b' 503 ' not in answer:
      assert time.monotonic() < end
      with connected(client, HALF) as connection:
        connection.settimeout(2.0)
        with contextlib.suppress(TimeoutError):
          answer = rest(connection)
    assert 'too many connections' in refusal(answer)[1]
    gate.set()
    for thread in asking:
      thread.join()
    assert [answer.status_code for answer in answers] == [200] * 3
    assert counted(client, 'address') >= 1


def test_who_does_not_read_gives_way(index, tmp_path):
  with (tmp_path / 'v3.mp4').open('wb') as file:
    file.truncate(2**26)
  files = VideoFiles(tmp_path, {'v3': tmp_path / 'v3.mp4'})
  limits = Limits(connections=1, idle_seconds=0.1)
  ask = WHOLE.replace(b'/ ', b'/videos/v3 ', 1)
  with (
    served(index, ready=False, limits=limits, files=files) as (client, _),
    connected(client, ask) as stuck,
  ):
    end = time.monotonic() + LONG
    while True:
      assert time.monotonic() < end
      # As long as the server can send more, it is busy and refuses.
      with connected(client, WHOLE) as connection:
        if rest(connection).startswith(b'HTTP/1.1 200'):
          break
    assert len(rest(stuck)) < 2**26
