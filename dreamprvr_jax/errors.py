"""Errors that are the user's to mend."""


class UserError(ValueError):
  """Bad input; the message is one sentence that names the thing, what was
  found, what was expected and what to do. `main.py` shows it without a
  traceback and exits with 2."""
