"""DreamPRVR as plain PyTorch modules, for benchmarks/plain_torch.py.

Attributes have the names of the released weights, so that these can be loaded.
Axes: B videos, N captions, L tokens of a video, D width.
"""

import math
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional

HEADS, DIFFUSION_STEPS, MAX_FRAMES, MAX_WORDS = 4, 10, 128, 30
SPREADS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
MIXTURE_TEMPERATURE = 0.6


class InputProjection(nn.Module):
  def __init__(self, features, width, dropout):
    super().__init__()
    self.LayerNorm = nn.LayerNorm(features)
    self.net = nn.Sequential(nn.Dropout(dropout), nn.Linear(features, width))

  def forward(self, x):
    return self.net(self.LayerNorm(x)).relu()


class Position(nn.Module):
  def __init__(self, rows, width, dropout):
    super().__init__()
    self.position_embeddings = nn.Embedding(rows, width)
    self.LayerNorm = nn.LayerNorm(width)
    self.dropout = nn.Dropout(dropout)

  def forward(self, x):
    places = torch.arange(x.shape[1])
    return self.dropout(self.LayerNorm(x + self.position_embeddings(places)))


def gaussian_table(spread, length, registers):
  """Returns factors of the attention scores, 1 where a register takes part."""
  centres = torch.arange(length)[:, None] / length
  sigma = max(spread, 0.01) / 9
  window = (torch.linspace(0, 1, length) - centres) / sigma
  window = torch.exp(-(window**2) / 2)
  table = torch.ones(length + registers, length + registers)
  table[:length, :length] = window / window.amax(1, keepdim=True)
  return table


class Attention(nn.Module):
  def __init__(self, width, dropout, table):
    super().__init__()
    linear = lambda: nn.Linear(width, width)
    self.query, self.key, self.value = linear(), linear(), linear()
    self.dropout = nn.Dropout(dropout)
    self.register_buffer('table', table, persistent=False)

  def forward(self, queries, tokens, mask):
    split = lambda x: x.unflatten(-1, (HEADS, -1)).transpose(1, 2)
    q = split(self.query(queries))
    k, v = split(self.key(tokens)), split(self.value(tokens))
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if self.table is not None:
      scores = scores * self.table
    if mask is not None:
      scores = scores + (1 - mask[:, None]) * -10000.0
    return (self.dropout(scores.softmax(-1)) @ v).transpose(1, 2).flatten(2)


class FeedForward(nn.Module):
  def __init__(self, width, inner, dropout):
    super().__init__()
    self.layer1 = nn.Linear(width, inner)
    self.layer2 = nn.Linear(inner, width)
    self.dropout = nn.Dropout(dropout)

  def forward(self, x):
    return self.layer2(self.dropout(self.layer1(x).relu()))


class AttentionBlock(nn.Module):
  def __init__(self, width, inner, dropout, table=None):
    super().__init__()
    self.self = Attention(width, dropout, table)
    self.output = FeedForward(width, inner, dropout)
    self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
    self.dropout = nn.Dropout(dropout)

  def forward(self, queries, tokens, mask=None):
    """`mask` (videos, queries or 1, tokens) is 1 where a query may attend."""
    h = self.norm1(queries + self.dropout(self.self(queries, tokens, mask)))
    return self.norm2(h + self.dropout(self.output(h)))


class RegisterQueries(nn.Module):
  def __init__(self, width, registers, dropout):
    super().__init__()
    self.query_tokens = nn.Parameter(torch.randn(1, registers, width))
    self.cross_attention = AttentionBlock(width, width, dropout)

  def forward(self, x):
    return self.cross_attention(self.query_tokens.expand(len(x), -1, -1), x)


