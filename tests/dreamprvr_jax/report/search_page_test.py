"""The page of a search."""

import math
import xml.etree.ElementTree as ET

import pytest

from dreamprvr_jax.report.search_page import page, write_page


def hit(**changes):
  return {
    'rank': 1,
    'video': 'v1',
    'score': 0.5,
    'duration': 20.0,
    'moments': [
      {'span': [0.25, 0.5], 'start': 5.0, 'end': 10.0, 'score': 0.5},
      {'span': [0.75, 1.0], 'start': 15.0, 'end': 20.0, 'score': 0.3},
    ],
    'timeline': [0.1, 0.5, 0.2, 0.3],
    **changes,
  }


def found(**changes):
  query = {'id': 'q1', 'text': 'someone runs', 'hits': [hit()], **changes}
  return {'index': 'folder', 'videos': 7, 'queries': [query]}


def drawings(text):
  starts = text.split('<svg')[1:]
  return [
    ET.fromstring('<svg' + s.split('</svg>')[0] + '</svg>') for s in starts
  ]


def test_moments_and_line():
  text = page(found())
  (svg,) = drawings(text)
  first, second = svg.findall('rect')
  assert float(first.get('x')) == 160
  assert float(first.get('width')) == 160
  assert float(second.get('x')) == 480
  points = svg.find('polyline').get('points').split()
  assert len(points) == 4
  heights = [float(point.split(',')[1]) for point in points]
  # Larger scores are drawn higher, at smaller coordinates.
  assert heights.index(min(heights)) == 1
  assert '5.0 to 10.0 s (0.500)' in text
  assert '20.0 s' in text


def test_everything_is_escaped():
  evil = '<script>alert("&")</script>'
  text = page(
    found(id=evil, text=evil, hits=[hit(video=evil)]) | {'index': evil}
  )
  assert '<script' not in text
  assert text.count('&lt;script&gt;') == 4


@pytest.mark.parametrize('moment', [[4.0, 12.0], [math.nan, math.nan]])
def test_the_right_video(moment):
  query = {'right': {'video': 'v1', 'moment': moment}}
  text = page(found(**query))
  assert 'class="hit right"' in text
  rects = drawings(text)[0].findall('rect')
  assert len(rects) == (3 if moment[0] == 4.0 else 2)
  if moment[0] == 4.0:
    assert float(rects[-1].get('x')) == 128
    assert float(rects[-1].get('width')) == 256


def test_unknown_durations():
  moment = {'span': [0, 0.5], 'start': math.nan, 'end': math.nan, 'score': 0.1}
  text = page(found(hits=[hit(duration=math.nan, moments=[moment])]))
  assert '0.0 to 50.0 %' in text
  assert 'nan' not in text


def test_a_page_needs_nothing_else_and_replaces_the_former(tmp_path):
  path = tmp_path / 'new' / 'page.html'
  write_page(found(), path)
  write_page(found(id='other'), path)
  text = path.read_text()
  assert 'other' in text
  for word in ('src=', 'href=', 'http'):
    assert word not in text
  assert [p.name for p in path.parent.iterdir()] == ['page.html']
