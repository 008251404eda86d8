"""The keys of every config, each with its default and what it means."""

from ml_collections import ConfigDict

from configs import archive, rerank
from configs.keys import Keys, key
from configs.models import (
  best_frame,
  diffusionret,
  dreamprvr,
  gmmformer,
  gmmformer_v2,
  hlformer,
  holmes,
  ms_sl,
  msc,
  ral,
  tf_prvr,
  trace,
)

MODELS = {
  'best_frame': best_frame.settings,
  'diffusionret': diffusionret.settings,
  'dreamprvr': dreamprvr.settings,
  'gmmformer': gmmformer.settings,
  'gmmformer_v2': gmmformer_v2.settings,
  'hlformer': hlformer.settings,
  'holmes': holmes.settings,
  'holmes_multi': holmes.multi_settings,
  'ms_sl': ms_sl.settings,
  'msc': msc.settings,
  'ral': ral.settings,
  'tf_prvr': tf_prvr.settings,
}
# Further settings of a model, which is not named like them.
VARIANTS = {'trace': trace.settings}
# Those that have neither parameters nor losses; the others are trained.
FREE = ('tf_prvr', 'best_frame')
TRAINED = tuple(name for name in MODELS if name not in FREE)


def base_config() -> ConfigDict:
  """Returns the config that all datasets start from."""
  config = Keys()
  config.seed = key(0, 'Seed of initial values, order, dropout and negatives')
  config.dtype = key(
    'float32',
    "Compute dtype, 'float32' or 'bfloat16'; parameters and scores are float32",
  )
  config.num_devices = key(0, 'Devices to use, 0 for all')
  config.corpus_devices = key(
    1,
    'How many of the devices split the corpus in evaluation; the others '
    'split the queries',
  )
  config.compilation_cache = key(
    'auto',
    "Folder where compiled programs are kept for the next start: 'auto' (one "
    'in your cache folder), a path, or empty for none',
  )
  config.data = _data_keys()
  config.simulated = _simulated_keys()
  config.train = _train_keys()
  config.eval = Keys('eval')
  config.eval.corpus_share = key(
    0.5,
    'Share of the free device memory for the encoded corpus; a corpus '
    'that takes more is encoded and ranked in parts',
  )
  config.optimizer = _optimizer_keys()
  config.report = _report_keys()
  config.trace = _trace_keys()
  config.rerank = rerank.rerank_keys()
  config.archive = archive.archive_keys()
  config.model, config.loss = Keys('model'), Keys('loss')
  return config.config


def _data_keys() -> Keys:
  """Returns the keys of `config.data`: files, and how they become batches."""
  data = Keys('data')
  _file_keys(data)
  _batch_keys(data)
  return data


def _file_keys(data: Keys) -> None:
  """Adds the keys that say what is read from where."""
  data.root = key('data', 'Folder that contains <collection>/FeatureData/...')
  data.collection = key('activitynet', "Name of the dataset's folder and files")
  data.feature = key('i3d', 'Folder under FeatureData')
  data.text_feature = key(
    '',
    'Word-feature file in TextData; empty: '
    'roberta_<collection>_query_feat.hdf5, or the only one',
  )
  data.sentence = key(
    'auto',
    "Where the vector of a whole sentence is: 'file' (sentence_feats.hdf5), "
    "'last' (the last row of the word features) or 'auto' (the file if there "
    "is one, else the last row if the word features' file is of CLIP)",
  )
  data.moments = key(
    '',
    'Files with time spans of the captions, comma separated; empty: look '
    'in the release',
  )
  data.prepared = key(
    '',
    'Folder or bucket of the prepared records; empty: '
    '<root>/<collection>/prepared',
  )
  data.storage = key(
    'auto',
    "'records' (prepared), 'release' (straight from the files), 'auto' "
    '(prepare if possible)',
  )
  data.pipeline = key(
    'auto',
    "Where features are read from while training: 'device' (splits in "
    "device memory), 'resident' (splits in host memory), 'streaming' "
    "(tf.data), 'auto' (the first of them that fits in memory; 'device' "
    'not on a CPU)',
  )
  data.device_share = key(
    0.5, "Share of the free device memory that splits may take with 'auto'"
  )
  data.device_dtype = key(
    'auto',
    "Dtype of features on the device: 'float32', 'bfloat16', or 'auto', "
    'the compute dtype',
  )
  data.skip_bad = key(
    False, 'Leave out items that are missing or broken, and list them'
  )
  data.max_inflation = key(
    64.0,
    'How many times its size an official file may unpack to, above 256 MiB',
  )
  data.verify = key(
    'fast',
    "Check of the sources at start: 'fast' (size, time, samples) or "
    "'full' (hash of everything)",
  )
  data.workers = key(
    0, 'Processes for reading and preparing, 0 for one per core'
  )


def _batch_keys(data: Keys) -> None:
  """Adds the keys of batches, of their arrays and of the splits."""
  data.batch_size = key(128, 'Videos in a training batch, over all devices')
  data.eval_video_batch = key(128, 'Videos encoded at a time in evaluation')
  data.eval_query_batch = key(512, 'Queries encoded and ranked at a time')
  data.caption_multiple = key(
    16,
    'Caption slots of a batch are a multiple of this; the devices must '
    'divide it',
  )
  data.num_clips = key(32, 'Clips of a video')
  data.clips = key(
    'pooled',
    "How clips are made: 'pooled' (means of equal segments) or 'merged' "
    '(neighbouring frames that are alike, MSC; 32 clips of 128 frames)',
  )
  data.merge_threshold = key(
    0.8,
    'Cosine above which two merged clips are linked; the more links a '
    'video has, the further training merges its clips',
  )
  data.max_frames = key(128, 'Frames of a video')
  data.max_words = key(30, 'Words of a caption')
  data.val_split = key('val', 'Split that picks the epoch')
  data.eval_split = key(
    '',
    'Split of evaluate and of the final table; empty: test if there is '
    'one, else val_split',
  )


