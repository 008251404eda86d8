"""The commands that compare or add retrievers; see `commands.py`."""

from dreamprvr_jax.cli.command import Command, Form
from dreamprvr_jax.cli.key_sets import TRAINING


def _runs(compared: str) -> Form:
  """Returns the form of a command that trains what a flag lists."""
  return Form(
    'table:run',
    'Request',
    given='config_of',
    needs=('config', compared, 'workdir'),
    devices=False,
  )


COMPARISONS = (
  Command(
    'table',
    'Trains several methods with several seeds and compares them. Writes '
    'table.md, .tex, .csv and .json. Each run has a workdir of its own below '
    '--workdir. Continues; a finished run is not repeated. A method is a '
    'model, or MODEL+KEY=VALUE+KEY=VALUE.',
    (
      '--config=configs/activitynet.py --config.data.root=DIR '
      '--methods=hlformer,dreamprvr,dreamprvr+model.num_registers=0 '
      '--seeds=3 --workdir=DIR [--out=DIR2]',
    ),
    (_runs('methods'),),
    keys=TRAINING,
  ),
  Command(
    'sweep',
    'Trains with several values of one key and compares them. Like table; '
    'draws sweep.png as well.',
    (
      '--config=configs/tvr.py:dreamprvr --config.data.root=DIR '
      '--sweep=model.num_registers=1,2,4,8 --seeds=3 --workdir=DIR',
    ),
    (_runs('sweep'),),
    keys=TRAINING,
  ),
  Command(
    'compare',
    'Says whether two retrievers differ on the same queries. Reads what '
    'evaluate --scores wrote, of one or several runs of each. The difference '
    'has two standard errors: for other queries, and for other runs.',
    ('--scores=RUN0.npz,RUN1.npz --against=OTHER.npz [--out=FILE.json]',),
    (
      Form(
        'comparing:run', given='', needs=('scores', 'against'), devices=False
      ),
    ),
  ),
  Command(
    'fuse',
    'Adds the scores of several retrievers. Reads what evaluate --scores wrote '
    'for one split. The weights are given, or that of the second of two '
    'retrievers is chosen on the scores of a validation split. Prints the '
    'metrics; writes the sum as another such file.',
    (
      '--scores=A.npz,B.npz --weights=1,0.5 [--out=SUM.npz]',
      '--scores=A.npz,B.npz --val_scores=A_VAL.npz,B_VAL.npz [--out=SUM.npz]',
    ),
    (Form('fusing:run', given='', needs=('scores',), devices=False),),
  ),
)
