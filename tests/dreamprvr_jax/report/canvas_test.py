"""Tests of figures, their files, and text that fits them."""

import pytest

from dreamprvr_jax.report import canvas


def width(text, **look):
  figure = canvas.new_figure(1, 1)
  artist = figure.text(0, 0, text, **look)
  return artist.get_window_extent().width / figure.dpi


@pytest.mark.parametrize('text', ['i ' * 300, 'W ' * 300, 'W' * 300, 'a b'])
@pytest.mark.parametrize('room', [1.0, 3.0])
def test_wrapped_lines_fit(text, room):
  ruler = canvas.new_figure(1, 1)
  lines = canvas.wrap(ruler, text, room, 2, fontsize=12)
  assert 1 <= len(lines) <= 2
  assert all(width(line, fontsize=12) <= room for line in lines)
  assert (lines == ['a b']) == (text == 'a b')
  assert lines == ['a b'] or lines[-1].endswith('…')
  assert not ruler.texts


def test_no_lines_for_no_text():
  assert canvas.wrap(canvas.new_figure(1, 1), ' \n', 3.0, 2) == []


def test_shortened_names_keep_both_ends():
  ruler = canvas.new_figure(1, 1)
  name = 'first_' + 'x' * 100 + '_last'
  short = canvas.shorten(ruler, name, 2.0)
  assert short.startswith('first_')
  assert short.endswith('_last')
  assert '…' in short
  assert width(short) <= 2.0
  assert canvas.shorten(ruler, 'short', 2.0) == 'short'


def test_save_replaces_the_older_file(tmp_path):
  path = tmp_path / 'a.png'
  path.write_text('an older file')
  canvas.save(canvas.new_figure(1, 1), path)
  assert path.read_bytes().startswith(b'\x89PNG')
  assert list(tmp_path.iterdir()) == [path]


def test_failure_leaves_the_older_file(tmp_path, monkeypatch):
  path = tmp_path / 'a.png'
  path.write_text('an older file')

  def fail(*_):
    raise OSError('disk full')

  monkeypatch.setattr(canvas.os, 'replace', fail)
  with pytest.raises(OSError, match='disk full'):
    canvas.save(canvas.new_figure(1, 1), path)
  assert path.read_text() == 'an older file'
  assert list(tmp_path.iterdir()) == [path]
