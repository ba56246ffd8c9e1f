"""TPU chips and topologies, as the compiler in libtpu knows them."""

import dataclasses
import importlib.util
from collections.abc import Mapping
from typing import Any

from mvjax.parallel import peaks


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
  """One TPU chip; a topology has one device for each.

  Attributes:
    flops: peak of bf16 matrix products, 1/s.
    hbm_bytes: what the compiler lets a program use, below the nominal size.
    hbm_bandwidth: bytes/s.
    ici_bandwidth: bytes/s that all links of a chip send together.
    cycles_per_second: of the compiler's estimates: peak over the FLOPs in a
      cycle of its matrix units.
    shapes: topologies that Google offers, not all of them.
  """

  flops: float
  hbm_bytes: int
  hbm_bandwidth: float
  ici_bandwidth: float
  cycles_per_second: float
  shapes: tuple[str, ...]


_GIB = 2**30
# Bandwidths: cloud.google.com/tpu/docs, 2026. hbm_bytes: the limit
# in the compiler's out-of-memory message (libtpu 0.0.42.1).
CHIPS: Mapping[str, Chip] = {
  "v5e": Chip(
    flops=peaks.BF16_FLOPS["TPU v5 lite"],
    hbm_bytes=int(15.75 * _GIB),
    hbm_bandwidth=819e9,
    ici_bandwidth=200e9,
    cycles_per_second=1.5e9,
    shapes=("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
  ),
  "v5p": Chip(
    flops=peaks.BF16_FLOPS["TPU v5"],
    hbm_bytes=int(95.74 * _GIB),
    hbm_bandwidth=2765e9,
    ici_bandwidth=600e9,
    cycles_per_second=1.75e9,
    shapes=("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8"),
  ),
  "v6e": Chip(
    flops=peaks.BF16_FLOPS["TPU v6 lite"],
    hbm_bytes=int(31.25 * _GIB),
    hbm_bandwidth=1640e9,
    ici_bandwidth=400e9,
    cycles_per_second=1.75e9,
    shapes=("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
  ),
}


def devices(topology: str) -> tuple[Chip, list[Any]]:
  """The chip of a topology such as 'v5e:16x16', and its abstract devices.

  Raises:
    ValueError: an unknown topology, listing known ones, or no libtpu.
  """
  family, _, shape = topology.partition(":")
  if family not in CHIPS or not shape:
    raise ValueError(_unknown(topology))
  if importlib.util.find_spec("libtpu") is None:
    raise ValueError(
      f"topology={topology}: its compiler, libtpu, is not installed; "
      "pip install -r requirements-aot.txt"
    )
  from jax.experimental import topologies

  try:
    described = topologies.get_topology_desc(topology, platform="tpu")
  except Exception as error:  # libtpu raises several types of its own.
    reason = " ".join(str(error).split())[:200]
    raise ValueError(f"{_unknown(topology)} ({reason})") from error
  return CHIPS[family], list(described.devices)


def _unknown(topology: str) -> str:
  known = "; ".join(
    f"{family}:{', '.join(chip.shapes)}" for family, chip in CHIPS.items()
  )
  return f"topology={topology}: unknown; among those known are {known}"
