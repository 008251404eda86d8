"""Videos on their way into an index."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from dreamprvr_jax import text


@dataclasses.dataclass(frozen=True)
class Videos:
  """Videos to be added.

  Attributes:
    ids: Their ids, all different.
    durations: Their seconds, NaN where unknown.
    batches: Starts a pass over their features, in the order of `ids`: dicts
      of `clip_features` (b, c, e), `frame_features` (b, f, e), `frame_mask`
      (b, f), `video_mask` (b,), which is False for padding at the end, and
      of merged clips `clip_sizes` (b, c).
  """

  ids: Sequence[str]
  durations: Float[np.ndarray, ' v']
  batches: Callable[[], Iterable[Mapping[str, np.ndarray]]]

  def named(self) -> 'Videos':
    """Returns them with their ids in the form (NFC) that an index has.

    Raises:
      UserError: If an id is no text.
    """
    return dataclasses.replace(self, ids=[id_of(name) for name in self.ids])


def id_of(name: str) -> str:
  """Returns a video's id in the form (NFC) that an index has.

  Raises:
    UserError: If it is no text.
  """
  return text.check(name, f'the id {name!r} of a video')
