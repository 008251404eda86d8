"""What the device can do: matrix products and reading its memory.

python benchmarks/peaks.py

The fastest of three sizes of a product of square matrices, in float32 and in
bfloat16, and of a sum over a large array. float32 is what JAX makes of it by
default: on most accelerators products in fewer digits. Prints one JSON line.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import harness


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
  """Returns the options; those of the command line if none are given."""
  made = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  made.add_argument(
    '--of',
    action='append',
    choices=('float32', 'bfloat16', 'bandwidth'),
    help='what is measured; may be repeated; everything if it is not given',
  )
  numbers = lambda text: tuple(int(size) for size in text.split(','))
  made.add_argument('--sizes', type=numbers, help='of the matrices')
  made.add_argument(
    '--numbers', type=int, default=0, help='of the array, on a device'
  )
  return made.parse_args(arguments)


def figures(options: argparse.Namespace) -> dict[str, Any]:
  """Returns TFLOP/s of products on one device, and GB/s of all of them."""
  found = {}
  for name in options.of or ('float32', 'bfloat16', 'bandwidth'):
    if name == 'bandwidth':
      found['bandwidth_gb_per_second'] = round(
        harness.bandwidth(options.numbers) / 1e9, 3
      )
    else:
      peak = harness.matmul_peak(name, options.sizes) / 1e12
      found[f'{name}_tflop_per_second'] = round(peak, 4)
  return found


def main() -> None:
  """Prints the results."""
  options = parsed()
  harness.report(options, **figures(options))


if __name__ == '__main__':
  sys.exit(main())
