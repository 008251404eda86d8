"""Why a request gets no answer."""

from dreamprvr_jax.errors import UserError


class Busy(RuntimeError):
  """Too much is waiting already; the same request may do later."""


class Late(RuntimeError):
  """A request was given up: its time was over."""


class BadQuery(UserError):
  """A query of which no word features can be made."""
