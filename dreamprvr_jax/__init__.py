"""Partially relevant video retrieval in JAX: DreamPRVR and its family.

`load` returns a trained model and its variables, from a folder or by its name
on the Hugging Face hub.
"""

from typing import TYPE_CHECKING, Any

from dreamprvr_jax.version import __version__

if TYPE_CHECKING:
  from dreamprvr_jax.trained.hub import load

__all__ = ['__version__', 'load']


def __getattr__(name: str) -> Any:
  # Resolved on first use, so that importing the package imports nothing big.
  if name == 'load':
    from dreamprvr_jax.trained.hub import load

    return load
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
