"""Settings of the whole suite: eight CPU devices, quick compilation, Ctrl-C,
and the order of tests.

They are environment variables instead of JAX's own settings: they must be set
before JAX starts its backends, and tests without JAX need not import it.
"""

import os
import signal

# Tests compile much and compute little: slower code that compiles faster saves
# a third of the suite's time.
XLA_FLAGS = {
  '--xla_force_host_platform_device_count': '8',
  '--xla_backend_optimization_level': '0',
  '--xla_llvm_disable_expensive_passes': 'true',
}
# Folders of the tests that take longest because they run whole commands.
LONG = ('cli', 'notebooks')


def pytest_configure():
  flags = os.environ.get('XLA_FLAGS', '').split()
  given = {flag.partition('=')[0] for flag in flags}
  for name, value in XLA_FLAGS.items():
    if name not in given:
      flags.append(f'{name}={value}')
  os.environ['XLA_FLAGS'] = ' '.join(flags)
  os.environ.setdefault('JAX_PLATFORMS', 'cpu')
  # A suite that a script starts in the background, and its child processes,
  # would ignore Ctrl-C.
  if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
  # Long tests start first, so that no process is left alone with them at the
  # end.
  items.sort(key=lambda item: item.path.parent.name not in LONG)
