"""HLFormer: published hyper-parameters by dataset."""

from ml_collections import ConfigDict

from configs.models import family, gmmformer_v2


def settings(collection: str) -> dict[str, ConfigDict]:
  """Returns {section: values} of HLFormer: GMMFormer v2's numbers, a cone
  instead of the matching."""
  model, loss = family.model_keys('hlformer'), family.loss_keys()
  family.block_keys(model)
  family.merger_keys(model)
  model.block_widths = (0.0, 2.0, 4.0, 8.0)
  family.lorentz_keys(model)
  model.lorentz_widths = (0.0, 2.0, 4.0, 8.0)
  found = family.with_numbers(model, loss, gmmformer_v2.DATASETS, collection)
  found['loss'].update({'matching': 0.0, 'cone': 1e-3})
  return found
