"""Whether and how a process joins others, by its environment."""

import os
import socket
import subprocess
import sys
import time

import pytest

from dreamprvr_jax.devices.processes import Launch, find_launch, join
from dreamprvr_jax.errors import UserError
from tests.helpers import runs

STEP = {
  'SLURM_JOB_ID': '77',
  'SLURM_STEP_ID': '0',
  'SLURM_STEP_NODELIST': 'gpu[07-08]',
  'SLURM_STEP_NUM_TASKS': '4',
  'SLURM_STEP_TASKS_PER_NODE': '2(x2)',
  'SLURM_NTASKS': '4',
  'SLURM_PROCID': '3',
  'SLURM_NODEID': '1',
  'SLURM_LOCALID': '1',
}
MPIRUN = {
  'OMPI_COMM_WORLD_SIZE': '4',
  'OMPI_COMM_WORLD_RANK': '2',
  'OMPI_COMM_WORLD_LOCAL_RANK': '0',
  'OMPI_COMM_WORLD_LOCAL_SIZE': '2',
  'OMPI_MCA_orte_hnp_uri': '1531576320.0;tcp://10.96.0.1,10.148.0.1:34911',
}
HOSTS = {'TPU_WORKER_HOSTNAMES': 't0,t1', 'TPU_WORKER_ID': '1'}


@pytest.mark.parametrize(
  'environ',
  [
    {},
    # A batch script has the tasks of the job, but no step.
    {'SLURM_JOB_ID': '77', 'SLURM_NTASKS': '4', 'SLURM_PROCID': '0'},
    # A shell in an allocation of four tasks is a step of one.
    {**STEP, 'SLURM_STEP_NUM_TASKS': '1', 'SLURM_PROCID': '0'},
    # This is an editor's terminal on a node of a job.
    {'SLURM_JOB_ID': '77', 'SLURM_STEP_NODELIST': 'gpu07'},
    {'OMPI_COMM_WORLD_SIZE': '1', 'OMPI_COMM_WORLD_RANK': '0'},
    {'TPU_WORKER_HOSTNAMES': 'localhost', 'TPU_WORKER_ID': '0'},
    {'TPU_SKIP_MDS_QUERY': '1', 'TPU_ML_PLATFORM': 'JAX'},
    # This is a Colab notebook with a TPU.
    {'COLAB_RELEASE_TAG': 'release', 'TPU_ML_PLATFORM': 'JAX'},
    {**HOSTS, 'JAX_PLATFORMS': 'cpu'},
  ],
)
def test_a_process_that_was_started_alone(environ):
  assert find_launch(environ) is None


def test_a_step_of_slurm():
  launch = find_launch(STEP)
  assert launch is not None
  assert (launch.source, launch.count, launch.process) == ('SLURM', 4, 3)
  host, _, port = str(launch.coordinator).partition(':')
  assert host == 'gpu07'
  assert 61440 <= int(port) < 65536
  # All processes of a step agree; another step takes another port.
  other = find_launch({**STEP, 'SLURM_PROCID': '0', 'SLURM_LOCALID': '0'})
  assert other is not None
  assert other.coordinator == launch.coordinator
  second = find_launch({**STEP, 'SLURM_STEP_ID': '1'})
  assert second is not None
  assert second.coordinator != launch.coordinator


@pytest.mark.parametrize(
  ('nodes', 'first'),
  [
    ('node001', 'node001'),
    ('node001,host2', 'node001'),
    ('node[001-015],host2', 'node001'),
    ('node[001,007-015],host2', 'node001'),
    ('rack[2-3]n[10,12]-ib,x', 'rack2n10-ib'),
  ],
)
def test_first_node_of_a_list(nodes, first):
  launch = find_launch({**STEP, 'SLURM_STEP_NODELIST': nodes})
  assert launch is not None
  assert str(launch.coordinator).startswith(f'{first}:')


@pytest.mark.parametrize(
  ('change', 'gpus'),
  [
    # One process per node drives all its GPUs.
    ({'SLURM_STEP_TASKS_PER_NODE': '1(x4)'}, None),
    # All processes see the node's four GPUs, or the GPU numbers are unknown.
    ({'CUDA_VISIBLE_DEVICES': '0,1,2,3'}, (2, 3)),
    ({}, (1,)),
    # Each process sees its own GPUs.
    ({'CUDA_VISIBLE_DEVICES': '1'}, None),
    ({'CUDA_VISIBLE_DEVICES': '0,1', 'SLURM_GPUS_PER_TASK': '2'}, None),
  ],
)
def test_processes_of_a_node_share_its_gpus(change, gpus):
  launch = find_launch({**STEP, **change})
  assert launch is not None
  assert launch.gpus == gpus


def test_mpirun():
  # mpirun's own processes run in a step of SLURM, with one task per node.
  launch = find_launch({**STEP, 'SLURM_STEP_NUM_TASKS': '2', **MPIRUN})
  assert launch is not None
  assert (launch.source, launch.count, launch.process) == ('Open MPI', 4, 2)
  assert str(launch.coordinator).startswith('10.96.0.1:')
  six = {'OMPI_MCA_orte_hnp_uri': '13.0;tcp6://[fe80::b9b,2620:10d::2]:43370'}
  launch = find_launch({**MPIRUN, **six})
  assert launch is not None
  assert str(launch.coordinator).startswith('[fe80::b9b]:')


