"""Peaks of a process whose allocations are known."""

import subprocess
import sys
import types

import jax
import numpy as np
import pytest

from mvjax import memory

MIB = 2**20


def peaks(program):
  """What a program prints, in a process of its own: others give back memory."""
  done = subprocess.run(
    [sys.executable, "-c", program], capture_output=True, text=True, check=True
  )
  return [int(word) for word in done.stdout.split()]


def test_a_peak_stays_when_memory_is_given_back():
  before, after = peaks("""
import numpy as np
from mvjax import memory
memory.peak_bytes()  # the devices take memory when they are first asked
memory.reset_peak()
print(memory.peak_bytes())
np.ones(200 * 2**20, np.uint8)
print(memory.peak_bytes())
""")
  assert 150 * MIB < after - before < 300 * MIB


@pytest.mark.skipif(sys.platform != "linux", reason="cannot start anew")
def test_a_reset_forgets_what_was_given_back():
  before, after = peaks("""
import numpy as np
from mvjax import memory
memory.peak_bytes()
np.ones(400 * 2**20, np.uint8)
print(memory.peak_bytes())
memory.reset_peak()
print(memory.peak_bytes())
""")
  assert after < before - 300 * MIB


@pytest.mark.skipif(sys.platform != "linux", reason="cannot start anew")
def test_the_peak_of_a_parent_is_not_a_child_s():
  held = np.ones(2**30, np.uint8)
  (own,) = peaks("from mvjax import memory; print(memory.peak_bytes())")
  assert own < held.nbytes


def test_a_device_that_counts_is_asked(monkeypatch):
  devices = [
    types.SimpleNamespace(memory_stats=lambda n=n: {"peak_bytes_in_use": n})
    for n in (3, 7)
  ]
  monkeypatch.setattr(jax, "local_devices", lambda: devices)
  assert memory.peak_bytes() == 7
