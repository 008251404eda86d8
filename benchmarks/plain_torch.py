"""Time of one DreamPRVR training step in a plain PyTorch program.

python benchmarks/plain_torch.py --batch=128 --captions=320 --registers=6

The yardstick for benchmarks/train_step.py: the same batch, losses and update,
float32 on the CPU with all its threads. Each part is computed as the method
describes it: the parallel blocks and the diffusion steps one after the
other, all keys and values projected, the pooling weights computed for every
video, a loop over the videos in the losses. Prints one JSON line.
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
from torch.nn import functional

# Sizes and settings for ActivityNet Captions.
FACTORS = {
  'clip_nce': 0.02,
  'clip_triplet': 1.0,
  'frame_nce': 0.04,
  'frame_triplet': 1.0,
  'div': 0.003,
  'qsp': 0.01,
  'kl': 1e-4,
  'dre': 1e-3,
}
MARGIN, HARD_POOL, TEMPERATURE = 0.2, 20, 0.08
DELTA, ALPHA, LAMBDA = 0.2, 32.0, 1.0
LEARNING_RATE = 2.5e-4
GOLDEN = ('dreamprvr_tiny', 'dreamprvr_tiny_hard')
# Tolerances as relative Frobenius norms, as in the tests of the JAX program.
TOLERANCES = {'outputs': 1e-5, 'losses': 1e-5, 'gradients': 1e-4, 'moves': 1e-2}


def nce(scores, labels):
  """Returns the NCE of (N, B) products, in both directions."""
  own = scores[torch.arange(len(labels)), labels]
  by_caption = (scores.logsumexp(1) - own).mean()
  by_video = [
    column.logsumexp(0) - column[labels == video].logsumexp(0)
    for video, column in enumerate(scores.unbind(1))
  ]
  return by_caption + torch.stack(by_video).mean()


def triplet(scores, labels, video_ranks, caption_ranks):
  """Returns the hinge loss of cosines (N, B), with negatives of these ranks."""
  rows = torch.arange(len(labels))
  own = scores[rows, labels]
  with torch.no_grad():
    own_first = scores.clone()
    own_first[rows, labels] = torch.inf
    order = own_first.argsort(1, descending=True)
  negatives = scores[rows, order[rows, video_ranks]]
  by_caption = (MARGIN + negatives - own).clamp(min=0).mean()
  by_video = []
  for video, column in enumerate(scores.unbind(1)):
    others = column[labels != video].sort(descending=True).values
    negative = others[caption_ranks[video]]
    by_video.append(MARGIN + negative - column[labels == video].mean())
  return by_caption + torch.stack(by_video).clamp(min=0).mean()


def text_structure(queries, labels):
  """Returns the diversity and the contrastive loss of (N, D) queries."""
  unit = functional.normalize(queries, dim=-1)
  cosine = unit @ unit.T
  itself = torch.eye(len(labels), dtype=torch.bool)
  siblings = (labels[:, None] == labels) & ~itself
  crowding = (1 + (ALPHA * (cosine + DELTA)).exp()).log()
  crowding = (1 + cosine) ** LAMBDA * crowding
  logits = cosine / TEMPERATURE
  among = logits.masked_fill(itself, -torch.inf).logsumexp(1, keepdim=True)
  count = siblings.sum(1)
  likelihood = ((logits - among) * siblings).sum(1)[count > 0]
  contrast = -likelihood / count[count > 0]
  return (
    crowding[siblings].sum() / len(labels),
    contrast.mean() if len(contrast) else cosine.new_zeros(()),
  )


def losses(output, labels, draws):
  """Returns the total and its terms before their factors."""
  terms = {}
  for branch, scores in output.scores.items():
    terms[f'{branch}_nce'] = nce(output.raw_scores[branch], labels)
    terms[f'{branch}_triplet'] = triplet(
      scores, labels, draws[f'{branch}_t2v_rank'], draws[f'{branch}_v2t_rank']
    )
  terms['div'], terms['qsp'] = text_structure(output.queries, labels)
  mu, logvar = output.mu, output.logvar
  terms['kl'] = -(1 + logvar - mu**2 - logvar.exp()).sum() / 2 / len(mu)
  noise = mu[:, None].expand_as(output.predicted_noise)
  terms['dre'] = functional.mse_loss(output.predicted_noise, noise)
  weighted = [FACTORS[name] * term for name, term in terms.items()]
  return torch.stack(weighted).sum(), terms


class BertAdam(torch.optim.Optimizer):
  """BERT's Adam: clips each tensor, no bias correction, warms up."""

  def __init__(self, model, total_steps):
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    free = lambda name: 'bias' in name or 'LayerNorm.weight' in name
    super().__init__(
      [
        {'params': [p for n, p in named if not free(n)], 'decay': 0.01},
        {'params': [p for n, p in named if free(n)], 'decay': 0.0},
      ],
      {},
    )
    self.done, self.total_steps = 0, total_steps

  @torch.no_grad()
  def step(self):
    x = self.done / self.total_steps
    rate = LEARNING_RATE * (x / 0.01 if x < 0.01 else max(1 - x, 0) / 0.99)
    self.done += 1
    for group in self.param_groups:
      for parameter in group['params']:
        torch.nn.utils.clip_grad_norm_(parameter, 1.0)
        gradient, state = parameter.grad, self.state[parameter]
        if not state:
          state['first'] = torch.zeros_like(parameter)
          state['second'] = torch.zeros_like(parameter)
        first, second = state['first'], state['second']
        first.mul_(0.9).add_(gradient, alpha=0.1)
        second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        update = first / (second.sqrt() + 1e-6)
        if group['decay']:
          update += group['decay'] * parameter
        parameter.add_(update, alpha=-rate)


