"""The parts of `accelerator.py`, and how one is measured in its process."""

import concurrent.futures
import dataclasses
import gc
import importlib
import importlib.util
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from processes import LeftOutError

from dreamprvr_jax.errors import UserError

# The benchmark of each kind of part.
_BENCHMARKS = {
  'peaks': 'peaks',
  'step': 'train_step',
  'search': 'search_device',
  'evaluation': 'evaluation',
  'run': 'whole_run',
  'encoder': 'encoders',
  'torch': 'plain_torch',
}
KINDS = tuple(_BENCHMARKS)
# The first stands for all where only one is measured.
DATASETS = ('activitynet', 'tvr', 'charades')
# Small sizes of the same programs, by kind, and a model that compiles quickly.
_TOY_MODEL = '--name=ms_sl --model=width=16'
_TOY = {
  'peaks': '--sizes=128 --numbers=100000',
  'step': f'--batch=8 --captions=16 --steps=2 {_TOY_MODEL}',
  'search': '--videos=96 --clips=4 --frames=8 --width=16 --seconds=0.2',
  'evaluation': f'--videos=24 --queries=32 --steps=1 --corpus=0 {_TOY_MODEL}',
  'run': f'--videos=16 --batch=8 --eval_videos=8 --eval_queries=8 {_TOY_MODEL}',
  'encoder': '--size=toy --batch=2 --steps=1',
  'torch': '--batch=4 --captions=16 --steps=1 --width=16 --registers=2',
}
_FULL = {
  'peaks': '',
  'step': '--steps=20',
  'search': '',
  'evaluation': '--corpus=0 --steps=3',
  'run': '',
  'encoder': '--batch=128 --steps=10',
  'torch': '--steps=10',
}


@dataclasses.dataclass(frozen=True)
class Unit:
  """What becomes a row.

  Attributes:
    name: The name of the row.
    benchmark: The module that measures it, which is a command as well.
    arguments: Its command line.
    peak: The peak that its figures are compared with: 'float32', 'bfloat16',
      'bandwidth', or '' for none.
  """

  name: str
  benchmark: str
  arguments: tuple[str, ...] = ()
  peak: str = ''

  def with_options(self, *options: str) -> 'Unit':
    """Returns the unit with more of a command line."""
    return dataclasses.replace(self, arguments=(*self.arguments, *options))

  def facts(self) -> dict[str, Any]:
    """Returns the part of its row that does not depend on what is measured."""
    command = ' '.join([f'benchmarks/{self.benchmark}.py', *self.arguments])
    return {
      'row': self.name,
      'benchmark': self.benchmark,
      'command': command,
    }


@dataclasses.dataclass(frozen=True)
class Part:
  """Units that share a process.

  Attributes:
    kind: One of `KINDS`.
    units: What is measured, in this order.
    seconds: The process is ended after so many.
  """

  kind: str
  units: tuple[Unit, ...]
  seconds: float


def parts_of(*, toy: bool) -> list[Part]:
  """Returns the parts; those that say most come first.

  Args:
    toy: Whether all sizes are small.
  """
  sizes = _TOY if toy else _FULL

  def unit(kind: str, name: str, peak: str, *options: str) -> Unit:
    arguments = *options, *sizes[kind].split()
    return Unit(f'{kind} {name}', _BENCHMARKS[kind], arguments, peak)

  def units(kind: str, dtype: str, *datasets: str) -> tuple[Unit, ...]:
    source = lambda dataset: 'quickstart' if toy else dataset
    return tuple(
      unit(
        kind,
        f'{dataset} {dtype}',
        # The plain program is compared with the step instead.
        '' if kind == 'torch' else dtype,
        f'--dataset={source(dataset)}',
        f'--dtype={dtype}',
      )
      for dataset in datasets
    )

  one, best, exact = DATASETS[0], 'bfloat16', 'float32'
  searches = [
    unit('search', tokens, 'bandwidth', f'--tokens={tokens}')
    for tokens in ('float16', 'int8')
  ]
  encoder = unit(
    'encoder', f'siglip2 {best}', best, '--encoder=siglip2', f'--dtype={best}'
  )
  return [
    Part('peaks', (unit('peaks', 'of the device', ''),), 60),
    Part('step', units('step', best, *DATASETS), 150),
    *(Part('search', (search,), 45) for search in searches),
    Part('evaluation', units('evaluation', best, one), 60),
    Part('run', units('run', best, one), 120),
    Part('encoder', (encoder,), 60),
    Part('torch', units('torch', best, one), 45),
    Part('step', units('step', exact, *DATASETS), 150),
    Part('torch', units('torch', exact, one), 45),
  ]