class TokenPooling(nn.Module):
  def __init__(self, width):
    super().__init__()
    self.w_1 = nn.Linear(width, width // 2, bias=False)
    self.w_2 = nn.Linear(width // 2, 1, bias=False)

  def forward(self, x):
    return (self.w_2(self.w_1(x).tanh()).softmax(1) * x).sum(1)


class GeneralisedPooling(nn.Module):
  def __init__(self, size=32):
    super().__init__()
    self.gru = nn.GRU(size, size, batch_first=True, bidirectional=True)
    self.linear = nn.Linear(size, 1, bias=False)
    self.size = size
    for name, value in self.gru.named_parameters():
      if 'bias' in name:
        nn.init.zeros_(value)
      elif 'hh' in name:
        nn.init.orthogonal_(value)
      else:
        nn.init.xavier_uniform_(value)

  def forward(self, x):
    angles = torch.arange(x.shape[1])[:, None] * 10000.0 ** (
      -torch.arange(0, self.size, 2) / self.size
    )
    places = torch.stack([angles.sin(), angles.cos()], -1).flatten(1)
    states, _ = self.gru(places.expand(len(x), -1, -1))
    states = states.unflatten(-1, (2, -1)).mean(-2)
    weights = (self.linear(states) / 0.1).softmax(1)
    return (x.sort(dim=1, descending=True).values * weights).sum(1)


class VariationalSampler(nn.Module):
  def __init__(self, width):
    super().__init__()
    self.gpo = GeneralisedPooling()
    parts = lambda **more: nn.ModuleDict(
      {'attention': TokenPooling(width), 'fc': nn.Linear(width, width), **more}
    )
    self.pie_net_video = parts(layer_norm=nn.LayerNorm(width))
    self.uncertain_net_video = parts(fc2=nn.Linear(width, width))

  def forward(self, x):
    mean, variance = self.pie_net_video, self.uncertain_net_video
    pooled = self.gpo(x)
    gate = mean['fc'](mean['attention'](x)).sigmoid()
    mu = functional.normalize(mean['layer_norm'](pooled + gate), dim=-1)
    logvar = variance['fc'](variance['attention'](x)) + variance['fc2'](pooled)
    return mu, logvar


def swish_linear(width, *first):
  return nn.Sequential(*first, nn.SiLU(), nn.Linear(width, width))


class EstimatorLayer(nn.Module):
  def __init__(self, width):
    super().__init__()
    # The spelling is that of the released weights.
    self.blcok_in = swish_linear(width, nn.LayerNorm(width))
    self.blcok_out = nn.Sequential(
      nn.LayerNorm(width), nn.SiLU(), nn.Dropout(0.0), nn.Linear(width, width)
    )
    self.temb_proj, self.cond_proj = swish_linear(width), swish_linear(width)
    self.short_cut = nn.Linear(width, width)

  def forward(self, h, time_code, condition):
    u = self.blcok_in(h) + self.temb_proj(time_code)[:, None]
    return self.blcok_out(u + self.cond_proj(condition)) + self.short_cut(h)


class RegisterEstimator(nn.Module):
  """Estimates the noise in (B, K, D) registers at a step."""

  def __init__(self, width):
    super().__init__()
    table = nn.Embedding(DIFFUSION_STEPS, width).requires_grad_(False)
    code = swish_linear(width, table, nn.Linear(width, width))
    self.time_embedding = nn.ModuleDict({'timembedding': code})
    self.cond_embedding = nn.Sequential(
      nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, width)
    )
    self.layers = nn.ModuleList(EstimatorLayer(width) for _ in range(2))
    self.short_cut = nn.Linear(width, width)

  def forward(self, x, step, condition):
    time_code = self.time_embedding['timembedding'](torch.full((len(x),), step))
    condition = self.cond_embedding(condition)
    h = x
    for layer in self.layers:
      h = layer(h, time_code, condition)
    return self.short_cut(h + x)


def cosine_schedule():
  """Returns the coefficients of every diffusion step, as lists of floats."""
  places = torch.arange(DIFFUSION_STEPS + 1, dtype=torch.float64)
  angles = (places / DIFFUSION_STEPS + 0.008) / 1.008 * math.pi / 2
  kept = angles.cos() ** 2
  beta = (1 - kept[1:] / kept[:-1]).clamp(0, 0.999)
  total = (1 - beta).cumprod(0)
  before = torch.cat([torch.ones(1), total[:-1]])
  # This is zero at step 0.
  fresh = (beta * (1 - before) / (1 - total)).sqrt()
  return SimpleNamespace(
    signal=total.sqrt().tolist(),
    noise=(1 - total).sqrt().tolist(),
    inverse_noise=(1 / total - 1).sqrt().tolist(),
    clean=(beta * before.sqrt() / (1 - total)).tolist(),
    current=((1 - before) * (1 - beta).sqrt() / (1 - total)).tolist(),
    fresh=fresh.tolist(),
  )


class RegisterAugmentedEncoder(nn.Module):
  def __init__(self, length, width, registers, dropout):
    super().__init__()
    self.noise_input_layer = InputProjection(width, width, dropout)
    tables = [gaussian_table(s, length, registers) for s in SPREADS]
    block = lambda table: AttentionBlock(width, 4 * width, dropout, table)
    self.e_attns = nn.ModuleList(map(block, (None, *tables)))
    self.ca = AttentionBlock(width, width, dropout)
    self.layer1, self.layer2 = nn.Linear(width, width), nn.Linear(width, length)
    self.dropout = nn.Dropout(dropout)

  def forward(self, tokens, registers, mask):
    length = tokens.shape[1]
    x = torch.cat([tokens, self.noise_input_layer(registers)], 1)
    seen = x.new_zeros(len(x), x.shape[1], x.shape[1])
    seen[:, :, :length] = mask[:, None]
    seen[:, :length, length:] = 1
    outputs = [block(x, x, seen)[:, :length] for block in self.e_attns]
    stacked = torch.stack(outputs, 1)
    mean = stacked.mean((1, 2))[:, None]
    pooled = [self.ca(mean, output, mask[:, None]) for output in outputs]
    hidden = self.dropout(self.layer1(torch.cat(pooled, 1)).relu())
    weights = (self.layer2(hidden) / MIXTURE_TEMPERATURE).softmax(1)
    return (weights[..., None] * stacked).sum(1)


def best_match(queries, tokens):
  """Returns the largest product of a query with a video's tokens, (N, B)."""
  return torch.einsum('nd,bld->nbl', queries, tokens).max(-1).values


class DreamPRVR(nn.Module):
  def __init__(self, visual, text, width, clips, registers, dropout):
    super().__init__()
    for name, size, rows in (
      ('query', text, MAX_WORDS),
      ('clip', visual, MAX_FRAMES),
      ('frame', visual, MAX_FRAMES),
    ):
      projection = InputProjection(size, width, dropout)
      self.add_module(f'{name}_input_proj', projection)
      self.add_module(f'{name}_pos_embed', Position(rows, width, dropout))
    sizes = (width, registers, dropout)
    self.clip_encoder = RegisterAugmentedEncoder(clips, *sizes)
    self.frame_encoder = RegisterAugmentedEncoder(MAX_FRAMES, *sizes)
    self.query_encoder = AttentionBlock(width, 4 * width, dropout)
    self.modular_vector_mapping = nn.Linear(width, 1, bias=False)
    self.mean_clip_encoder = AttentionBlock(width, 4 * width, dropout)
    self.video_probabilistic_variational_sampler = VariationalSampler(width)
    self.video_qformer = RegisterQueries(width, registers, dropout)
    self.diffusion_mlp = RegisterEstimator(width)
    self.schedule = cosine_schedule()
    for module in self.modules():
      if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
      if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)

  def encode_query(self, words, mask):
    x = self.query_pos_embed(self.query_input_proj(words))
    x = self.query_encoder(x, x, mask[:, None])
    scores = self.modular_vector_mapping(x).squeeze(-1)
    weights = (scores * mask + (1 - mask) * -1e10).softmax(1)
    return (weights[..., None] * x).sum(1)

  def generate_registers(self, mu, condition):
    s = self.schedule
    x = start = mu[:, None].expand_as(condition)
    for t in reversed(range(DIFFUSION_STEPS)):
      noise = self.diffusion_mlp(x, t, condition)
      clean = (x / s.signal[t] - s.inverse_noise[t] * noise).clamp(-1, 1)
      x = s.clean[t] * clean + s.current[t] * x + s.fresh[t] * start
    return x

  def predict_noise(self, queries, mu, condition, draws):
    """Returns estimates at every step, (steps, videos, registers, width)."""
    with torch.no_grad():
      spread = 0.1 * queries.std(-1)[:, None, None]
      scale = 1 + spread * draws['perturb_alpha']
      shift = queries.mean(-1)[:, None, None] + spread * draws['perturb_beta']
    whitened = functional.layer_norm(queries, queries.shape[-1:])
    target, s = scale * whitened[:, None] + shift, self.schedule
    predicted = []
    for t in range(DIFFUSION_STEPS):
      noisy = s.signal[t] * target + s.noise[t] * mu[:, None]
      predicted.append(self.diffusion_mlp(noisy, t, condition))
    return torch.stack(predicted)

  def forward(self, batch, draws):
    clips, frames = batch['clip_video_features'], batch['frame_video_features']
    words, word_mask = batch['text_feat'], batch['text_mask']
    labels = batch['text_labels']
    short = MAX_FRAMES - frames.shape[1]
    frames = functional.pad(frames, (0, 0, 0, short))
    mask = functional.pad(batch['videos_mask'], (0, short))
    clips = self.clip_pos_embed(self.clip_input_proj(clips))
    context = self.mean_clip_encoder(clips, clips)
    condition = self.video_qformer(context)
    mu, logvar = self.video_probabilistic_variational_sampler(context)
    registers = self.generate_registers(mu, condition)
    clips = self.clip_encoder(clips, registers, clips.new_ones(clips.shape[:2]))
    frames = self.frame_pos_embed(self.frame_input_proj(frames))
    frames = self.frame_encoder(frames, registers, mask) * mask[..., None]

    queries = self.encode_query(words, word_mask)
    unit = functional.normalize(queries, dim=-1)
    tokens, scores, raw_scores = {'clip': clips, 'frame': frames}, {}, {}
    for name, values in tokens.items():
      scores[name] = best_match(unit, functional.normalize(values, dim=-1))
      raw_scores[name] = best_match(queries, values)

    # The queries are encoded a second time, with another dropout mask.
    queries = self.encode_query(words, word_mask)
    means = [queries[labels == video].mean(0) for video in range(len(clips))]
    mean_queries = torch.stack(means)
    predicted_noise = self.predict_noise(mean_queries, mu, condition, draws)
    return SimpleNamespace(
      tokens=tokens,
      scores=scores,
      raw_scores=raw_scores,
      registers=registers,
      queries=queries,
      mean_queries=mean_queries,
      mu=mu,
      logvar=logvar,
      predicted_noise=predicted_noise,
    )
