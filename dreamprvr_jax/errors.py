"""The error that stands for bad input."""


class UserError(ValueError):
  """Bad input; the message is one sentence that names the thing, what was
  found, what was expected and what to do. `main.py` shows it without a
  traceback and exits with 2.

  Subclasses keep their constructor's arguments in `args`, so that they survive
  pickling on their way from another process.
  """
