"""Peaks of a process whose allocations are known."""

import sys
import types

import jax
import numpy as np
import pytest

from mvjax import memory

MIB = 2**20


def test_a_peak_stays_when_memory_is_given_back():
  memory.reset_peak()
  before = memory.peak_bytes()
  held = np.ones(200 * MIB, np.uint8)
  del held
  assert 190 * MIB < memory.peak_bytes() - before < 400 * MIB


@pytest.mark.skipif(sys.platform != "linux", reason="cannot start anew")
def test_a_reset_forgets_what_was_given_back():
  held = np.ones(400 * MIB, np.uint8)
  del held
  peak = memory.peak_bytes()
  memory.reset_peak()
  assert memory.peak_bytes() < peak - 300 * MIB


def test_a_device_that_counts_is_asked(monkeypatch):
  devices = [
    types.SimpleNamespace(memory_stats=lambda n=n: {"peak_bytes_in_use": n})
    for n in (3, 7)
  ]
  monkeypatch.setattr(jax, "local_devices", lambda: devices)
  assert memory.peak_bytes() == 7
