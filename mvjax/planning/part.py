"""One program of a plan: compiled whole, or as the sum of its blocks."""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import tqdm
from jax.sharding import Mesh

from mvjax.parallel import flops
from mvjax.parallel import mesh as meshes
from mvjax.planning import blocks, cost

# Share of the FLOPs in the groups of blocks that are compiled.
_COVERED = 0.9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
  """What a program needs.

  Attributes:
    name: of the program.
    whole: whether it was compiled as it runs, or block by block.
    memory: bytes on a device by what they hold; they add up.
    cost: work of a device.
    compiled: programs that were compiled for it.
    seconds: of tracing and compiling.
    problem: the compiler's words if it refused the program, or ''.
  """

  name: str
  whole: bool
  memory: Mapping[str, int]
  cost: cost.Cost
  compiled: int
  seconds: float
  problem: str = ""

  @property
  def bytes(self) -> int:
    """Memory of a device."""
    return sum(self.memory.values())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Call:
  """Blocks of one kind in a program.

  Attributes:
    block: the kind.
    times: how often the program calls it.
    parts: that a batch is taken in, each forward and backward before the next;
      the calls are divided between them.
    backward: whether it runs backward too.
    learns: whether its parameters then get a gradient.
    replicated: whether every device has its parameters whole.
  """

  block: blocks.Block
  times: int
  parts: int = 1
  backward: bool = False
  learns: bool = False
  replicated: bool = False

  @property
  def flops(self) -> int:
    """Of all calls, over all devices, as traced."""
    block = self.block
    return self.times * flops.count(self.fun, block.params, *block.inputs)[0]

  @property
  def fun(self) -> Callable[..., Any]:
    """The function of parameters and inputs that is called."""
    if self.backward:
      return blocks.gradient(self.block, learns=self.learns)
    return blocks.forward(self.block)

  @property
  def parameters(self) -> int:
    """Numbers that all calls read."""
    leaves = jax.tree.leaves(self.block.params)
    return self.times * sum(leaf.size for leaf in leaves)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sum:
  """Totals of blocks: work, what backward needs of one part, the largest
  temporary.
  """

  cost: cost.Cost
  kept: int
  temporary: int
  compiled: int


def compile_whole(name: str, fun: Callable[..., Any], *inputs: Any) -> Part:
  """Compiles a program as it runs.

  Args:
    name: of the part.
    fun: jitted, to be called inside `parallel.mesh.use`.
    *inputs: shapes with places.
  """
  start = time.perf_counter()
  try:
    found = cost.compiled(fun, *inputs)
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    return Part(
      name=name,
      whole=True,
      memory={},
      cost=cost.Cost(),
      compiled=1,
      seconds=time.perf_counter() - start,
      problem=" ".join(str(error).split())[:300],
    )
  return Part(
    name=name,
    whole=True,
    memory=found.memory,
    cost=found.cost,
    compiled=1,
    seconds=time.perf_counter() - start,
  )


def joined(calls: Sequence[Call]) -> list[Call]:
  """The calls with those of one kind put together."""
  kinds: dict[str, Call] = {}
  for call in calls:
    first = kinds.get(call.block.kind)
    times = call.times + (first.times if first else 0)
    kinds[call.block.kind] = dataclasses.replace(first or call, times=times)
  return list(kinds.values())


def add_up(calls: Sequence[Call], *, mesh: Mesh, title: str) -> Sum:
  """Compiles one block of each group and adds up what the calls need.

  A group has the blocks of one class, network and resolution. The dearest
  stands for the others: their work goes by their FLOPs, what their
  collectives send by their parameters. The dearest groups, which together have
  `_COVERED` of all FLOPs, are compiled; what is left goes by the same rule.
  """
  flops_of = {call.block.kind: call.flops for call in calls}
  groups: dict[Any, list[Call]] = {}
  for call in calls:
    groups.setdefault(call.block.group, []).append(call)

  def work(some: Sequence[Call]) -> int:
    return sum(flops_of[call.block.kind] for call in some)

  def size(some: Sequence[Call]) -> int:
    return sum(call.parameters for call in some)

  chosen: list[list[Call]] = []
  for group in sorted(groups.values(), key=work, reverse=True):
    if work(sum(chosen, [])) < _COVERED * work(calls):
      chosen.append(group)
  dearest = [max(group, key=lambda call: work([call])) for group in chosen]
  # One after the other: libtpu 0.0.42 can deadlock when two threads compile.
  compiled = [
    _of_block(call, mesh=mesh)
    for call in tqdm.tqdm(dearest, unit="block", desc=title)
  ]
  total = cost.Cost()
  for group, one, found in zip(chosen, dearest, compiled, strict=True):
    total += (found.cost * one.times).scaled(
      work=work(group) / max(work([one]), 1),
      sent=size(group) / max(size([one]), 1),
    )
  covered = sum(chosen, [])
  return Sum(
    cost=total.scaled(
      work=work(calls) / max(work(covered), 1),
      sent=size(calls) / max(size(covered), 1),
    ),
    kept=sum(
      call.times
      // call.parts
      * blocks.saved_bytes(call.block, learns=call.learns, mesh=mesh)
      for call in calls
      if call.backward
    ),
    temporary=max(found.memory["temporary"] for found in compiled),
    compiled=len(compiled),
  )


def bytes_of(tree: Any) -> int:
  """Bytes on a device of shapes with places."""
  return sum(
    leaf.dtype.itemsize * math.prod(leaf.sharding.shard_shape(leaf.shape))
    for leaf in jax.tree.leaves(tree)
  )


def _of_block(call: Call, *, mesh: Mesh) -> cost.Compiled:
  """One call, compiled."""
  args = blocks.arguments(call.block, mesh=mesh, whole=call.replicated)
  places = None
  if call.backward:
    places = blocks.gradient_shardings(args, call.block, learns=call.learns)
  with meshes.use(mesh):
    return cost.compiled(jax.jit(call.fun, out_shardings=places), *args)
