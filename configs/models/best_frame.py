"""Best frame: the largest cosine of a sentence with a frame, no training."""

from ml_collections import ConfigDict

from configs.keys import Keys, key

# One vector of the whole sentence, and one clip: the mean of all frames.
DATA = {'num_clips': 1, 'max_words': 1, 'clips': 'pooled'}


def settings(collection: str) -> dict[str, ConfigDict]:
  """Returns {section: values} of the retriever, the same for every dataset."""
  del collection
  model = Keys('model')
  model.name = key('best_frame', 'Which model')
  return {'model': model.config, 'data': ConfigDict(DATA)}
