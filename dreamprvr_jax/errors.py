"""The error that a user can correct."""


class UserError(ValueError):
  """Bad input: a flag, a config key, a file or a folder.

  The message is one sentence: what is wrong, what was found, what was expected
  and what to do. The command line prints it without a traceback and exits with
  code 2. Subclasses keep their constructor's arguments in `args`, so that they
  can be pickled and sent from another process.
  """
