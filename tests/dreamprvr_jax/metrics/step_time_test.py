"""The time of a step from a log."""

from dreamprvr_jax.metrics.step_time import median_step


def log(clock, log_every, epochs=2, length=6):
  """Returns the rows of a run whose step `s` takes clock(s) seconds."""
  rows = []
  for epoch in range(epochs):
    spent = 0.0
    for i in range(1, length + 1):
      step = epoch * length + i
      spent += clock(step)
      if step % log_every == 0 or i == length:
        rows.append(
          {
            'kind': 'train',
            'step': step,
            'epoch': epoch + 1,
            'seconds_per_step': spent / i,
          }
        )
    rows.append({'kind': 'eval', 'step': (epoch + 1) * length})
    rows[-1]['epoch'] = epoch + 1
  return rows


def test_the_step_that_compiles_is_left_out():
  clock = lambda step: 100.0 if step == 1 else 0.5
  assert abs(median_step(log(clock, 2)) - 0.5) < 1e-9
  assert abs(median_step(log(clock, 2, epochs=1)) - 0.5) < 1e-9


def test_one_row_an_epoch():
  clock = lambda step: 100.0 if step == 1 else 0.25
  assert median_step(log(clock, 100)) == 0.25
  assert median_step(log(clock, 100, epochs=1)) is None


def test_too_little():
  assert median_step([]) is None
  assert median_step(log(lambda _: 1.0, 1)[:1]) is None
