"""Peaks by kind of device, and the compiler's count of operations."""

import jax
import jax.numpy as jnp
import pytest

from mvjax.parallel import peaks


@pytest.mark.parametrize(
  "kind, flops",
  [
    ("TPU v5 lite", 197e12),
    ("TPU v5", 459e12),
    ("TPU v5p", 459e12),
    ("TPU v6 lite", 918e12),
    ("NVIDIA H100 80GB HBM3", 989e12),
    ("NVIDIA H100 PCIe", 756e12),
    ("cpu", None),
  ],
)
def test_peaks(kind, flops):
  assert peaks.peak_flops(kind) == flops


def test_operations_of_a_matrix_product():
  compiled = jax.jit(jnp.matmul).lower(jnp.ones((64, 32)), jnp.ones((32, 16)))
  found = peaks.program_flops(compiled.compile())
  assert found == pytest.approx(2 * 64 * 32 * 16, rel=0.05)


def test_cpus_tell_no_memory():
  assert peaks.memory_gib() is None
