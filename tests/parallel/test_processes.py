"""The start-up's checks; runs of several are in tests/training."""

import os
import pathlib
import subprocess
import sys
import threading
from unittest import mock

import jax
import pytest

from configs import base
from mvjax.parallel import processes

ROOT = pathlib.Path(__file__).parents[2]
PREEMPTION = "jax_enable_preemption_service"


def section(**fields):
  config = base.get_config().processes
  with config.unlocked():
    config.update(fields)
  return config


@pytest.mark.parametrize(
  "fields, message",
  [
    (dict(count=-1), "processes.count=-1"),
    (dict(count=2, index=2, coordinator="a:1"), "processes.index=2"),
    (dict(count=2), "processes.coordinator='': several"),
    (dict(timeout_seconds=0), "processes.timeout_seconds=0"),
  ],
  ids=str,
)
def test_wrong_fields_are_named(fields, message):
  with pytest.raises(ValueError, match=message):
    processes.start(section(**fields))


def test_one_process_needs_nothing():
  processes.start(section())
  assert not jax.distributed.is_initialized()
  assert processes.is_first() and processes.gathered(7) == [7]


@pytest.mark.parametrize(
  "environment, words",
  [
    ({"SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2"}, "tells of 2 proc"),
    ({"OMPI_COMM_WORLD_SIZE": "16"}, "tells of 16"),
    ({"TPU_WORKER_HOSTNAMES": "10.0.0.1,10.0.0.2,10.0.0.3"}, "tells of 3"),
  ],
  ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_one_of_many_does_not_start_alone(monkeypatch, environment, words):
  for name, value in environment.items():
    monkeypatch.setenv(name, value)
  with pytest.raises(ValueError, match=words) as error:
    processes.start(section())
  assert "--config.processes.count=0" in str(error.value)


def test_a_pod_that_the_environment_does_not_mention(monkeypatch):
  monkeypatch.setattr(jax, "process_count", lambda: 4)
  with pytest.raises(ValueError, match="the devices are those of 4 processes"):
    processes.start(section())


@pytest.mark.parametrize(
  "environment",
  [
    {"SLURM_NTASKS": "8"},  # the one shell of salloc, a batch script
    {"SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "1"},
    {"TPU_WORKER_HOSTNAMES": "localhost"},
  ],
  ids=str,
)
def test_one_process_in_a_cluster_is_alone(monkeypatch, environment):
  for name, value in environment.items():
    monkeypatch.setenv(name, value)
  processes.start(section())


@pytest.fixture
def preemption():
  """Switches jax's preemption service; restored afterwards."""
  before = jax.config.values[PREEMPTION]
  yield lambda value: jax.config.update(PREEMPTION, value)
  jax.config.update(PREEMPTION, before)


def test_a_start_that_fails_does_not_end_the_process_later(
  monkeypatch, preemption
):
  """The watchdog would, when its time has come."""
  preemption(False)
  watchdog = mock.Mock()
  monkeypatch.setattr(threading, "Timer", mock.Mock(return_value=watchdog))

  def fail(**_):
    raise RuntimeError("address in use")

  monkeypatch.setattr(jax.distributed, "initialize", fail)
  with pytest.raises(RuntimeError, match="address in use"):
    processes.start(section(count=2, coordinator="localhost:1"))
  watchdog.start.assert_called_once_with()
  watchdog.cancel.assert_called_once_with()


def test_the_preemption_service_must_be_off(preemption):
  preemption(True)
  with pytest.raises(ValueError, match="need it to be false"):
    processes.start(section(count=2, coordinator="localhost:1"))


def test_nobody_knows_how_many_there_are():
  """In a process of its own: jax must not have been used."""
  program = (
    "from configs import base\n"
    "from mvjax.parallel import processes\n"
    "config = base.get_config()\n"
    "config.processes.count = 0\n"
    "processes.start(config.processes)\n"
  )
  kept = ("PATH", "HOME", "PYTHONPATH")
  environment = {name: os.environ[name] for name in kept if name in os.environ}
  done = subprocess.run(
    [sys.executable, "-c", program],
    cwd=ROOT,
    env=environment | {"JAX_PLATFORMS": "cpu", PREEMPTION.upper(): "false"},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 1
  line = done.stderr.strip().splitlines()[-1]
  assert line.startswith("ValueError: processes.count=0: ")
  assert "--config.processes.count=1" in line and "srun" in line


@pytest.mark.parametrize("values", [[5, 5, 5], [5, 7, 5, 8]], ids=str)
def test_what_must_be_alike_is_compared(monkeypatch, values):
  monkeypatch.setattr(processes, "gathered", lambda _: values)
  if len(set(values)) == 1:
    processes.check_alike("config", "{}")
  else:
    with pytest.raises(ValueError, match="config: that of process 1, 3 is not"):
      processes.check_alike("config", "{}")
