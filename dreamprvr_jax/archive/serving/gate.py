"""The token of a server: only those who know it are answered.

A program sends it as `Authorization: Bearer TOKEN`. A browser gets a cookie for
it, from the form of the page or from the address `/?token=TOKEN`, because tags
of videos and pictures send no such header. The cookie holds a value that is
computed from the token, not the token.
"""

import collections
import hashlib
import hmac
import importlib.resources
import math
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlencode

from fastapi import HTTPException, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.requests import ClientDisconnect

from dreamprvr_jax.archive.serving.connections import network_of
from dreamprvr_jax.archive.serving.refusals import refusal
from dreamprvr_jax.errors import UserError

# Below this folder are the style and the scripts of the page, no secrets.
_PUBLIC = '/page/'
_LOGIN = '/login'
# Seconds for which a browser stays signed in.
_STAY = 30 * 24 * 3600
# Characters of a token that is not easily guessed.
SAFE_LENGTH = 16
# Addresses whose wrong tokens are remembered.
_ADDRESSES = 10_000
_ASKED = {'WWW-Authenticate': 'Bearer'}


def check_token(token: str, where: str) -> None:
  """Raises UserError if a token is empty or cannot be sent in a header.

  Args:
    token: The token.
    where: Its origin, for the error.
  """
  what = 'is empty' if not token else ''
  if not all('!' <= sign <= '~' for sign in token):
    what = 'has a blank, or a sign that is not ASCII'
  if what:
    raise UserError(
      f'{where} {what}; choose letters and digits, such as the output of: '
      'openssl rand -hex 16'
    )


class Attempts:
  """Counts wrong tokens by the address that they come from."""

  def __init__(
    self,
    most: int = 10,
    seconds: float = 60.0,
    clock: Callable[[], float] = time.monotonic,
  ):
    """Args:
    most: Wrong tokens that an address may send at once.
    seconds: Seconds until it may send as many again.
    clock: Returns the time in seconds.
    """
    self._most, self._each, self._clock = most, seconds / most, clock
    # Address -> the time at which its last wrong token is forgotten.
    self._until: collections.OrderedDict[str, float] = collections.OrderedDict()

  def wait(self, address: str) -> float:
    """Returns the seconds until an address may try again; 0 for now."""
    left = self._until.get(address, 0.0) - self._clock()
    return max(left - (self._most - 1) * self._each, 0.0)

  def wrong(self, address: str) -> None:
    """Counts a wrong token."""
    now = self._clock()
    begun = max(self._until.pop(address, now), now)
    self._until[address] = begun + self._each
    if len(self._until) > _ADDRESSES:
      self._until.popitem(last=False)


