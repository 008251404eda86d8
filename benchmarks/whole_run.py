"""How long a whole training takes here, without early stopping: an estimate.

python benchmarks/whole_run.py --dataset=activitynet --dtype=bfloat16

Runs train_step.py and evaluation.py at the dataset's sizes and computes epochs
x (steps x step + evaluation), plus one compilation of the step. Reading and
preparing the data, checkpoints and the final report are left out. Prints one
JSON line with the parts and the sum in minutes.
"""

import json
import subprocess
import sys

import harness


def measured(script: str, options: list[str]) -> dict[str, float]:
  """Returns the JSON line of another benchmark."""
  done = subprocess.run(
    [sys.executable, str(harness.ROOT / 'benchmarks' / script), *options],
    check=True,
    stdout=subprocess.PIPE,
    text=True,
  )
  return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
  """Runs both benchmarks, prints the estimate."""
  options = harness.parser(__doc__, steps=3).parse_args()
  config = harness.config_of(options)
  sizes = harness.DATASETS[options.dataset]
  given = [
    f'--dataset={options.dataset}',
    f'--dtype={options.dtype}',
    f'--steps={options.steps}',
    *(f'--model={item}' for item in options.model),
  ]
  training = measured('train_step.py', given)
  evaluation = measured('evaluation.py', [*given, '--corpus=0'])
  steps = -(-sizes.videos // config.data.batch_size)
  step = training['step_seconds_median']
  evaluate = evaluation['evaluation_seconds_median']
  compilation = training['compilation_seconds']
  epoch = steps * step + evaluate
  harness.report(
    options,
    epochs=config.train.epochs,
    steps_per_epoch=steps,
    step_seconds=step,
    evaluation_seconds=evaluate,
    compilation_seconds=compilation,
    epoch_seconds=round(epoch, 2),
    run_minutes=round((compilation + config.train.epochs * epoch) / 60, 2),
  )


if __name__ == '__main__':
  sys.exit(main())
