"""Runs a command of the package and says where its time went; see `startup.py`.

It imports nothing of JAX or of the package before the command does.
"""

import builtins
import importlib
import itertools
import json
import os
import pathlib
import resource
import sys
import time
from typing import Any

# Stages from the one that is counted first to the last: a moment counts for the
# first stage that it is in.
ORDER = ('compiling', 'lowering', 'importing', 'tracing', 'opening')
# Durations that JAX reports -> their stage.
EVENTS = {
  '/jax/core/compile/jaxpr_trace_duration': 'tracing',
  '/jax/core/compile/jaxpr_to_mlir_module_duration': 'lowering',
  '/jax/core/compile/backend_compile_duration': 'compiling',
}
HIT = '/jax/compilation_cache/cache_hits'
# Files and functions that open what a command reads.
OPENING = (
  ('dreamprvr_jax.archive.index.store', 'Store.__init__'),
  ('dreamprvr_jax.trained.retriever', 'Retriever.load'),
  ('dreamprvr_jax.trained.kept', 'find'),
  ('dreamprvr_jax.cli.data', 'open_data'),
)


class Stages:
  """Intervals of time by stage."""

  def __init__(self) -> None:
    self.began = time.time()
    self._intervals: dict[str, list[tuple[float, float]]] = {
      name: [] for name in ORDER
    }
    self._depth = 0
    self._listens = False
    self._opened: set[tuple[str, str]] = set()
    self.programs = self.loaded = 0

  def add(self, stage: str, start: float, end: float) -> None:
    """Adds an interval."""
    self._intervals[stage].append((start, end))

  def watch_imports(self) -> None:
    """Times imports from now on, and listens to JAX once it is there."""
    original, later = builtins.__import__, importlib.import_module

    def timed(call: Any) -> Any:
      def wrapped(*args: Any, **kwargs: Any) -> Any:
        start, self._depth = time.time(), self._depth + 1
        try:
          return call(*args, **kwargs)
        finally:
          self._depth -= 1
          if not self._depth:
            self.add('importing', start, time.time())
            self._look_around()

      return wrapped

    builtins.__import__ = timed(original)
    importlib.import_module = timed(later)

  def _look_around(self) -> None:
    """Listens to what was just imported."""
    if not self._listens and 'jax' in sys.modules:
      self._listens = True
      monitoring = sys.modules['jax'].monitoring
      monitoring.register_event_duration_secs_listener(self._on_duration)
      monitoring.register_event_listener(self._on_event)
    for place in OPENING:
      module = sys.modules.get(place[0])
      if module is not None and place not in self._opened:
        self._opened.add(place)
        self._time(module, place[1])

  def _time(self, module: Any, path: str) -> None:
    """Times a function of a module or class."""
    *owners, name = path.split('.')
    owner = module
    for part in owners:
      owner = getattr(owner, part)
    kind = vars(owner)[name]
    function = getattr(kind, '__func__', kind)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
      start = time.time()
      try:
        return function(*args, **kwargs)
      finally:
        self.add('opening', start, time.time())

    made = classmethod(wrapped) if isinstance(kind, classmethod) else wrapped
    setattr(owner, name, made)

  def _on_duration(self, event: str, seconds: float, **_: Any) -> None:
    stage = EVENTS.get(event)
    if stage:
      end = time.time()
      self.add(stage, end - seconds, end)
      self.programs += stage == 'compiling'

  def _on_event(self, event: str, **_: Any) -> None:
    self.loaded += event == HIT

  def seconds(self, end: float) -> dict[str, float]:
    """Returns the seconds of each stage until `end`, without overlaps, and of
    the rest."""
    marks = {self.began, end}
    for intervals in self._intervals.values():
      marks.update(mark for pair in intervals for mark in pair)
    found = dict.fromkeys((*ORDER, 'running'), 0.0)
    ordered = sorted(marks)
    merged = {name: _merged(pairs) for name, pairs in self._intervals.items()}
    for low, high in itertools.pairwise(ordered):
      if low < self.began or high > end:
        continue
      middle = (low + high) / 2
      stage = next(
        (name for name in ORDER if _contains(merged[name], middle)), 'running'
      )
      found[stage] += high - low
    return found


def _merged(pairs: list[tuple[float, float]]) -> list[tuple[float, float]]:
  """Returns intervals that do not overlap, in order."""
  found: list[tuple[float, float]] = []
  for start, end in sorted(pairs):
    if found and start <= found[-1][1]:
      found[-1] = found[-1][0], max(found[-1][1], end)
    else:
      found.append((start, end))
  return found


def _contains(pairs: list[tuple[float, float]], moment: float) -> bool:
  return any(start <= moment < end for start, end in pairs)


def run() -> int:
  """Runs the command; writes what it took to the file STARTUP_OUT names."""
  stages = Stages()
  root = pathlib.Path(__file__).parents[1]
  sys.path[0] = str(root)
  sys.argv = [str(root / 'main.py'), *sys.argv[1:]]
  stages.watch_imports()
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  from dreamprvr_jax.cli.main import main

  code = main(sys.argv)
  ended = time.time()
  used = resource.getrusage(resource.RUSAGE_SELF)
  facts = {
    'began': stages.began,
    'seconds': stages.seconds(ended),
    'cpu_seconds': used.ru_utime + used.ru_stime,
    'programs': stages.programs,
    'loaded': stages.loaded,
    # Adding up thousands of imports is no part of the command.
    'adding_up': time.time() - ended,
  }
  pathlib.Path(os.environ['STARTUP_OUT']).write_text(json.dumps(facts))
  return code


if __name__ == '__main__':
  sys.exit(run())
