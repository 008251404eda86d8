"""Time of one DreamPRVR training step in a plain PyTorch program.

python benchmarks/plain_torch.py --batch=128 --captions=320 --registers=6

The yardstick for benchmarks/train_step.py: the same batch, losses and update,
on a GPU if PyTorch has one, else on the CPU with all its threads; with
--dtype=bfloat16 under autocast. On a GPU products of float32 may use TF32, as
in JAX by default. Each part is computed as the method describes it: the
parallel blocks and the diffusion steps one after the other, all keys and values
projected, the pooling weights computed for every video, a loop over the videos
in the losses. Prints one JSON line.
`--check=tests/golden` compares it with numbers of the released program instead.
Needs PyTorch, which this project does not: pip install torch
"""

import argparse
import json
import pathlib
import platform
import resource
import statistics
import sys
import time

import numpy as np

try:
  import torch
except ImportError:
  print(
    'plain_torch.py needs PyTorch, which is not installed: pip install torch',
    file=sys.stderr,
  )
  raise SystemExit(2) from None
from plain_torch_model import HEADS, MAX_FRAMES, MAX_WORDS, DreamPRVR
from plain_torch_step import BertAdam, backward, random_draws

# Steps to warm up, by device.
_WARM = {'cpu': 1, 'cuda': 3}
GOLDEN = ('dreamprvr_tiny', 'dreamprvr_tiny_hard')
# Tolerances as relative Frobenius norms, as in the tests of the JAX program.
TOLERANCES = {'outputs': 1e-5, 'losses': 1e-5, 'gradients': 1e-4, 'moves': 1e-2}


def synthetic_batch(chosen):
  """Returns the batch of benchmarks/train_step.py, with the golden names."""
  rng = np.random.default_rng(0)
  videos, captions = chosen.batch, chosen.captions
  made = lambda *shape: torch.from_numpy(
    rng.standard_normal(shape, np.float32)
  ).to(chosen.device)
  return {
    'clip_video_features': made(videos, chosen.clips, chosen.visual),
    'frame_video_features': made(videos, chosen.frames, chosen.visual),
    'videos_mask': torch.ones(videos, chosen.frames),
    'text_feat': made(captions, chosen.words, chosen.text),
    'text_mask': torch.ones(captions, chosen.words),
    'text_labels': (torch.arange(captions) % videos).sort().values,
  }


def used_cpu_seconds():
  """Returns user plus system seconds of all threads of this process."""
  usage = resource.getrusage(resource.RUSAGE_SELF)
  return usage.ru_utime + usage.ru_stime


def figures(chosen):
  """Returns seconds and memory of training steps, after those of a warm-up."""
  on_gpu = chosen.device == 'cuda'
  # Tensors that the model makes are there, too.
  torch.set_default_device(chosen.device)
  if on_gpu:
    torch.set_float32_matmul_precision('high')
  torch.manual_seed(0)
  batch = synthetic_batch(chosen)
  names = ('visual', 'text', 'width', 'clips', 'registers', 'dropout')
  model = DreamPRVR(**{name: getattr(chosen, name) for name in names})
  optimizer = BertAdam(model, total_steps=1000)
  sizes = (chosen.batch, chosen.captions, chosen.registers, chosen.width)
  wall, cpu = [], []
  autocast = torch.autocast(
    chosen.device, torch.bfloat16, enabled=chosen.dtype == 'bfloat16'
  )
  for _ in range(chosen.steps + _WARM[chosen.device]):
    began, used = time.perf_counter(), used_cpu_seconds()
    backward(model, batch, random_draws(*sizes), autocast)
    optimizer.step()
    if on_gpu:
      torch.cuda.synchronize()
    wall.append(time.perf_counter() - began)
    cpu.append(used_cpu_seconds() - used)
  wall, cpu = wall[-chosen.steps :], cpu[-chosen.steps :]
  # Kibibytes on Linux.
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return {
    'python': platform.python_version(),
    'torch': torch.__version__,
    'device': torch.cuda.get_device_name()
    if on_gpu
    else f'cpu {platform.machine()}',
    'threads': torch.get_num_threads(),
    'parameters': sum(p.numel() for p in model.parameters()),
    'step_seconds_median': round(statistics.median(wall), 4),
    'step_seconds_min': round(min(wall), 4),
    'step_seconds_max': round(max(wall), 4),
    'step_cpu_seconds_median': round(statistics.median(cpu), 4),
    'videos_per_second': round(chosen.batch / statistics.median(wall), 2),
    'host_peak_gib': round(peak / 2**20, 2),
    **(
      {'device_peak_gib': round(torch.cuda.max_memory_allocated() / 2**30, 2)}
      if on_gpu
      else {}
    ),
  }


