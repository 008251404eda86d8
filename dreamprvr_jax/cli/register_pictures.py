"""Pictures of a model's registers on videos of a split."""

import functools
import os
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data_pipeline.corpus import Split
from dreamprvr_jax.cli.pictures import by_time
from dreamprvr_jax.models import introspection
from dreamprvr_jax.models.dreamprvr import DreamPRVR
from dreamprvr_jax.report.attention import VideoAttention, plot_attention
from dreamprvr_jax.report.paths import RegisterPath, plot_paths

# Perturbed text targets shown for each video.
TARGETS = 8


def draw_attention(
  model: DreamPRVR,
  variables: Any,
  split: Split,
  videos: Sequence[int],
  path: str | os.PathLike[str],
) -> None:
  """Writes the picture of who attends whom along some videos of a split."""
  arrays = split.read_videos(videos)
  look = jax.jit(functools.partial(introspection.register_attention, model))
  names = ('clip_features', 'frame_features', 'frame_mask')
  found = jax.device_get(look(variables, *(arrays[name] for name in names)))
  shown = []
  for row, video in enumerate(videos):
    captions = np.flatnonzero(split.caption_video == video)
    duration = float(split.durations[video])
    real = arrays['frame_mask'][row]
    shown.append(
      VideoAttention(
        video_id=split.video_ids[video],
        duration=duration if np.isfinite(duration) else None,
        captions=[split.captions[i] for i in captions],
        moments=split.moments[captions] / duration,
        registers=by_time(found.of_registers[row], split, video),
        clips=by_time(found.of_clips[row].sum(axis=-1), split, video),
        frames=found.of_frames[row].sum(axis=-1)[:, real],
      )
    )
  plot_attention(shown, model.block_widths, path)


def draw_paths(
  model: DreamPRVR,
  variables: Any,
  split: Split,
  videos: Sequence[int],
  path: str | os.PathLike[str],
) -> None:
  """Writes the picture of how the registers of some videos move."""
  follow = jax.jit(functools.partial(introspection.register_path, model))
  states = np.asarray(
    follow(variables, split.read_videos(videos)['clip_features'])
  )
  row_of = {video: row for row, video in enumerate(videos)}
  captions = np.flatnonzero(np.isin(split.caption_video, videos))
  rows = np.array([row_of[v] for v in split.caption_video[captions].tolist()])
  draws = jax.random.normal(
    jax.random.key(0), (2, len(videos), TARGETS, model.width)
  )
  # The last target of each video is the one without perturbation.
  draws = jnp.concatenate([draws, jnp.zeros_like(draws[:, :, :1])], axis=2)
  aim = jax.jit(functools.partial(introspection.caption_targets, model))
  targets = np.asarray(
    aim(variables, *split.read_captions(captions).values(), rows, draws)
  )
  plot_paths(
    [
      RegisterPath(
        video_id=split.video_ids[video],
        states=states[:, row],
        targets=targets[row, :-1],
        target_mean=targets[row, -1],
      )
      for row, video in enumerate(videos)
    ],
    path,
  )
