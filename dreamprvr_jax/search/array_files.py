"""Writing an array row by row."""

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np


@contextlib.contextmanager
def array_file(
  path: pathlib.Path, shape: tuple[int, ...], dtype: Any
) -> Iterator[BinaryIO]:
  """Opens a .npy file behind its header; in the end all is on disk."""
  header = {
    'descr': np.lib.format.dtype_to_descr(np.dtype(dtype)),
    'fortran_order': False,
    'shape': shape,
  }
  with path.open('wb') as file:
    np.lib.format.write_array_header_1_0(file, header)
    yield file
    file.flush()
    os.fsync(file.fileno())
