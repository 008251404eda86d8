"""Joining the processes of one run: by flags, SLURM, Open MPI or a TPU pod.

Whether there are several is read from the environment alone: a process that
was started alone never waits for others.
"""

import contextlib
import dataclasses
import logging
import os
import re
import signal
import socket
import threading
import zlib
from collections.abc import Mapping
from typing import Any

from dreamprvr_jax.errors import UserError

_log = logging.getLogger(__name__)

# Seconds in which all processes of a run must have started.
TIMEOUT = 300
# JAX raises these if processes cannot be reached: RuntimeErrors of the network
# and of the cluster's metadata, ValueErrors for bad values in them.
_JOINING = (RuntimeError, ValueError, OSError)
# Ports that the system assigns to programs for a short time.
_FIRST_PORT, _PORTS = 61440, 4096


@dataclasses.dataclass(frozen=True)
class Launch:
  """How this process joins the others.

  Attributes:
    source: Where the numbers come from, for messages.
    count: Processes of the run. It and the next two are None on a TPU pod,
      where JAX reads the metadata.
    process: Number of this one, from 0.
    coordinator: HOST:PORT of process 0.
    gpus: Numbers of the visible GPUs that this process uses; None for all.
  """

  source: str
  count: int | None = None
  process: int | None = None
  coordinator: str | None = None
  gpus: tuple[int, ...] | None = None


def find_launch(
  environ: Mapping[str, str],
  coordinator: str = '',
  count: int = 0,
  process: int = -1,
) -> Launch | None:
  """Returns how to join, or None if this process is alone.

  Args:
    environ: The environment variables.
    coordinator: HOST:PORT of process 0; '': as the environment says.
    count: Processes of the run; 0: as the environment says, 1: alone.
    process: Number of this process; -1: as the environment says.

  Raises:
    UserError: If the flags are not enough or cannot be right.
  """
  if count == 1:
    return None
  if count:
    if not coordinator or not 0 <= process < count:
      raise UserError(
        f'--num_processes={count} needs --coordinator=HOST:PORT and a '
        f'--process_id from 0 to {count - 1}; found coordinator '
        f'{coordinator!r} and process {process}'
      )
    return Launch('flags', count, process, coordinator)
  # Open MPI first: inside a SLURM job its processes see SLURM's numbers, too.
  launch = _open_mpi(environ) or _slurm(environ) or _tpu_pod(environ)
  if process >= 0 or (coordinator and launch is None):
    raise UserError(
      '--coordinator and --process_id need --num_processes=N; without it '
      'SLURM, Open MPI or a TPU pod must have started the processes, and then '
      '--process_id is not given'
    )
  if launch is None:
    return None
  if coordinator:
    launch = dataclasses.replace(launch, coordinator=coordinator)
  elif launch.coordinator == '':
    raise UserError(
      f'{launch.source} started {launch.count} processes but does not say '
      'where process 0 runs; add --coordinator=HOST:PORT, the same for all'
    )
  return launch


def join(
  coordinator: str = '',
  count: int = 0,
  process: int = -1,
  timeout: float = TIMEOUT,
) -> None:
  """Joins this process to the others of its run, if there are any.

  Must come before the first use of a device.

  Args:
    coordinator: See `find_launch`.
    count: See `find_launch`.
    process: See `find_launch`.
    timeout: Seconds in which all must have started.

  Raises:
    UserError: If the flags or the environment cannot be right, or not all
      processes came in time.
  """
  launch = find_launch(os.environ, coordinator, count, process)
  if launch is None:
    return
  import jax

  if jax.distributed.is_initialized():
    return
  who = f'{launch.source}: this host'
  if launch.count is not None:
    _check_address(launch)
    who = (
      f'{launch.source}: process {launch.process} of {launch.count}, '
      f'coordinator {launch.coordinator}'
    )
  _log.info('%s; waits for the others at most %g s', who, timeout)
  problem = _initialize(_arguments(launch, timeout), timeout)
  if problem is not None:
    raise UserError(
      f'{who}, could not join the others ({problem}); start every process, '
      'with the same coordinator, whose port they must be able to reach, or '
      'run this one alone with --num_processes=1'
    )
  # JAX replaced Python's handler by its own, which only sets a flag.
  with contextlib.suppress(ValueError):
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
  if launch.count is None:
    _log.info(
      'process %d of %d of the TPU pod',
      jax.process_index(),
      jax.process_count(),
    )


