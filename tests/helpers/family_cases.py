"""The models of the family, configured as for their golden files."""

import dataclasses
from typing import Any

from dreamprvr_jax.objectives.retrieval import RetrievalObjective
from tests.helpers import models


@dataclasses.dataclass(frozen=True)
class Case:
  """A model, its losses, and its exceptions."""

  file: str
  name: str
  model: Any
  objective: RetrievalObjective
  # Names of loss terms: (ours, theirs)
  terms: tuple[tuple[str, str], ...]
  # Tensors whose gradients are zero except for rounding
  no_gradient: tuple[str, ...]
  # Tensors whose gradients nearly cancel, and their tolerances
  loose: tuple[tuple[str, float], ...] = ()
  # Numbers whose gradient cancels so far that float32 has two digits of it
  cancelling: tuple[str, ...] = ()


NCE = {'clip_nce': 0.02, 'frame_nce': 0.04}
NCE_TERMS = (('clip_nce', 'clip_nce_raw'), ('frame_nce', 'frame_nce_raw'))
HOLMES = models.objective(
  **NCE,
  diversity=0.003,
  intra_evidence=0.8,
  inter_evidence=0.2,
  inter_temperature=0.08,
)
HOLMES_TERMS = (
  *NCE_TERMS,
  ('diversity', 'div_raw'),
  ('intra_evidence', 'intra_raw'),
)
HOLMES_NO_GRADIENT = (
  'query_encoder.self.key.bias',
  'e_attns.0.self.key.bias',
  'ca.self.key.bias',
  'encoder.layer2.bias',
  'encoder_1.layer2.bias',
)
# This window is so wide that the bias nearly drops out of the softmax.
HOLMES_LOOSE = (('e_attns.7.self.key.bias', 3e-4),)
CASES = {
  case.file: case
  for case in (
    Case(
      'ms_sl_tiny',
      'ms_sl',
      models.make('ms_sl', width=32),
      models.objective(
        clip_nce=0.02, guided_nce=0.04, guided_triplet=1.0, frame_triplet=0.0
      ),
      (('clip_nce', 'clip_nce_raw'), ('guided_nce', 'frame_nce_raw')),
      ('self.key.bias',),
    ),
    Case(
      'gmmformer_tiny',
      'gmmformer',
      models.make('gmmformer', width=32),
      models.objective(**NCE, diversity=0.015, diversity_version=1),
      (*NCE_TERMS, ('diversity', 'div_raw')),
      ('query_encoder.self.key.bias', 'attn0.self.key.bias'),
    ),
    Case(
      'gmmformer_v2_tiny',
      'gmmformer_v2',
      models.make('gmmformer_v2', width=32),
      models.objective(**NCE, diversity=0.003, matching=0.11),
      (*NCE_TERMS, ('diversity', 'div_raw'), ('matching', 'matching_raw')),
      (
        'query_encoder.self.key.bias',
        'attn0.self.key.bias',
        'ca.self.key.bias',
        'layer2.bias',
      ),
    ),
    Case(
      'ral_tiny',
      'ral',
      models.make('ral', width=32),
      models.objective(
        **NCE,
        diversity=0.003,
        matching=0.11,
        proxy_matching=0.004,
        proxy_divergence=2.5e-4,
      ),
      (
        *NCE_TERMS,
        ('diversity', 'div_raw'),
        ('matching', 'matching_raw'),
        ('proxy_matching', 'mil_raw'),
        ('proxy_divergence', 'vib_raw'),
      ),
      (
        'query_encoder.self.key.bias',
        'attn0.self.key.bias',
        'ca.self.key.bias',
        'encoder.layer2.bias',
        'encoder_1.layer2.bias',
        'text_weight_fc.2.bias',
      ),
    ),
    Case(
      'hlformer_tiny',
      'hlformer',
      models.make('hlformer', width=32, lorentz_dim=27),
      models.objective(**NCE, diversity=0.003, cone=0.001),
      (*NCE_TERMS, ('diversity', 'div_raw'), ('cone', 'cone_raw')),
      (
        'query_encoder.self.key.bias',
        'e_attns.0.self.key.bias',
        'ca.self.key.bias',
        'encoder.layer2.bias',
        'encoder_1.layer2.bias',
        'h_attns.0.self.lorentz_multiattention.bias',
      ),
      (('linear_values.scale', 1e-2), ('linear_keys.scale', 1e-2)),
      (
        'frame_encoder_1.h_attns.1.self.lorentz_multiattention'
        '.linear_values.scale',
      ),
    ),
    Case(
      'msc_tiny',
      'msc',
      models.make('msc', width=32),
      models.objective(**NCE, alignment=0.1, distances=15.0, angles=30.0),
      (
        *NCE_TERMS,
        ('alignment', 'cbva_raw'),
        ('distances', 'rkd_d_raw'),
        ('angles', 'rkd_a_raw'),
      ),
      (
        'query_encoder.self.key.bias',
        'attn0.self.key.bias',
        'ca.self.key.bias',
        'encoder.layer2.bias',
        'encoder_1.layer2.bias',
      ),
    ),
    Case(
      'holmes_tiny',
      'holmes',
      models.make('holmes', width=32),
      HOLMES,
      HOLMES_TERMS,
      HOLMES_NO_GRADIENT,
      HOLMES_LOOSE,
    ),
    Case(
      'holmes_multi_tiny',
      'holmes_multi',
      models.make('holmes_multi', width=32),
      HOLMES,
      HOLMES_TERMS,
      ('text_weight_fc.2.bias', *HOLMES_NO_GRADIENT),
      HOLMES_LOOSE,
    ),
  )
}
