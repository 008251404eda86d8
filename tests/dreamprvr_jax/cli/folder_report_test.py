"""Sentences about folders."""

import collections
import math

from dreamprvr_jax.archive.folder.memory import Unreadable
from dreamprvr_jax.archive.folder.sources import Source, Stamp
from dreamprvr_jax.cli import folder_report


def test_sizes_and_lengths_have_fitting_units():
  assert folder_report.size(0) == '0 bytes'
  assert folder_report.size(2048) == '2.0 KiB'
  assert folder_report.size(300 << 20) == '300 MiB'
  assert folder_report.size(5 << 50) == '5,120 TiB'
  assert folder_report.length(42.4) == '42 s'
  assert folder_report.length(600) == '10 min'
  assert folder_report.length(7200) == '2.0 h'
  assert folder_report.length(math.nan) == ''


def test_tables_are_short():
  bad = [Unreadable(f'/v/{i:02}.mp4', Stamp(1, 1), 'is bad') for i in range(23)]
  lines = folder_report.table(bad).splitlines()
  assert lines[1] == '  /v/00.mp4  is bad'
  assert lines[-1].startswith('  and 3 more')
  assert len(folder_report.table(bad, most=None).splitlines()) == 24


def test_what_is_passed_over():
  assert not folder_report.passed(collections.Counter())
  assert folder_report.passed(
    collections.Counter({'.mp3': 1, '.jpg': 1200})
  ) == ('passed over, since these are no videos: 1,200 .jpg, 1 .mp3')


def test_folders_that_are_gone_are_named_once(tmp_path):
  paths = ['trip/a.mp4', 'trip/deep/b.mp4', 'c.mp4']
  sources = [
    Source(name, str(tmp_path / name), str(tmp_path), Stamp(1, 1), '')
    for name in paths
  ]
  assert folder_report.gone(sources) == [
    f'{tmp_path / "trip"} is no longer there; its 2 videos are taken out of '
    'the index'
  ]
  many = [
    Source(str(i), str(tmp_path / str(i) / 'v'), '', Stamp(1, 1), '')
    for i in range(23)
  ]
  lines = folder_report.gone(many)
  assert len(lines) == 21
  assert lines[-1] == 'as are those of 3 more folders'
