"""Settings of the whole suite: eight CPU devices, quick compilation, Ctrl-C,
and the order of tests.

They are environment variables instead of JAX's own settings: they must be set
before JAX starts its backends, tests without JAX need not import it, and the
commands that tests start inherit them.
"""

import gc
import importlib.metadata
import os
import shutil
import signal
import tempfile

# Tests compile much and compute little: slower code that compiles faster saves
# half of the suite's time.
XLA_FLAGS = {
  '--xla_backend_optimization_level': '0',
  '--xla_llvm_disable_expensive_passes': 'true',
}
# Flags and the first release of jaxlib that may not know them: XLA aborts at a
# flag that it does not know.
XLA_FLAGS_BEFORE = {
  # Halves the time of compilation again.
  '--xla_cpu_use_fusion_emitters': ('false', (0, 11)),
  # Both cores are busy: there is none to compile parts of a program on.
  '--xla_cpu_parallel_codegen_split_count': ('1', (0, 13)),
}
JAXLIB = importlib.metadata.version('jaxlib').split('.')
XLA_FLAGS |= {
  name: value
  for name, (value, release) in XLA_FLAGS_BEFORE.items()
  if tuple(map(int, JAXLIB[:2])) < release
}
# Not by a flag of XLA: programs for one device are the same programs in
# processes with other numbers of devices, but flags are part of their keys.
DEVICES = 'JAX_NUM_CPU_DEVICES'
# All processes of the suite share what they compiled, however little it was.
CACHE = 'JAX_COMPILATION_CACHE_DIR'
CACHE_EVERYTHING = {
  'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
  'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
}
# Products are small here: more threads of BLAS only wait for each other.
BLAS_THREADS = 'OPENBLAS_NUM_THREADS'
# Folders of the tests that take longest because they run whole commands.
LONG = ('cli', 'notebooks')


def pytest_configure(config):
  flags = os.environ.get('XLA_FLAGS', '').split()
  given = {flag.partition('=')[0] for flag in flags}
  for name, value in XLA_FLAGS.items():
    if name not in given:
      flags.append(f'{name}={value}')
  os.environ['XLA_FLAGS'] = ' '.join(flags)
  os.environ.setdefault('JAX_PLATFORMS', 'cpu')
  os.environ.setdefault(DEVICES, '8')
  os.environ.setdefault(BLAS_THREADS, '1')
  share_programs(config)
  # A suite that a script starts in the background, and its child processes,
  # would ignore Ctrl-C.
  if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def share_programs(config):
  """Makes a cache of compiled programs for this session.

  A folder that the environment names is used instead, and stays. pytest's
  other processes inherit the environment of the first.
  """
  for name, value in CACHE_EVERYTHING.items():
    os.environ.setdefault(name, value)
  if CACHE in os.environ:
    return
  os.environ[CACHE] = tempfile.mkdtemp(prefix='compiled-')
  config.add_cleanup(
    lambda: shutil.rmtree(os.environ.pop(CACHE), ignore_errors=True)
  )


def pytest_collection_finish():
  # Modules stay; without them, and less often, collecting garbage takes a
  # hundredth of the time instead of a tenth.
  gc.freeze()
  gc.set_threshold(10_000, 10, 10)


def pytest_collection_modifyitems(items):
  # Long tests start first, so that no process is left alone with them at the
  # end.
  items.sort(key=lambda item: item.path.parent.name not in LONG)
