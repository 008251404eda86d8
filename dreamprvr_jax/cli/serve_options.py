"""The flags that only serve takes; see `options.py`."""

from dreamprvr_jax.cli.option import option, path_option

SERVE_OPTIONS = (
  option(
    'host',
    '127.0.0.1',
    'ADDRESS',
    'address that the server listens on',
    'serve',
  ),
  option(
    'token',
    None,
    'SECRET',
    'what clients must know; better in the environment, as DREAMPRVR_TOKEN',
    'serve',
    kind=str,
  ),
  option('no_token', False, '', 'serve others without a token', 'serve'),
  path_option(
    'cache', 'DIR', 'folder of videos converted for browsers', 'serve'
  ),
  option('cache_gib', 2.0, 'GIB', 'size of that folder', 'serve'),
  option('port', 8000, 'N', 'port of the server; 0: a free one', 'serve'),
  option('max_connections', 1000, 'N', 'connections open at a time', 'serve'),
  option(
    'max_connections_per_address',
    256,
    'N',
    'connections of one address open at a time',
    'serve',
  ),
  option(
    'request_seconds',
    10.0,
    'S',
    'seconds for the header of a request to arrive, and its body',
    'serve',
  ),
)