def measure(
  units: tuple[Unit, ...], accelerated: bool
) -> Iterator[dict[str, Any]]:
  """Yields a row for each unit; one that says why, if it fails.

  What can be compiled beforehand is compiled for all units at the same time,
  which takes most of the time. They are measured one after the other.

  Args:
    units: What is measured.
    accelerated: Whether JAX is known to have an accelerator, so that a program
      that only has the CPU is nothing to compare it with.
  """
  with concurrent.futures.ThreadPoolExecutor(len(units)) as pool:
    ready = [pool.submit(_prepared, unit, accelerated) for unit in units]
  for unit, call in zip(units, ready, strict=True):
    began, row = time.monotonic(), unit.facts()
    try:
      row |= call.result()()
    except (LeftOutError, UserError) as error:
      row['left_out'] = ' '.join(str(error).split())
    # A failure of any kind is a row, and the next unit may still work.
    except Exception as error:
      traceback.print_exc()
      row['left_out'] = reason_of(error)
    row['seconds'] = round(time.monotonic() - began, 1)
    # What a failed unit had in device memory.
    gc.collect()
    yield row


def reason_of(error: Exception) -> str:
  """Returns the kind and the first line of an error."""
  lines = str(error).strip().splitlines() or ['']
  return f'{type(error).__name__}: {lines[0]}'[:300]


def _prepared(unit: Unit, accelerated: bool) -> Callable[[], dict[str, Any]]:
  """Returns the function that measures a unit."""
  if unit.benchmark == 'plain_torch':
    return _torch(unit, accelerated)
  module = importlib.import_module(unit.benchmark)
  options = module.parsed(unit.arguments)
  # Compiled here, if the benchmark can do that beforehand.
  if hasattr(module, 'prepared'):
    figures = module.prepared(options)
  else:
    figures = lambda: module.figures(options)
  return lambda: {**figures(), **_machine()}


def _machine() -> dict[str, Any]:
  """Returns versions and device of JAX."""
  from dreamprvr_jax.cli import provenance

  found = provenance.environment()
  # That of the row is the benchmark's own.
  del found['command']
  return found


def _torch(unit: Unit, accelerated: bool) -> Callable[[], dict[str, Any]]:
  """Returns the function that measures the plain PyTorch program.

  Raises:
    LeftOutError: If PyTorch is missing, or does not have the device.
  """
  if importlib.util.find_spec('torch') is None:
    raise LeftOutError('PyTorch is not installed')
  plain_torch = importlib.import_module('plain_torch')
  sizes = _torch_sizes(unit.arguments)
  options = plain_torch.parsed(sizes)
  if options.device == 'cpu' and accelerated:
    raise LeftOutError('this PyTorch does not have the device (no CUDA)')
  command = ' '.join(['benchmarks/plain_torch.py', *sizes])
  return lambda: {**plain_torch.figures(options), 'command': command}


def _torch_sizes(arguments: tuple[str, ...]) -> list[str]:
  """Returns a command line with the sizes of the dataset that the first
  argument names; later arguments replace them."""
  import harness

  options = harness.parser('').parse_args([arguments[0]])
  sizes, config = harness.DATASETS[options.dataset], harness.config_of(options)
  batch = config.data.batch_size
  return [
    f'--batch={batch}',
    f'--captions={harness.caption_slots(sizes, batch)}',
    f'--visual={sizes.visual}',
    f'--text={sizes.text}',
    f'--registers={config.model.num_registers}',
    f'--dropout={config.model.dropout}',
    *arguments[1:],
  ]
