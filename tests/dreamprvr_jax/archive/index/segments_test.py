"""New segments reach the disk before the manifest that names them."""

from dreamprvr_jax.archive.index import writer
from dreamprvr_jax.archive.index.compaction import compact, remove
from tests.helpers.power_cuts import Order
from tests.helpers.searching import made, retriever, videos_of


def test_what_a_power_cut_leaves(tmp_path, monkeypatch):
  data, root, plain = made(6, 1), tmp_path / 'new' / 'index', retriever()
  order = Order(monkeypatch)
  order.check(
    root, lambda: writer.create(root, plain, videos_of(data, [0, 1, 2]))
  )
  order.check(
    root, lambda: writer.append(root, plain, videos_of(data, [3, 4, 5]))
  )
  order.check(root, lambda: remove(root, ['v1']))
  assert order.check(root, lambda: compact(root)) == 2