class Gate:
  """An ASGI app that lets only requests with the token through."""

  def __init__(self, app: Any, token: str, attempts: Attempts | None = None):
    """Args:
    app: Answers the requests that know the token.
    token: The token; '' lets all requests through.
    attempts: Counts wrong tokens.
    """
    self._app, self._attempts = app, attempts or Attempts()
    self._token = token
    self._value = _keyed(token, 'value')
    # Browsers send a cookie to all ports of a host, so that two servers need
    # two names.
    self._cookie = f'dreamprvr_{_keyed(token, "name")[:8]}'
    folder = importlib.resources.files('dreamprvr_jax.archive.serving') / 'page'
    self._form = (folder / 'login.html').read_text(encoding='utf-8')

  async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
    is_open = scope['type'] != 'http' or scope['path'].startswith(_PUBLIC)
    if not self._token or is_open:
      await self._app(scope, receive, send)
      return
    request = Request(scope, receive)
    answer = await self._answer(request)
    await (answer or self._app)(scope, receive, send)

  async def _answer(self, request: Request) -> Response | None:
    """Returns the answer to a request that does not go through, or None."""
    path, method = request.url.path, request.method
    if path == _LOGIN and method == 'POST':
      return await self._login(request)
    cookie = request.cookies.get(self._cookie, '')
    if _same(cookie, self._value):
      if method not in ('GET', 'HEAD') and _is_foreign(request):
        return refusal(403, 'this request comes from a page of another server')
      return self._without_token(request) if path == '/' else None
    kind, _, given = request.headers.get('authorization', '').partition(' ')
    given = given.strip() if kind.lower() == 'bearer' else ''
    in_address = path == '/' and request.query_params.get('token', '')
    if not given and not in_address:
      return self._ask(request)
    refused = self._check(request, given or str(in_address))
    if refused:
      return refused if given else self._ask(request, refused)
    return None if given else self._signed_in(request)

  def _check(self, request: Request, given: str) -> Response | None:
    """Returns the refusal of a wrong token, or of too many; else None."""
    client = request.client
    address = network_of((client.host, client.port) if client else None)
    # A right token is refused, too, so that guessing cannot go on.
    wait = self._attempts.wait(address)
    if wait:
      seconds = math.ceil(wait)
      return refusal(
        429,
        f'too many wrong tokens; try again in {seconds} s',
        **{'Retry-After': str(seconds)},
      )
    if _same(given, self._token):
      return None
    self._attempts.wrong(address)
    return refusal(401, 'the token is wrong', **_ASKED)

  async def _login(self, request: Request) -> Response:
    if _is_foreign(request):
      return refusal(403, 'this request comes from a page of another server')
    try:
      body = await request.body()
    except HTTPException as error:  # Larger than is said, see `Guard`.
      return refusal(error.status_code, str(error.detail))
    except ClientDisconnect:
      return refusal(408, 'the connection ended before the form was complete')
    found = parse_qs(body.decode('latin-1'))
    given = found.get('token', [''])[0].strip()
    refused = self._check(request, given)
    return self._ask(request, refused) if refused else self._signed_in(request)

  def _signed_in(self, request: Request) -> Response:
    """Returns the answer that gives the cookie and leads to the page."""
    answer = self._without_token(request) or RedirectResponse('/', 303)
    answer.set_cookie(
      self._cookie,
      self._value,
      max_age=_STAY,
      httponly=True,
      samesite='lax',
      secure=request.url.scheme == 'https',
    )
    return answer

  def _without_token(self, request: Request) -> Response | None:
    """Returns a redirection to the same address without the token, which would
    stay in the browser's history; None if it has none."""
    kept = [x for x in request.query_params.multi_items() if x[0] != 'token']
    if len(kept) == len(request.query_params.multi_items()):
      return None
    return RedirectResponse(f'/?{urlencode(kept)}' if kept else '/', 303)

  def _ask(self, request: Request, refused: Response | None = None) -> Response:
    """Returns the form for the token, for a page; else the refusal."""
    status = refused.status_code if refused else 401
    if request.url.path in ('/', _LOGIN):
      what = {429: 'Too many wrong tokens; wait a minute.'}.get(
        status, 'This token is wrong.' if refused else ''
      )
      headers = dict(refused.headers) if refused else _ASKED
      kept = ('retry-after', 'www-authenticate')
      return HTMLResponse(
        self._form.replace('<!-- what -->', what),
        status,
        {k: v for k, v in headers.items() if k.lower() in kept},
      )
    return refused or refusal(
      401,
      'this server asks for its token: send the header Authorization: Bearer '
      'TOKEN, or open its page and give it there',
      **_ASKED,
    )


def _keyed(token: str, what: str) -> str:
  """Returns a value that only who knows the token can compute."""
  made = hmac.new(token.encode(), f'dreamprvr {what}'.encode(), hashlib.sha256)
  return made.hexdigest()


def _same(given: str, expected: str) -> bool:
  """Returns whether two texts are the same, always in the same time."""
  digests = (
    hashlib.sha256(text.encode('utf-8', 'surrogateescape')).digest()
    for text in (given, expected)
  )
  return hmac.compare_digest(*digests)


def _is_foreign(request: Request) -> bool:
  """Returns whether a page of another server makes the browser ask."""
  # Behind a proxy the header `origin` has another name than `host`.
  return request.headers.get('sec-fetch-site') in ('cross-site', 'same-site')
