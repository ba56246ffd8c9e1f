"""How fast devices are at best."""

from collections.abc import Mapping

# Peak of dense bf16 matrix products, FLOP/s, by the start of `device_kind`;
# the makers' data sheets. The first that matches.
BF16_FLOPS: Mapping[str, float] = {
  "TPU v4": 275e12,
  "TPU v5 lite": 197e12,
  "TPU v5e": 197e12,
  "TPU v5": 459e12,
  "TPU v6 lite": 918e12,
  "TPU v6e": 918e12,
  "NVIDIA A100": 312e12,
  "NVIDIA H100 PCIe": 756e12,
  "NVIDIA H100": 989e12,
  "NVIDIA H200": 989e12,
  "NVIDIA B200": 2250e12,
}


def peak_flops(device_kind: str) -> float | None:
  """Peak of a kind of device, or None if it is not known, as on CPUs."""
  for start, flops in BF16_FLOPS.items():
    if device_kind.startswith(start):
      return flops
  return None
