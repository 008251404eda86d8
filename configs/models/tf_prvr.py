"""TF-PRVR: moments cut by wavelets and smoothed over a graph, no training."""

from ml_collections import ConfigDict

from configs.keys import Keys, key
from configs.models.best_frame import DATA


def settings(collection: str) -> dict[str, ConfigDict]:
  """Returns {section: values} of the retriever, the same for every dataset."""
  del collection
  model = Keys('model')
  model.name = key('tf_prvr', 'Which model')
  model.wavelet = key(
    'db4', 'Wavelet that cuts videos (TF-PRVR), such as haar, db2, db4, sym4'
  )
  model.beta = key(
    0.7, 'Weight of the graph that smooths moments (TF-PRVR), 0 to below 1'
  )
  return {'model': model.config, 'data': ConfigDict(DATA)}
