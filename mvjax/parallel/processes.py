"""Several processes as one: start-up, and what must be decided alike in all.

Every process runs the same program on the same config and holds a part of each
array. One that branches differently leaves the others waiting in a collective
for ever, so clocks and signals are never consulted by each one alone.
"""

import contextlib
import hashlib
import os
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.experimental import multihost_utils

# Exit codes: of a start-up that some process did not join in time, and of a run
# that has lost one.
TIMED_OUT, LOST = 3, 5
# In the words of collectives and of jax's coordination service.
_LOSS = re.compile(
  "gloo|nccl|heartbeat|coordination.?service|connection (reset|closed)", re.I
)

# What tells a process how many were started with it. SLURM_NTASKS does not: it
# is also set in the one shell of `salloc` and in a batch script.
_TASKS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")


def problems(section: ml_collections.ConfigDict) -> list[str]:
  """What is wrong with the config's `processes` section, by field."""
  rules = {
    f"processes.count={section.count}: 1, more, or 0 for what SLURM or the TPU "
    "pod says": section.count >= 0,
    f"processes.index={section.index}: must be from 0 to processes.count - 1": (
      section.count < 1 or 0 <= section.index < section.count
    ),
    "processes.coordinator='': several processes need HOST:PORT of process 0": (
      section.count < 2 or ":" in section.coordinator
    ),
    f"processes.timeout_seconds={section.timeout_seconds}: must be positive": (
      section.timeout_seconds > 0
    ),
  }
  return [problem for problem, holds in rules.items() if not holds]


def start(section: ml_collections.ConfigDict) -> None:
  """Joins the other processes; to be called before anything else uses jax.

  If they have not all come in time, prints one line about it and ends the
  process: nothing is ever computed by some of them alone.

  Raises:
    ValueError: the section is wrong, or it says that this process is alone
      and the environment says that it is not, or leaves their number to an
      environment that does not say it; or jax's preemption service is on.
  """
  if found := problems(section):
    raise ValueError("; ".join(found))
  if jax.distributed.is_initialized():
    return
  if section.count == 1:
    _check_alone()
    return
  if jax.config.values["jax_enable_preemption_service"]:
    # Orbax asks it about old steps, from its own threads, which makes
    # processes end at different steps; `training.stopping` does without it.
    raise ValueError(
      "JAX_ENABLE_PREEMPTION_SERVICE: several processes need it to be false, "
      "set before jax is imported; launch.py does so"
    )
  limit = section.timeout_seconds
  who = "all" if section.count == 0 else f"all {section.count}"
  where = section.coordinator or "the coordinator that the environment names"
  message = (
    f"error: {who} processes did not meet at {where} within {limit} s; start "
    "each with its own processes.index and the same processes.coordinator, a "
    "free port of process 0's host that the others can reach"
  )
  # jax ends the process by itself, but with a stack trace and no remedy.
  watchdog = threading.Timer(limit, _give_up, [message, TIMED_OUT])
  watchdog.daemon = True
  watchdog.start()
  explicit = dict(
    coordinator_address=section.coordinator,
    num_processes=section.count,
    process_id=section.index,
  )
  try:
    jax.distributed.initialize(
      **(explicit if section.count else {}),
      initialization_timeout=limit + 30,
      heartbeat_timeout_seconds=limit,
    )
  except ValueError as error:
    if section.count:
      raise
    raise ValueError(
      f"processes.count=0: nothing here tells how many there are ({error}); "
      "set --config.processes.count=1, or start with srun or on a TPU pod"
    ) from error
  finally:
    watchdog.cancel()


@contextlib.contextmanager
def ends_if_one_is_lost() -> Iterator[None]:
  """Ends this process, with one line, when another one of the run is gone.

  To be told, it must wait for the others in a collective or a barrier. It ends
  at once: all that would end in order waits for the lost one too.

  jax may be quicker where the lost one is process 0, which all are connected
  to, and where a collective does not notice (TPUs): after
  `processes.timeout_seconds` without a sign of life it aborts the process with
  a stack of C++. No option of jax 0.10 or 0.12 changes that: the callback that
  they take is called with a type that Python has not. 2026-11-30
  """
  try:
    yield
  except (ValueError, RuntimeError, TimeoutError) as error:
    if jax.process_count() == 1 or not _LOSS.search(str(error)):
      raise
    _give_up(
      "error: another process of this run is gone, see what it said; start all "
      "of them again with the same command, which goes on where it can",
      LOST,
    )


def is_first() -> bool:
  """Whether this is the process that writes files and prints."""
  return jax.process_index() == 0


def gathered(value: int) -> list[int]:
  """The values of all processes, in all of them; waits for their devices."""
  if jax.process_count() == 1:
    return [value]
  return multihost_utils.process_allgather(np.int32(value)).tolist()


def check_alike(what: str, value: str) -> None:
  """Checks that all processes have the same text.

  Args:
    what: names it.
    value: of this process.

  Raises:
    ValueError: in all processes, with the numbers of those that differ.
  """
  digest = hashlib.sha256(value.encode()).digest()
  # 31 bits, which `gathered` can hold.
  values = gathered(int.from_bytes(digest[:4], "big") >> 1)
  if others := [i for i, found in enumerate(values) if found != values[0]]:
    raise ValueError(
      f"{what}: that of process {', '.join(map(str, others))} is not that of "
      "process 0; start all processes with the same code, command and data"
    )


def share(items: Sequence[Any]) -> Sequence[Any]:
  """Those of some pieces of work that are this process's."""
  return items[jax.process_index() :: jax.process_count()]


def meet(where: str) -> None:
  """Waits until all processes are there."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(where)


def _check_alone() -> None:
  """Checks that nothing started other processes beside this one."""
  counts = {name: os.environ.get(name, "") for name in _TASKS}
  hosts = os.environ.get("TPU_WORKER_HOSTNAMES", "").split(",")
  counts["TPU_WORKER_HOSTNAMES"] = str(len(hosts))
  found = [
    f"{name} tells of {count}"
    for name, count in counts.items()
    if count.isdigit() and int(count) > 1
  ]
  # A TPU pod may know it from its metadata alone.
  if not found and jax.process_count() > 1:
    found = [f"the devices are those of {jax.process_count()}"]
  if found:
    raise ValueError(
      f"processes.count=1, but {found[0]} processes: each would do all the "
      "work and write the same files; set --config.processes.count=0, or "
      "start one task"
    )


def _give_up(message: str, code: int) -> None:
  sys.stdout.flush()
  print(message, file=sys.stderr, flush=True)
  os._exit(code)
