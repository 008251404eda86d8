"""The token of a server."""

import httpx
import pytest

from dreamprvr_jax.archive.serving.gate import Attempts, Gate, check_token
from dreamprvr_jax.archive.serving.middleware import Guard
from dreamprvr_jax.errors import UserError

TOKEN = 'a-token-of-25-characters'


class Hello:
  """An app that answers each request with its path."""

  async def __call__(self, scope, receive, send):
    head = {'type': 'http.response.start', 'status': 200, 'headers': []}
    await send(head)
    body = scope['path'].encode()
    await send({'type': 'http.response.body', 'body': body})


class Clock:
  def __init__(self):
    self.now = 0.0

  def __call__(self):
    return self.now


@pytest.fixture
def anyio_backend():
  return 'asyncio'


def client_of(token=TOKEN, attempts=None, address='10.0.0.1'):
  gate = Gate(Hello(), token, attempts)
  transport = httpx.ASGITransport(gate, client=(address, 1))
  return httpx.AsyncClient(transport=transport, base_url='http://here')


@pytest.mark.anyio
async def test_nothing_is_answered_without_the_token():
  async with client_of() as client:
    for path in ('/', '/api/health', '/videos/v1', '/metrics', '/login'):
      answer = await client.get(path)
      assert answer.status_code == 401
      assert answer.headers['www-authenticate'] == 'Bearer'
    assert 'name="token"' in (await client.get('/')).text
    assert 'error' in (await client.get('/api/health')).json()
    # What the form needs is no secret.
    assert (await client.get('/page/style.css')).text == '/page/style.css'


@pytest.mark.anyio
async def test_a_program_sends_a_header():
  async with client_of() as client:
    for scheme in ('Bearer', 'bearer'):
      headers = {'authorization': f'{scheme} {TOKEN}'}
      answer = await client.get('/api/health', headers=headers)
      assert answer.text == '/api/health'
    for value in (f'Bearer {TOKEN}x', f'Basic {TOKEN}', 'Bearer ', 'Bearer é'):
      headers = {'authorization': value.encode('latin-1')}
      answer = await client.get('/api/health', headers=headers)
      assert answer.status_code == 401


@pytest.mark.anyio
@pytest.mark.parametrize('way', ['form', 'address'])
async def test_a_browser_gets_a_cookie(way):
  async with client_of() as client:
    if way == 'form':
      wrong = await client.post('/login', data={'token': 'wrong'})
      assert wrong.status_code == 401
      assert 'This token is wrong' in wrong.text
      answer = await client.post('/login', data={'token': f' {TOKEN} '})
      assert answer.headers['location'] == '/'
    else:
      answer = await client.get(f'/?q=a+dog&token={TOKEN}')
      # The token stays neither in the address nor in the history.
      assert answer.headers['location'] == '/?q=a+dog'
    assert answer.status_code == 303
    cookie = answer.headers['set-cookie']
    assert 'HttpOnly' in cookie
    assert 'SameSite=lax' in cookie
    assert TOKEN not in cookie
    assert (await client.get('/videos/v1')).text == '/videos/v1'
    assert (await client.post('/api/search')).text == '/api/search'
    for site in ('cross-site', 'same-site'):
      headers = {'sec-fetch-site': site}
      answer = await client.post('/api/search', headers=headers)
      assert answer.status_code == 403
    value = cookie.partition(';')[0]
  async with client_of(TOKEN + '2') as other:
    answer = await other.get('/videos/v1', headers={'cookie': value})
    assert answer.status_code == 401


@pytest.mark.anyio
async def test_a_cookie_over_tls_stays_there():
  transport = httpx.ASGITransport(Gate(Hello(), TOKEN))
  async with httpx.AsyncClient(
    transport=transport, base_url='https://here'
  ) as client:
    answer = await client.post('/login', data={'token': TOKEN})
    assert 'Secure' in answer.headers['set-cookie']


@pytest.mark.anyio
async def test_guessing_is_slow():
  clock = Clock()
  attempts = Attempts(3, 60.0, clock)
  right = {'authorization': f'Bearer {TOKEN}'}
  async with client_of(attempts=attempts) as client:
    for _ in range(3):
      answer = await client.post('/login', data={'token': 'wrong'})
      assert answer.status_code == 401
    for answer in (
      await client.post('/login', data={'token': TOKEN}),
      await client.get('/api/health', headers=right),
    ):
      assert answer.status_code == 429
      assert answer.headers['retry-after'] == '20'
    async with client_of(attempts=attempts, address='10.0.0.2') as other:
      assert (await other.get('/x', headers=right)).is_success
    clock.now = 20.5
    assert (await client.get('/x', headers=right)).is_success
    answer = await client.get('/x', headers={'authorization': 'Bearer wrong'})
    assert answer.status_code == 401
    assert (await client.get('/x', headers=right)).status_code == 429
    clock.now = 100
    assert (await client.get('/x', headers=right)).is_success


@pytest.mark.anyio
async def test_one_who_is_signed_in_is_not_locked_out():
  attempts = Attempts(1, 60.0)
  async with client_of(attempts=attempts) as client:
    await client.post('/login', data={'token': TOKEN})
    wrong = {'authorization': 'Bearer wrong'}
    async with client_of(attempts=attempts) as other:
      for status in (401, 429):
        assert (await other.get('/x', headers=wrong)).status_code == status
    assert (await client.get('/x')).is_success


@pytest.mark.anyio
async def test_a_form_that_is_too_large_is_refused():
  gate = Guard(Gate(Hello(), TOKEN), body_bytes=100, local=False)
  transport = httpx.ASGITransport(gate, client=('10.0.0.1', 1))
  client = httpx.AsyncClient(transport=transport, base_url='http://here')

  async def content():
    # In chunks, so that no header says how long it is.
    for _ in range(3):
      yield b'token=' + b'x' * 60

  async with client:
    assert (await client.post('/login', content=content())).status_code == 413


@pytest.mark.anyio
async def test_without_a_token_all_are_answered():
  async with client_of('') as client:
    assert (await client.get('/api/health')).is_success


def test_tokens_that_cannot_be_sent():
  check_token(TOKEN, '--token')
  for token in ('', 'two words', 'caf\u00e9', 'a\nb'):
    with pytest.raises(UserError, match='--token'):
      check_token(token, '--token')
