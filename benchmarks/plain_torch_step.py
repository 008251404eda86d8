"""Losses and optimizer of plain_torch.py: one step of the method.

Draws come from outside, so that the golden numbers can be compared.
"""

import contextlib

import torch
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


def backward(model, batch, draws, context=None):
  """Fills the gradients; returns (output, total loss, terms).

  `context` is that of the forward pass: autocast, or none.
  """
  model.zero_grad()
  with context or contextlib.nullcontext():
    output = model(batch, draws)
    total, terms = losses(output, batch['text_labels'], draws)
  total.backward()
  return output, total.item(), terms
