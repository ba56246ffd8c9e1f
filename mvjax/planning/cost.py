"""What a compiled program costs a device, and what its time may be."""

import collections
import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax

from mvjax import atomic, user_cache
from mvjax.parallel import flops
from mvjax.planning import chips, hlo

# Of this module's arithmetic: figures kept by another one are not read.
_VERSION = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
  """Work of one device; costs add and multiply.

  Attributes:
    flops: the compiler's count, loops multiplied out.
    bytes: likewise, read and written, in any memory.
    cycles: the compiler's estimate, where it makes one.
    collectives: by kind, how many and the bytes that the device sends.
  """

  flops: float = 0.0
  bytes: float = 0.0
  cycles: float = 0.0
  collectives: Mapping[str, tuple[float, float]] = dataclasses.field(
    default_factory=dict
  )

  def __add__(self, other: "Cost") -> "Cost":
    kinds = {**self.collectives, **other.collectives}
    none = (0.0, 0.0)
    return Cost(
      flops=self.flops + other.flops,
      bytes=self.bytes + other.bytes,
      cycles=self.cycles + other.cycles,
      collectives={
        kind: tuple(
          a + b
          for a, b in zip(
            self.collectives.get(kind, none),
            other.collectives.get(kind, none),
            strict=True,
          )
        )
        for kind in kinds
      },
    )

  def __mul__(self, times: int | float) -> "Cost":
    return Cost(
      flops=self.flops * times,
      bytes=self.bytes * times,
      cycles=self.cycles * times,
      collectives={
        kind: (count * times, size * times)
        for kind, (count, size) in self.collectives.items()
      },
    )

  def scaled(self, *, work: int | float, sent: int | float) -> "Cost":
    """Work and collectives, each times a factor."""
    collectives = Cost(collectives=self.collectives) * sent
    return dataclasses.replace(self * work, collectives=collectives.collectives)

  @property
  def sent(self) -> float:
    """Bytes that the device sends."""
    return sum((size for _, size in self.collectives.values()), 0.0)

  def roofline(self, chip: chips.Chip) -> dict[str, float]:
    """Seconds that each part of a chip needs at its peak.

    The largest says what limits the program and is an estimate of its time. It
    is no bound: `bytes` that stay in the chip's fast memory count as if they
    went through the slow one.
    """
    return {
      "matrix units": self.flops / chip.flops,
      "memory": self.bytes / chip.hbm_bandwidth,
      "links": self.sent / chip.ici_bandwidth,
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compiled:
  """What the compiler says about a program.

  Attributes:
    cost: work of a device.
    memory: bytes on a device: `arguments`, `results` that are not among them,
      and `temporary`.
  """

  cost: Cost
  memory: Mapping[str, int]


def compiled(fun: Any, *inputs: Any) -> Compiled:
  """Compiles a program, or remembers what compiling it said.

  The figures are kept on disk by the program's text, so a plan that was
  stopped goes on where it was.

  Args:
    fun: jitted; called inside `parallel.mesh.use`.
    *inputs: shapes with places.
  """
  lowered = fun.lower(*inputs)
  topology = jax.tree.leaves(inputs)[0].sharding.mesh.devices.flat[0].client
  path = _file(lowered.as_text(), str(topology.platform_version))
  if path.is_file():
    return _from_json(json.loads(path.read_text()))
  result = _measured(lowered.compile(), loops=_loops(fun, inputs))
  atomic.write_text(path, json.dumps(dataclasses.asdict(result)))
  return result


def _measured(program: Any, *, loops: float) -> Compiled:
  """The figures of an executable.

  Args:
    program: of the compiler.
    loops: by which its FLOPs are multiplied, see `_loops`.
  """
  text = hlo.Program(program.as_text())
  analysis, memory = program.cost_analysis(), program.memory_analysis()
  found: dict[str, list[float]] = collections.defaultdict(lambda: [0.0, 0.0])
  for one in text.collectives():
    found[one.kind][0] += one.count
    found[one.kind][1] += one.count * one.bytes
  return Compiled(
    cost=Cost(
      flops=analysis.get("flops", 0.0) * loops,
      bytes=analysis.get("bytes accessed", 0.0) * text.loop_factor(),
      cycles=float(text.cycles()),
      collectives={kind: (n, size) for kind, (n, size) in found.items()},
    ),
    memory={
      "arguments": memory.argument_size_in_bytes,
      "results": memory.output_size_in_bytes - memory.alias_size_in_bytes,
      "temporary": memory.temp_size_in_bytes,
    },
  )


def _loops(fun: Any, inputs: tuple[Any, ...]) -> float:
  """FLOPs over what they were if the body of every loop ran once."""
  total, once = flops.count(fun, *inputs)
  return total / once if once else 1.0


def _file(text: str, compiler: str) -> pathlib.Path:
  """Where the figures of a program are kept."""
  folder = user_cache.folder() / "plans"
  digest = hashlib.sha256(f"{_VERSION} {compiler} {text}".encode())
  return folder / f"{digest.hexdigest()[:32]}.json"


def _from_json(content: Mapping[str, Any]) -> Compiled:
  numbers = dict(content["cost"])
  numbers["collectives"] = {
    kind: tuple(pair) for kind, pair in numbers["collectives"].items()
  }
  return Compiled(cost=Cost(**numbers), memory=content["memory"])
