"""Runs the whole notebook at a tiny size, in its own process."""

import copy
import json
import os
import shutil
import signal
import tempfile
import threading
import time

import nbclient
import nbformat
import pytest
from ipykernel.kernelspec import write_kernel_spec
from traitlets.config import Config

from tests.helpers import runs

PATH = runs.ROOT / 'notebooks' / 'dreamprvr.ipynb'
PICTURES = ('curves', 'timelines', 'attention', 'paths', 'search')
STEPS = 9  # 20 videos in batches of 8, three epochs


def notebook():
  return nbformat.read(PATH, as_version=4)


def text_of(cell):
  """Returns the printed text of a cell."""
  return ''.join(
    output.text for output in cell.outputs if output.output_type == 'stream'
  )


def find(client, part):
  """Returns the only code cell whose source contains `part`."""
  cells = [c for c in client.nb.cells if c.cell_type == 'code']
  (cell,) = [cell for cell in cells if part in cell.source]
  return cell


class Client(nbclient.NotebookClient):
  """Counts how often a cell's picture was replaced by a newer one."""

  updates = 0

  def process_message(self, msg, cell, cell_index):
    self.updates += msg['msg_type'] == 'update_display_data'
    return super().process_message(msg, cell, cell_index)


@pytest.fixture(scope='module')
def executed(tmp_path_factory):
  """(client, workdir, training cell when it was stopped) after all cells.

  The training cell is run twice: the first time it is interrupted, as by the
  stop button.
  """
  folder = tmp_path_factory.mktemp('notebook')
  work = folder / 'runs' / 'notebook' / 'small'
  write_kernel_spec(folder / 'kernels' / 'python3')
  # Ports may be taken by others, so sockets are used; their paths must be
  # short.
  sockets = tempfile.mkdtemp()
  config = Config()
  config.KernelManager.transport = 'ipc'
  config.KernelManager.ip = f'{sockets}/kernel'
  client = Client(
    notebook(),
    config=config,
    timeout=1200,
    kernel_name='python3',
    resources={'metadata': {'path': str(folder)}},
  )
  environment = os.environ | {
    'JAX_NUM_CPU_DEVICES': '1',
    'DREAMPRVR_NOTEBOOK_REPOSITORY': str(runs.ROOT),
    'DREAMPRVR_NOTEBOOK_SIZE': 'small',
    'IPYTHONDIR': str(folder / 'ipython'),
  }
  with pytest.MonkeyPatch.context() as patch:
    # The kernel is this Python, whatever kernels the user has.
    patch.setenv('JUPYTER_PATH', str(folder))
    with client.setup_kernel(env=environment):
      stopped = run_all(client, work)
  shutil.rmtree(sockets)
  return client, work, stopped


def run_all(client, work):
  """Runs all cells; returns the training cell as it was when stopped."""
  probe = nbformat.v4.new_code_cell('import os\nprint(os.getpid())')
  client.execute_cell(probe, 0)
  stopper = threading.Thread(
    target=interrupt, args=(int(text_of(probe)), work), daemon=True
  )
  stopped = None
  for index, cell in enumerate(client.nb.cells):
    if cell.cell_type == 'code':
      if 'with redrawn' in cell.source:
        stopper.start()
        client.execute_cell(cell, index)
        stopper.join()
        stopped = copy.deepcopy(cell)
      client.execute_cell(cell, index)
  return stopped


def interrupt(process, work):
  """Sends Ctrl-C to a process once a run has logged two steps."""
  deadline = time.monotonic() + 900
  while time.monotonic() < deadline:
    if len(runs.losses(work)) > 1:
      os.kill(process, signal.SIGINT)
      return
    time.sleep(0.02)


def test_the_committed_file_has_no_outputs():
  for cell in notebook().cells:
    if cell.cell_type == 'code':
      assert cell.outputs == []
      assert cell.execution_count is None
  assert set(json.loads(PATH.read_text())['metadata']) <= {
    'accelerator',
    'colab',
    'kernelspec',
    'language_info',
  }


def test_the_committed_file_is_a_notebook():
  nbformat.validate(notebook())


@pytest.mark.long
def test_an_interrupted_run_is_saved_and_continued(executed):
  client, work, stopped = executed
  assert 'stopped by SIGINT after step' in text_of(stopped)
  training = find(client, 'with redrawn')
  assert 'resuming at step' in text_of(training)
  assert 'all epochs done' in text_of(training)
  assert sorted(runs.losses(work)) == list(range(1, STEPS + 1))


@pytest.mark.long
def test_the_curves_follow_the_run(executed):
  client, _, stopped = executed
  for cell in (stopped, find(client, 'with redrawn')):
    (shown,) = [o for o in cell.outputs if o.output_type == 'display_data']
    assert 'image/png' in shown.data
  # The first run takes longer than the pause between two pictures, and the end
  # of each run has one.
  assert client.updates >= 3


@pytest.mark.long
def test_tables(executed):
  client, _, _ = executed
  assert 'captions_per_video' in text_of(find(client, '--mode=prepare'))
  assert ' s   ' in text_of(find(client, 'open_corpus('))
  table = text_of(find(client, '--mode=evaluate'))
  for row in ('clip branch', 'frame branch', 'fused', 'moment/video in (0,'):
    assert row in table


@pytest.mark.long
def test_pictures(executed):
  client, work, _ = executed
  for name in PICTURES:
    assert (work / f'{name}.png').read_bytes().startswith(b'\x89PNG')
    if name != 'curves':
      cell = find(client, f"picture('{name}.png')")
      assert 'image/png' in cell.outputs[-1].data


@pytest.mark.long
def test_export(executed):
  client, work, _ = executed
  exported = work.with_name('small_export')
  assert (exported / 'weights.safetensors').exists()
  assert '(2, 16) float32' in text_of(find(client, 'load(EXPORT)'))


@pytest.mark.long
def test_versions_stay(executed):
  client, _, _ = executed
  lines = text_of(find(client, 'constraints')).splitlines()
  assert len(lines) == 5
  for line in lines:
    _, version, _, before = line.split()
    assert version == before