def test_mpirun_that_does_not_say_where_it_runs():
  environ = {k: v for k, v in MPIRUN.items() if 'uri' not in k}
  with pytest.raises(UserError, match='add --coordinator=HOST:PORT'):
    find_launch(environ)
  launch = find_launch(environ, coordinator='a:1')
  assert launch == Launch('Open MPI', 4, 2, 'a:1', (0,))
  alone = find_launch({**environ, 'OMPI_COMM_WORLD_LOCAL_SIZE': '4'})
  assert alone is not None
  assert str(alone.coordinator).startswith('localhost:')


@pytest.mark.parametrize(
  'environ',
  [
    HOSTS,
    {**HOSTS, 'JAX_PLATFORMS': 'tpu,cpu'},
    {'TPU_PROCESS_ADDRESSES': 'a:1,b:1'},
    {'TPU_WORKER_HOSTNAMES': 't0', 'MEGASCALE_NUM_SLICES': '2'},
    {'TPU_ML_PLATFORM': 'JAX'},
  ],
)
def test_tpu_pods(environ):
  assert find_launch(environ) == Launch('TPU pod')


def test_flags_come_before_the_environment():
  assert find_launch(STEP, count=1) is None
  assert find_launch(STEP, 'a:1', 2, 0) == Launch('flags', 2, 0, 'a:1')
  launch = find_launch(STEP, coordinator='a:1')
  assert launch is not None
  assert (launch.source, launch.coordinator) == ('SLURM', 'a:1')


@pytest.mark.parametrize(
  ('environ', 'flags', 'sentence'),
  [
    ({}, ('', 2, 0), 'needs --coordinator=HOST:PORT'),
    ({}, ('a:1', 2, -1), '--process_id from 0 to 1'),
    ({}, ('a:1', 2, 2), 'found coordinator .* process 2'),
    ({}, ('a:1', 0, -1), 'need --num_processes=N'),
    (STEP, ('', 0, 1), 'need --num_processes=N'),
    ({**STEP, 'SLURM_PROCID': 'x'}, ('', 0, -1), "SLURM_PROCID is 'x'"),
  ],
)
def test_what_cannot_be_right(environ, flags, sentence):
  with pytest.raises(UserError, match=sentence):
    find_launch(environ, *flags)


@pytest.mark.parametrize(
  ('error', 'told'),
  [
    (RuntimeError('no answer\nmore'), UserError),
    (ValueError('of metadata'), UserError),
    (AttributeError('a mistake'), AttributeError),
  ],
)
def test_only_what_jax_raises_is_told_as_a_sentence(monkeypatch, error, told):
  def fail(**_):
    raise error

  monkeypatch.setattr('jax.distributed.is_initialized', lambda: False)
  monkeypatch.setattr('jax.distributed.initialize', fail)
  with pytest.raises(told, match=str(error).splitlines()[0]):
    join('localhost:1', 2, 1)


def free_port():
  with socket.socket() as free:
    free.bind(('localhost', 0))
    return free.getsockname()[1]


def start(code, environ=None):
  """Starts Python code that finds `processes` imported."""
  return subprocess.Popen(
    [
      sys.executable,
      '-c',
      'import logging, os, signal\n'
      'logging.basicConfig(format="%(message)s")\n'
      'logging.getLogger("dreamprvr_jax").setLevel(logging.INFO)\n'
      f'from dreamprvr_jax.devices import processes\n{code}',
    ],
    cwd=runs.ROOT,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu', **(environ or {})},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def test_two_tasks_of_a_step_join_and_can_be_stopped():
  code = """
import jax, numpy as np
from dreamprvr_jax.devices.gathering import gather
def stop(*_): raise KeyboardInterrupt
signal.signal(signal.SIGTERM, stop)
processes.join()
processes.join()
here = np.asarray([jax.process_index() + 1])
total = int(gather(here).sum())
try:
  os.kill(os.getpid(), signal.SIGTERM)
except KeyboardInterrupt:
  print(f'{jax.process_count()} processes, sum {total}, stopped')
"""
  job = {
    'SLURM_JOB_ID': str(os.getpid()),
    'SLURM_STEP_NODELIST': 'localhost',
    'SLURM_NTASKS': '2',
  }
  tasks = [
    start(code, {**job, 'SLURM_PROCID': str(i), 'SLURM_LOCALID': str(i)})
    for i in range(2)
  ]
  for i, task in enumerate(tasks):
    status, out, err = runs.finish(task, 120)
    assert status == 0, err
    assert '2 processes, sum 3, stopped' in out
    assert f'SLURM: process {i} of 2, coordinator localhost:' in err


@pytest.mark.parametrize('process', [0, 1])
def test_others_that_do_not_come(process):
  port = free_port()
  began = time.monotonic()
  code, _, err = runs.finish(
    start(
      f"processes.join('localhost:{port}', 2, {process}, timeout=2)",
    ),
    60,
  )
  assert code == 1
  assert time.monotonic() - began < 50
  assert (
    f'UserError: flags: process {process} of 2, coordinator localhost:{port}, '
    'could not join the others (not all came within 2 s)'
  ) in err


def test_port_that_is_taken():
  with socket.create_server(('', 0)) as taken:
    port = taken.getsockname()[1]
    code, _, err = runs.finish(
      start(f"processes.join('localhost:{port}', 2, 0)"), 60
    )
  assert code == 1
  assert f'process 0 cannot listen on port {port}' in err


def test_address_without_a_port():
  code, _, err = runs.finish(start("processes.join('here', 2, 0)"), 60)
  assert code == 1
  assert "the coordinator 'here' is not HOST:PORT" in err
