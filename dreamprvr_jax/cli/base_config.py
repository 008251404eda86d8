"""The config of a command that names a checkpoint, with or without --config.

The settings of the model come from the checkpoint. An additional --config
chooses the data; single keys of the command line override both.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from configs import activitynet, charades, common, qvhighlights, tvr
from dreamprvr_jax import checkpoints
from dreamprvr_jax.archive.index.manifest import Manifest
from dreamprvr_jax.errors import UserError

# Collection -> function from a model's name to the config.
_DATASETS = {
  'activitynet': activitynet.get_config,
  'charades': charades.get_config,
  'qvhighlight': qvhighlights.get_config,
  'tvr': tvr.get_config,
}
# Keys of how a model reads its data. Another dataset's config cannot change
# them.
READING = ('num_clips', 'clips', 'merge_threshold', 'max_frames', 'max_words')
# Keys that name data. Released files may have them, too.
_NAMES = ('collection', 'feature', 'text_feature')

# Returns the config of --config for a model; '' is the model it names itself.
Given = Callable[[str], ConfigDict]


def from_checkpoint(directory: str, given: Given | None = None) -> ConfigDict:
  """Returns the config of a command about a workdir or checkpoint, locked.

  Args:
    directory: The workdir or checkpoint.
    given: Function for --config. The model, and how it reads its data, still
      come from the checkpoint.

  Raises:
    CheckpointError: If there is no checkpoint.
  """
  own = _filled(checkpoints.read_config(directory)['config'])
  if given is None:
    return own
  config = given('').copy_and_resolve_references().unlock()
  config.dtype, config.model = own.dtype, own.model
  for key in READING:
    config.data[key] = own.data[key]
  return config.lock()


def from_index(directory: str, given: Given | None = None) -> ConfigDict:
  """Returns the config of the checkpoint that an index was made with, locked.

  An index made without training needs no checkpoint.

  Raises:
    UserError: If there is no index, or its checkpoint is gone.
  """
  manifest = Manifest.read(directory)
  facts = manifest.retriever
  if facts:
    return _without_training(facts, given)
  return from_checkpoint(manifest.checkpoint, given)


def _without_training(
  facts: Mapping[str, Any], given: Given | None
) -> ConfigDict:
  """Returns the config of a retriever that `Retriever.facts` describe."""
  name = facts['name']
  config = given(name) if given is not None else _filled({'model': facts})
  config = config.copy_and_resolve_references().unlock()
  config.update(common.MODELS[name](config.data.collection))
  return _put(config, {'model': facts}).lock()


def from_released(
  path: str, collection: str = '', given: Given | None = None
) -> ConfigDict:
  """Returns our config for a released checkpoint, locked.

  Values in the file come first. The rest are its model's defaults for a
  dataset: that of `given`, else `collection`, else the file's own.

  Args:
    path: The file.
    collection: Name of a dataset; '' if the command names none.
    given: Function for --config.

  Raises:
    ArchiveError: If the file cannot be read.
    WeightsError: If it is not a checkpoint of the family.
    UserError: If the dataset must be named, or --config names another model.
  """
  # Other commands do not need all models.
  from dreamprvr_jax.interop import released_config
  from dreamprvr_jax.interop.released_file import read_released

  released = read_released(path)
  found = released_config.overrides(released.config, released.state)
  model = found['model']['name']
  theirs = found.get('data', {})
  if given is not None:
    base = _of_file(given, model, path)
    collection = base.data.collection
    said = collection
  else:
    said = collection or theirs.get('collection', '')
    if not said and model == 'ms_sl':
      raise UserError(
        f'{path} is a checkpoint of MS-SL, which says neither its dataset nor '
        "its branches' weights; give --collection=NAME (activitynet, charades "
        'or tvr), or --config=configs/NAME.py'
      )
    widths = released_config.feature_widths(released.state)
    base = _of_dataset(said or _guessed(widths), model)
  config = base.copy_and_resolve_references().unlock()
  if collection and theirs.get('collection') not in (None, collection):
    # The user named another dataset, so the file's own names do not apply.
    theirs = {k: v for k, v in theirs.items() if k not in _NAMES}
  return _put(config, {**found, 'data': theirs}).lock()


def _of_file(given: Given, model: str, path: str) -> ConfigDict:
  """Returns the config of --config with the settings of a model."""
  config = given('')
  if config.model.name != model:
    config = given(model)
  if config.model.name != model:
    raise UserError(
      f'{path} is a checkpoint of {model}, but --config is for '
      f'{config.model.name}; leave out what stands behind its colon'
    )
  return config


def _of_dataset(collection: str, model: str) -> ConfigDict:
  """Returns a model's config for a dataset. A dataset without published
  settings gets those of ActivityNet, on its own files."""
  if collection in _DATASETS:
    return _DATASETS[collection](model)
  config = common.base_config()
  config.data.collection = collection
  return common.with_model(config, model)


def _guessed(widths: tuple[int, int]) -> str:
  """Returns the dataset whose features have the widths; ActivityNet if there is
  none, or more than one."""
  known = {(3072, 768): 'tvr', (2816, 512): 'qvhighlight'}
  return known.get(widths, 'activitynet')


def _filled(sections: Mapping[str, Any]) -> ConfigDict:
  """Returns the defaults of a dataset with the given values inserted."""
  config = common.base_config()
  data, model = sections.get('data', {}), sections.get('model', {})
  config.data.collection = data.get('collection', config.data.collection)
  # A folder of the machine that trained.
  sections = {k: v for k, v in sections.items() if k != 'compilation_cache'}
  config = common.with_model(config, model.get('name', '')).unlock()
  return _put(config, sections).lock()


def _put(config: ConfigDict, sections: Mapping[str, Any]) -> ConfigDict:
  """Puts values into an unlocked config and returns it.

  Unknown keys, such as those of another version, are left out.
  """
  for section, values in sections.items():
    if isinstance(values, Mapping):
      known = config.get(section, {})
      for key, value in values.items():
        if key in known:
          known[key] = tuple(value) if isinstance(value, list) else value
    elif section in config:
      config[section] = values
  return config
