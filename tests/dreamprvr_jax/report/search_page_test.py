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


def test_files_are_played_from_where_they_are(tmp_path):
  inside = tmp_path / 'videos' / 'a b#1.mp4'
  outside = tmp_path.parent / 'caf\udce9.avi'
  hits = [
    hit(path=str(inside), thumbnail=b'jpeg', strength='strong'),
    hit(path=str(outside), others=['<copy>'], strength='none'),
    hit(thumbnail=b'jpeg'),
  ]
  write_page(found(hits=hits), tmp_path / 'page.html')
  text = (tmp_path / 'page.html').read_text()
  address = './videos/a%20b%231.mp4'
  assert f'src="{address}#t=5.00"' in text
  assert f'href="{address}#t=5.00,10.00"' in text
  assert 'poster="data:image/jpeg;base64,' in text
  assert f'src="file://{tmp_path.parent}/caf%E9.avi#t=5.00"' in text
  assert text.count('<video') == 2
  # A click on a timeline plays on from there.
  assert text.count('data-seconds="20.000"') == 2
  assert '<img src="data:image/jpeg;base64,' in text
  assert '<span class="strong">strong match</span>' in text
  assert 'none match' not in text
  assert 'copies: &lt;copy&gt;' in text


def test_nothing_fits():
  assert 'Nothing fits.' in page(found(hits=[]))


def test_a_page_needs_nothing_else_and_replaces_the_former(tmp_path):
  path = tmp_path / 'new' / 'page.html'
  write_page(found(), path)
  write_page(found(id='other'), path)
  text = path.read_text()
  assert 'other' in text
  for word in ('src=', 'href=', 'http'):
    assert word not in text
  assert [p.name for p in path.parent.iterdir()] == ['page.html']