def _arguments(launch: Launch, timeout: float) -> dict[str, Any]:
  """Returns the arguments of `jax.distributed.initialize`."""
  found: dict[str, Any] = {
    'coordinator_address': launch.coordinator,
    # JAX's own limit ends the process without a message, so it comes later.
    'initialization_timeout': int(timeout) + 60,
  }
  if launch.count is not None:
    found |= {
      'num_processes': launch.count,
      'process_id': launch.process,
      'local_device_ids': launch.gpus,
      # All is known: JAX's own detection would only hide GPUs.
      'cluster_detection_method': 'deactivate',
    }
  return found


def _initialize(arguments: dict[str, Any], timeout: float) -> str | None:
  """Joins the processes; returns why it failed, or None."""
  import jax

  failures: list[Exception] = []

  def initialize() -> None:
    try:
      jax.distributed.initialize(**arguments)
    except Exception as error:  # Raised or reported by the other thread.
      failures.append(error)

  # In a thread, so that this one can be stopped and can give up.
  thread = threading.Thread(target=initialize, daemon=True)
  thread.start()
  thread.join(timeout)
  if failures and not isinstance(failures[0], _JOINING):
    raise failures[0]
  if not thread.is_alive() and not failures:
    return None
  lines = str(failures[0]).strip().splitlines() if failures else []
  return lines[0] if lines else f'not all came within {timeout:g} s'


def _open_mpi(environ: Mapping[str, str]) -> Launch | None:
  """Returns the launch of mpirun; the coordinator is '' if it is unknown."""
  count = _number(environ, 'OMPI_COMM_WORLD_SIZE', 1)
  if count < 2:
    return None
  here = _number(environ, 'OMPI_COMM_WORLD_LOCAL_SIZE', 0)
  # Up to version 4 the address of mpirun, which starts process 0 beside it.
  uri = environ.get('OMPI_MCA_orte_hnp_uri', '')
  match = re.search(r'tcp6?://(?:\[([^],]+)|([^,:]+))', uri)
  host = ''
  if match:
    host = f'[{match[1]}]' if match[1] else match[2]
  elif here == count:
    host = 'localhost'
  job = uri or environ.get('PMIX_NAMESPACE', '')
  return Launch(
    'Open MPI',
    count,
    _number(environ, 'OMPI_COMM_WORLD_RANK'),
    f'{host}:{_port(job)}' if host else '',
    _gpus(environ, _number(environ, 'OMPI_COMM_WORLD_LOCAL_RANK'), here),
  )


def _slurm(environ: Mapping[str, str]) -> Launch | None:
  """Returns the launch of srun.

  The step counts, not the job: a batch script or a shell in an allocation is
  one process, however many tasks the job may start.
  """
  nodes = environ.get('SLURM_STEP_NODELIST')
  if not nodes or not {'SLURM_JOB_ID', 'SLURM_PROCID'} <= environ.keys():
    return None
  tasks = _number(environ, 'SLURM_NTASKS', 1)
  count = _number(environ, 'SLURM_STEP_NUM_TASKS', tasks)
  if count < 2:
    return None
  # 'gpu[03-05,9],big1': the first of the names.
  first = re.match(r'(?:[^,[]|\[[^]]*\])+', nodes)
  host = re.sub(r'\[(\w+)[^]]*\]', r'\1', first[0]) if first else nodes
  job = f'{environ["SLURM_JOB_ID"]}.{environ.get("SLURM_STEP_ID", "")}'
  # '2(x3),1': tasks of each node.
  here = [
    int(tasks)
    for tasks, times in re.findall(
      r'(\d+)(?:\(x(\d+)\))?', environ.get('SLURM_STEP_TASKS_PER_NODE', '')
    )
    for _ in range(int(times or 1))
  ]
  node = _number(environ, 'SLURM_NODEID', 0)
  return Launch(
    'SLURM',
    count,
    _number(environ, 'SLURM_PROCID'),
    f'{host}:{_port(job)}',
    _gpus(
      environ,
      _number(environ, 'SLURM_LOCALID', 0),
      here[node] if node < len(here) else 0,
    ),
  )