def _simulated_keys() -> Keys:
  """Returns the keys of `config.simulated`, the generated corpus."""
  simulated = Keys('simulated')
  simulated.enabled = key(
    False, 'Write a generated corpus to data.root first, unless it exists'
  )
  simulated.videos = key(
    (480, 96, 128), 'Videos of the splits train, val, test'
  )
  simulated.noise = key(
    1.5, 'Noise of the generated features: 0 is easy, 1.5 is hard'
  )
  simulated.seed = key(0, 'Seed of the generated corpus')
  return simulated


def _train_keys() -> Keys:
  """Returns the keys of `config.train`."""
  train = Keys('train')
  train.epochs = key(100, 'Epochs at most')
  train.sizing = key(
    'given',
    "'given': all numbers as they stand; 'auto' (configs/videos.py): batch, "
    'lengths, rate and epochs by number and length of the videos and by the '
    'device, see configs/sizing.py, except keys on the command line',
  )
  train.patience = key(
    10, 'Stop after more than this many epochs without a new best SumR'
  )
  train.smoothing = key(
    1,
    'Epochs over whose mean SumR patience is counted; with few queries in val '
    'that of one epoch is mostly noise. The best epoch is kept either way',
  )
  train.hard_negative_epoch = key(
    20, 'First epoch (from 0) with hard negatives'
  )
  train.start = key(
    '',
    'Checkpoint whose weights training starts from; {seed} in it stands for '
    'config.seed. Parts that it lacks start by the seed. Empty: all do',
  )
  train.held_epochs = key(
    0, "First epochs in which only TRACE's maps learn, and nothing else changes"
  )
  train.fusion_start = key(
    0, "Epoch (from 0) after which TRACE's score begins to count"
  )
  train.fusion_rise = key(
    0, 'Epochs until it counts in full, rising linearly; 0: at once'
  )
  train.log_every = key(10, 'Steps between two logged rows')
  train.checkpoint_every = key(
    200, 'Steps between two checkpoints within an epoch, 0 for none'
  )
  train.steps_per_dispatch = key(
    0,
    "Updates issued together at most, with data.pipeline 'device'; 0 for "
    'one on a CPU, else up to the next row or checkpoint, but no more '
    'than 32. One at a time gives the numbers of the other pipelines bit '
    'for bit, several give them to rounding',
  )
  return train


def _trace_keys() -> Keys:
  """Returns the keys of `config.trace`, TRACE's score without training."""
  trace = Keys('trace')
  trace.routing = key(
    'query',
    "'query' (the method), or a control: 'uniform', 'shuffled', "
    "'shuffled_frames', 'best_frame'",
  )
  trace.weights = key(
    (0.01, 0.02, 0.03, 0.05, 0.1, 0.2),
    "Weights of TRACE's score, of which evaluate --trace chooses one",
  )
  trace.temperature = key(0.07, 'Tau of this score, at least 0.05')
  trace.route = key(
    0.3, "Gamma, weight of the pooled tokens in a frame's score"
  )
  trace.soft = key(0.2, 'Eta, weight of the pooled evidence')
  return trace


def _optimizer_keys() -> Keys:
  """Returns the keys of `config.optimizer`."""
  optimizer = Keys('optimizer')
  optimizer.kind = key(
    'bert_adam',
    "'bert_adam' (released: linear fall, each tensor clipped on its own) or "
    "'adamw' (TRACE's second phase: cosine to a tenth, all clipped together)",
  )
  optimizer.lr = key(2.5e-4, 'Peak learning rate')
  optimizer.warmup = key(0.01, 'Share of all steps over which the rate rises')
  optimizer.weight_decay = key(
    0.01, 'Weight decay, added to the direction, not to the gradient'
  )
  optimizer.max_norm = key(
    1.0,
    "Norm that each tensor's gradient is clipped to; with 'adamw', that of all "
    'together',
  )
  return optimizer


def _report_keys() -> Keys:
  """Returns the keys of `config.report`, what is shown at the end."""
  report = Keys('report')
  report.pictures = key(True, 'Write curves.png and timelines.png at the end')
  report.queries = key(4, 'Queries shown in timelines.png')
  report.untrained = key(
    False, 'Evaluate the untrained model, too, and put it into the table'
  )
  return report


def with_model(config: ConfigDict, model: str) -> ConfigDict:
  """Returns the config with a model's numbers for its dataset, locked.

  Args:
    config: A config with its `data` filled in.
    model: The string after the colon of --config; DreamPRVR if empty.

  Raises:
    ValueError: If there is no such model.
  """
  name = model or 'dreamprvr'
  known = {**MODELS, **VARIANTS}
  if name not in known:
    raise ValueError(
      f'the config asks for the model {name!r}; the models are {sorted(known)}'
    )
  for section, values in known[name](config.data.collection).items():
    config[section].update(values)
  return config.lock()


def declare_all() -> None:
  """Makes every config once, so that `keys.DESCRIPTIONS` is complete."""
  for model in (*MODELS, *VARIANTS):
    with_model(base_config(), model)
