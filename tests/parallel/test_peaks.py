"""Peaks by kind of device."""

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
