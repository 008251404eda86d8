"""The order in which names and files reach a disk, for a power cut.

A file system may keep what was written later and lose what was written before,
unless a sync lies between.
"""

import os
import pathlib

from dreamprvr_jax.archive.index.manifest import MANIFEST, Manifest


class Order:
  """The syncs, switches of a manifest, and removals of folders, as they come.

  Attributes:
    events: Pairs of what was done and the inode, or the name of what is new.
  """

  def __init__(self, monkeypatch):
    self.events = []
    sync, replace, rmdir = os.fsync, pathlib.Path.replace, pathlib.Path.rmdir

    def synced(descriptor):
      self.events.append(('synced', os.fstat(descriptor).st_ino))
      sync(descriptor)

    def switched(path, target):
      self.events.append(('switched', pathlib.Path(target).name))
      return replace(path, target)

    def removed(path):
      self.events.append(('removed', path.stat().st_ino))
      rmdir(path)

    monkeypatch.setattr(os, 'fsync', synced)
    monkeypatch.setattr(pathlib.Path, 'replace', switched)
    monkeypatch.setattr(pathlib.Path, 'rmdir', removed)

  def check(self, root, change):
    """Makes a change of an index; asserts that a power cut at any time leaves
    it as before or as after. Returns how many folders were removed after.

    Args:
      root: The index, which may not exist yet.
      change: Called without arguments; it has to write a manifest, once.
    """
    former = Manifest.read(root).files if (root / MANIFEST).exists() else {}
    self.events.clear()
    change()
    switches = [
      i for i, x in enumerate(self.events) if x == ('switched', MANIFEST)
    ]
    assert len(switches) == 1
    before, after = self.events[: switches[0]], self.events[switches[0] + 1 :]
    new = [root / name for name in set(Manifest.read(root).files) - set(former)]
    needed = [path for folder in new for path in (folder, *folder.iterdir())]
    needed += [path for folder in new for path in (folder.parent, root)]
    if not former:
      needed.append(root.parent)
    for path in needed:
      assert ('synced', path.stat().st_ino) in before, path
    # The new manifest is on the disk before anything of the former one goes.
    assert after[0] == ('synced', root.stat().st_ino)
    assert not [x for x in before if x[0] == 'removed']
    return len([x for x in after if x[0] == 'removed'])