def random_draws(videos, captions, registers, width):
  """Returns the random draws of one step, with hard negatives."""
  draws = {
    f'perturb_{name}': torch.randn(videos, registers, width)
    for name in ('alpha', 'beta')
  }
  for branch in ('clip', 'frame'):
    last = min(HARD_POOL + 1, videos)
    draws[f'{branch}_t2v_rank'] = torch.randint(1, last, (captions,))
    draws[f'{branch}_v2t_rank'] = torch.zeros(videos, dtype=torch.long)
  return draws


def backward(model, batch, draws):
  """Fills the gradients; returns (output, total loss, terms)."""
  model.zero_grad()
  output = model(batch, draws)
  total, terms = losses(output, batch['text_labels'], draws)
  total.backward()
  return output, total.item(), terms


def synthetic_batch(chosen):
  """Returns the batch of benchmarks/train_step.py, with the golden names."""
  rng = np.random.default_rng(0)
  videos, captions = chosen.batch, chosen.captions
  made = lambda *shape: torch.from_numpy(rng.standard_normal(shape, np.float32))
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


def measure(chosen):
  """Returns seconds and memory of training steps, after one warm-up step."""
  torch.manual_seed(0)
  batch = synthetic_batch(chosen)
  names = ('visual', 'text', 'width', 'clips', 'registers', 'dropout')
  model = DreamPRVR(**{name: getattr(chosen, name) for name in names})
  optimizer = BertAdam(model, total_steps=1000)
  sizes = (chosen.batch, chosen.captions, chosen.registers, chosen.width)
  wall, cpu = [], []
  for _ in range(chosen.steps + 1):
    began, used = time.perf_counter(), used_cpu_seconds()
    backward(model, batch, random_draws(*sizes))
    optimizer.step()
    wall.append(time.perf_counter() - began)
    cpu.append(used_cpu_seconds() - used)
  wall, cpu = wall[1:], cpu[1:]
  # Kibibytes on Linux.
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return {
    'python': platform.python_version(),
    'torch': torch.__version__,
    'device': f'cpu {platform.machine()}',
    'threads': torch.get_num_threads(),
    'parameters': sum(p.numel() for p in model.parameters()),
    'step_seconds_median': round(statistics.median(wall), 4),
    'step_seconds_min': round(min(wall), 4),
    'step_seconds_max': round(max(wall), 4),
    'step_cpu_seconds_median': round(statistics.median(cpu), 4),
    'videos_per_second': round(chosen.batch / statistics.median(wall), 2),
    'host_peak_gib': round(peak / 2**20, 2),
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


def options():
  """Returns the parsed command line."""
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
    ('steps', 3, 'timed steps, after one to warm up'),
  ):
    parser.add_argument(f'--{name}', type=int, default=default, help=text)
  parser.add_argument('--dropout', type=float, default=0.25)
  text = 'folder of golden numbers to compare with'
  parser.add_argument('--check', type=pathlib.Path, help=text)
  chosen = parser.parse_args()
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
  return chosen


def main():
  """Prints one JSON line; fails if a golden number does not match."""
  chosen = options()
  folder = vars(chosen).pop('check')
  if not folder:
    command = ' '.join(sys.argv)
    print(json.dumps({**vars(chosen), **measure(chosen), 'command': command}))
    return
  worst = check(folder)
  print(json.dumps({kind: f'{gap:.1e}' for kind, gap in worst.items()}))
  missed = [kind for kind, gap in worst.items() if not gap < TOLERANCES[kind]]
  if missed:
    raise SystemExit(f'too far from the golden numbers: {", ".join(missed)}')


if __name__ == '__main__':
  main()
