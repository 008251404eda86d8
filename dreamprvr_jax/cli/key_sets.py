"""Keys of the config that several commands use."""

# Keys of the config about devices, and where compiled programs are kept.
MACHINE = ('num_devices', 'corpus_devices', 'compilation_cache')
TRAINING = (
  'seed',
  'dtype',
  *MACHINE,
  'data',
  'simulated',
  'train',
  'eval',
  'optimizer',
  'report',
  'model',
  'loss',
)
