"""Every key of a config, once, with its default and what it means."""

from ml_collections import ConfigDict

from configs import rerank
from configs.models import (
  diffusionret,
  dreamprvr,
  gmmformer,
  gmmformer_v2,
  hlformer,
  holmes,
  ms_sl,
  msc,
)

MODELS = {
  'diffusionret': diffusionret.settings,
  'dreamprvr': dreamprvr.settings,
  'gmmformer': gmmformer.settings,
  'gmmformer_v2': gmmformer_v2.settings,
  'hlformer': hlformer.settings,
  'holmes': holmes.settings,
  'holmes_multi': holmes.multi_settings,
  'ms_sl': ms_sl.settings,
  'msc': msc.settings,
}


def base_config() -> ConfigDict:
  """Returns the config that all datasets start from."""
  config = ConfigDict()
  # Seed of initial values, order, dropout and negatives
  config.seed = 0
  # Compute dtype, 'float32' or 'bfloat16'; parameters and scores are float32
  config.dtype = 'float32'
  # Devices to use, 0 for all
  config.num_devices = 0
  # How many of them split the corpus in evaluation; the others split the
  # queries
  config.corpus_devices = 1

  # Folder where compiled programs are kept for the next start; empty: none
  config.compilation_cache = ''

  config.data = ConfigDict()
  # Folder that contains <collection>/FeatureData/...
  config.data.root = 'data'
  # Name of the dataset's folder and files
  config.data.collection = 'activitynet'
  # Folder under FeatureData
  config.data.feature = 'i3d'
  # Word-feature file in TextData; empty:
  # roberta_<collection>_query_feat.hdf5, or the only one
  config.data.text_feature = ''
  # Files with time spans of the captions, comma separated; empty: look in the
  # release
  config.data.moments = ''
  # Folder or bucket of the prepared records; empty:
  # <root>/<collection>/prepared
  config.data.prepared = ''
  # 'records' (prepared), 'release' (straight from the files), 'auto' (prepare
  # if possible)
  config.data.storage = 'auto'
  # Where features are read from while training: 'device' (splits in device
  # memory), 'resident' (splits in host memory), 'streaming' (tf.data), 'auto'
  # (the first of them that fits in memory; 'device' not on a CPU)
  config.data.pipeline = 'auto'
  # Share of the free device memory that splits may take with 'auto'
  config.data.device_share = 0.5
  # Dtype of features on the device: 'float32', 'bfloat16', or 'auto', the
  # compute dtype
  config.data.device_dtype = 'auto'
  # Leave out items that are missing or broken, and list them
  config.data.skip_bad = False
  # How many times its size an official file may unpack to, above 256 MiB
  config.data.max_inflation = 64.0
  # Check of the sources at start: 'fast' (size, time, samples) or 'full'
  # (hash of everything)
  config.data.verify = 'fast'
  # Processes for reading and preparing, 0 for one per core
  config.data.workers = 0
  # Videos in a training batch, over all devices
  config.data.batch_size = 128
  # Videos encoded at a time in evaluation
  config.data.eval_video_batch = 128
  # Queries encoded and ranked at a time
  config.data.eval_query_batch = 512
  # Caption slots of a batch are a multiple of this; the devices must divide
  # it
  config.data.caption_multiple = 16
  # Clips of a video
  config.data.num_clips = 32
  # How clips are made: 'pooled' (means of equal segments) or 'merged'
  # (neighbouring frames that are alike, MSC; 32 clips of 128 frames)
  config.data.clips = 'pooled'
  # Cosine above which two merged clips are linked; the more links a video has,
  # the further training merges its clips
  config.data.merge_threshold = 0.8
  # Frames of a video
  config.data.max_frames = 128
  # Words of a caption
  config.data.max_words = 30
  # Split that picks the epoch
  config.data.val_split = 'val'
  # Split of --mode=evaluate and of the final table; empty: test if there is
  # one, else val_split
  config.data.eval_split = ''

  config.simulated = ConfigDict()
  # Write a generated corpus to data.root first, if it is not there
  config.simulated.enabled = False
  # Videos of the splits train, val, test
  config.simulated.videos = (480, 96, 128)
  # Seed of the generated corpus
  config.simulated.seed = 0

  config.train = ConfigDict()
  # Epochs at most
  config.train.epochs = 100
  # Stop after more than this many epochs without a new best SumR
  config.train.patience = 10
  # First epoch (from 0) with hard negatives
  config.train.hard_negative_epoch = 20
  # Steps between two logged rows
  config.train.log_every = 10
  # Steps between two checkpoints within an epoch, 0 for none
  config.train.checkpoint_every = 200
  # Updates issued together at most, with data.pipeline 'device'; 0 for one on
  # a CPU, else up to the next row or checkpoint, but no more than 32. One at a
  # time gives the numbers of the other pipelines bit for bit, several give
  # them to rounding
  config.train.steps_per_dispatch = 0

  config.eval = ConfigDict()
  # Share of the free device memory for the encoded corpus; a corpus that takes
  # more is encoded and ranked in parts
  config.eval.corpus_share = 0.5

  config.optimizer = ConfigDict()
  # Peak learning rate
  config.optimizer.lr = 2.5e-4
  # Share of all steps over which the rate rises
  config.optimizer.warmup = 0.01
  # Weight decay, added to the direction, not to the gradient
  config.optimizer.weight_decay = 0.01
  # Norm that each tensor's gradient is clipped to
  config.optimizer.max_norm = 1.0

  config.report = ConfigDict()
  # Write curves.png and timelines.png at the end
  config.report.pictures = True
  # Queries shown in timelines.png
  config.report.queries = 4
  # Evaluate the untrained model, too, and put it into the table
  config.report.untrained = False

  config.rerank = rerank.rerank_keys()

  config.model = ConfigDict()
  config.loss = ConfigDict()
  return config


def with_model(config: ConfigDict, model: str) -> ConfigDict:
  """Returns the config with a model's numbers for its dataset, locked.

  Args:
    config: A config with its `data` filled in.
    model: The string after the colon of --config; DreamPRVR if empty.

  Raises:
    ValueError: If there is no such model.
  """
  name = model or 'dreamprvr'
  if name not in MODELS:
    raise ValueError(
      f'the config asks for the model {name!r}; the models are {sorted(MODELS)}'
    )
  for section, values in MODELS[name](config.data.collection).items():
    config[section].update(values)
  return config.lock()