# Variables by which Colab and Kaggle are known.
_HOSTED_NOTEBOOKS = frozenset(('COLAB_RELEASE_TAG', 'KAGGLE_KERNEL_RUN_TYPE'))


def _tpu_pod(environ: Mapping[str, str]) -> Launch | None:
  """Returns a launch without numbers on a TPU host that may be one of
  several; JAX finds them."""
  if 'tpu' not in environ.get('JAX_PLATFORMS', 'tpu'):
    return None
  hosts = environ.get('TPU_PROCESS_ADDRESSES') or environ.get(
    'TPU_WORKER_HOSTNAMES'
  )
  slices = _number(environ, 'MEGASCALE_NUM_SLICES', 1)
  # Without a list of hosts: a TPU machine of Google Compute Engine, whose
  # metadata say. JAX, once imported, marks machines with TPU chips so; those
  # of hosted notebooks are machines by themselves.
  machine = (
    not hosts
    and _HOSTED_NOTEBOOKS.isdisjoint(environ)
    and environ.get('TPU_ML_PLATFORM') == 'JAX'
    and 'TPU_SKIP_MDS_QUERY' not in environ
  )
  if (hosts and ',' in hosts) or slices > 1 or machine:
    return Launch('TPU pod')
  return None


def _gpus(
  environ: Mapping[str, str], local: int, here: int
) -> tuple[int, ...] | None:
  """Returns the visible GPUs that a process uses; None for all.

  Processes that see the same GPUs share them evenly.

  Args:
    environ: The environment variables.
    local: Number of the process on its machine.
    here: Processes on its machine; 0 if unknown.
  """
  own = {'JAX_LOCAL_DEVICE_IDS', 'SLURM_GPUS_PER_TASK'} & environ.keys()
  if here == 1 or own:
    return None
  seen = environ.get('CUDA_VISIBLE_DEVICES')
  if seen is None or not here:
    return (local,)
  share = len(seen.split(',')) // here
  if not share:
    return None
  return tuple(range(local * share, (local + 1) * share))


def _number(
  environ: Mapping[str, str], name: str, default: int | None = None
) -> int:
  """Returns a variable as a number.

  Raises:
    UserError: If it is not one, or missing without a default.
  """
  text = environ.get(name)
  if text is None and default is not None:
    return default
  if text is None or not text.isdigit():
    raise UserError(
      f'the environment variable {name} is {text!r}, not a number, though '
      'others say that several processes were started; set it, or run this '
      'process alone with --num_processes=1'
    )
  return int(text)


def _port(job: str) -> int:
  """Returns a port that the processes of a job agree on."""
  return _FIRST_PORT + zlib.crc32(job.encode()) % _PORTS


def _check_address(launch: Launch) -> None:
  """Raises UserError if the coordinator's address cannot be right."""
  host, _, port = str(launch.coordinator).rpartition(':')
  if not host or not port.isdigit():
    raise UserError(
      f'the coordinator {launch.coordinator!r} is not HOST:PORT, for example '
      'node1:1234'
    )
  if launch.process == 0:
    try:
      socket.create_server(('', int(port))).close()
    except (OSError, OverflowError) as error:
      raise UserError(
        f'process 0 cannot listen on port {port} ({error}); give another one '
        'with --coordinator=HOST:PORT, the same for all processes'
      ) from error