def check(folder):
  """Returns the worst relative distance from golden numbers, by kind."""
  worst = dict.fromkeys(TOLERANCES, 0.0)

  def compare(kind, ours, theirs):
    ours = torch.as_tensor(ours).detach().double()
    gap = (ours - theirs).norm() / theirs.double().norm()
    # Unlike max, this keeps a NaN.
    worst[kind] = float(np.maximum(worst[kind], gap.item()))

  stored = {
    case: {
      name: torch.as_tensor(value)
      for name, value in np.load(folder / f'{case}.npz').items()
    }
    for case in GOLDEN
  }
  first = stored[GOLDEN[0]]
  for golden in stored.values():
    under = lambda prefix, source=golden: {
      name.removeprefix(prefix): value
      for name, value in source.items()
      if name.startswith(prefix)
    }
    batch, draws = under('batch/'), under('draws/')
    batch['text_labels'] = batch['text_labels'].long()
    hardest = torch.zeros(len(batch['videos_mask'])).long()
    draws = {f'{b}_v2t_rank': hardest for b in ('clip', 'frame')} | draws

    model = DreamPRVR(24, 20, width=32, clips=32, registers=3, dropout=0.0)
    model.load_state_dict(under('params/', first))
    output, total, terms = backward(model, batch, draws)
    for branch in ('clip', 'frame'):
      scores, raw = output.scores[branch], output.raw_scores[branch]
      compare('outputs', scores, golden[f'train/{branch}_scores'])
      compare('outputs', raw, golden[f'train/{branch}_scores_raw'])
      compare('outputs', output.tokens[branch], golden[f'eval/{branch}_feat'])
    compare('outputs', output.registers, golden['eval/registers'])
    for name in ('mu', 'logvar', 'queries', 'mean_queries', 'predicted_noise'):
      compare('outputs', getattr(output, name), golden[f'train/{name}'])

    # The released program divides this term by 1 + 1e-5.
    terms['dre'] = terms['dre'] / (1 + 1e-5)
    terms['triplets'] = terms.pop('clip_triplet') + terms.pop('frame_triplet')
    for name, term in terms.items():
      suffix = '' if name == 'triplets' else '_raw'
      compare('losses', term, golden[f'loss/{name}{suffix}'])
    compare('losses', total, golden['loss/total'])

    ours, theirs = dict(model.named_parameters()), under('grads/')
    # Gradients that are zero except for rounding are left out.
    theirs = {name: g for name, g in theirs.items() if g.norm() > 1e-7}
    for name, gradient in theirs.items():
      compare('gradients', ours[name].grad, gradient)

    optimizer, totals = BertAdam(model, total_steps=4200), []
    for _ in range(3):
      totals.append(backward(model, batch, draws)[1])
      optimizer.step()
    compare('losses', totals, golden['loss/trajectory'])
    before, after = under('params/', first), under('params_after_3/')
    for name in after.keys() & theirs.keys():
      moved = after[name] - before[name]
      compare('moves', ours[name] - before[name], moved)
  return worst


def parsed(arguments=None):
  """Returns the options; those of the command line if none are given."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  for name, default, text in (
    ('batch', 128, 'videos in a batch'),
    ('captions', 320, 'captions in a batch'),
    ('visual', 1024, 'width of the frame features'),
    ('text', 1024, 'width of the word features'),
    ('registers', 6, 'registers of a video'),
    ('width', 384, 'model width'),
    ('frames', MAX_FRAMES, f'frames of a video, at most {MAX_FRAMES}'),
    ('clips', 32, f'clips of a video, at most {MAX_FRAMES}'),
    ('words', MAX_WORDS, f'words of a caption, at most {MAX_WORDS}'),
    ('steps', 3, 'timed steps, after one or three to warm up'),
  ):
    parser.add_argument(f'--{name}', type=int, default=default, help=text)
  parser.add_argument('--dropout', type=float, default=0.25)
  has_gpu = torch.cuda.is_available()
  parser.add_argument(
    '--device',
    default='cuda' if has_gpu else 'cpu',
    choices=_WARM,
    help='by default a GPU if there is one',
  )
  parser.add_argument(
    '--dtype', default='float32', choices=('float32', 'bfloat16')
  )
  text = 'folder of golden numbers to compare with'
  parser.add_argument('--check', type=pathlib.Path, help=text)
  chosen = parser.parse_args(arguments)
  longest = {'frames': MAX_FRAMES, 'clips': MAX_FRAMES, 'words': MAX_WORDS}
  for name, value in vars(chosen).items():
    if isinstance(value, int) and not 1 <= value <= longest.get(name, value):
      most = longest.get(name, 'any number')
      parser.error(f'--{name} is {value}, expected 1 to {most}')
  if not 2 <= chosen.batch <= chosen.captions or not 0 <= chosen.dropout < 1:
    parser.error('needs 2 <= batch <= captions and 0 <= dropout < 1')
  if chosen.width % HEADS:
    parser.error(f'--width is {chosen.width}, no multiple of {HEADS} heads')
  if chosen.check and not (chosen.check / f'{GOLDEN[1]}.npz').is_file():
    parser.error(f'--check: no {GOLDEN[1]}.npz in {chosen.check}')
  if chosen.device == 'cuda' and not has_gpu:
    parser.error('--device=cuda: this PyTorch has no CUDA')
  return chosen


def main():
  """Prints one JSON line; fails if a golden number does not match."""
  chosen = parsed()
  folder = vars(chosen).pop('check')
  if not folder:
    command = ' '.join(sys.argv)
    print(json.dumps({**vars(chosen), **figures(chosen), 'command': command}))
    return
  worst = check(folder)
  print(json.dumps({kind: f'{gap:.1e}' for kind, gap in worst.items()}))
  missed = [kind for kind, gap in worst.items() if not gap < TOLERANCES[kind]]
  if missed:
    raise SystemExit(f'too far from the golden numbers: {", ".join(missed)}')


if __name__ == '__main__':
  main()
