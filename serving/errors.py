"""Why a request gets no answer now."""


class Busy(RuntimeError):
  """Too much is waiting already; the same request may do later."""


class Late(RuntimeError):
  """A request was given up: its time was over."""
