"""Reads the text of an optimised XLA program.

XLA's own totals count the body of a loop once. Here every computation has a
multiplicity, the product of the trip counts around it, and a collective that
the compiler split into a start, a fusion and an end is counted once.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping

COLLECTIVES = (
  "all-gather",
  "all-reduce",
  "reduce-scatter",
  "all-to-all",
  "collective-permute",
)
_BYTES = {
  "pred": 1,
  "s8": 1,
  "u8": 1,
  "bf16": 2,
  "f16": 2,
  "s16": 2,
  "u16": 2,
  "f32": 4,
  "s32": 4,
  "u32": 4,
  "f64": 8,
  "s64": 8,
  "u64": 8,
}
# What moves no data of its own.
_FREE = frozenset(
  "parameter constant tuple get-tuple-element bitcast while conditional "
  "call after-all partition-id".split()
)
_SLICE, _UPDATE = "dynamic-slice", "dynamic-update-slice"
_HEADER = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \(.*\) -> .* \{$")
_INSTRUCTION = re.compile(
  r"^\s+(?:ROOT )?%?([\w.-]+) = (\(?.*?\)?) ([\w-]+)\((.*)$"
)
_ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
_CALLS = re.compile(r"(?:calls|body|true_computation|to_apply)=%?([\w.-]+)")
_ALSO_CALLS = re.compile(r"false_computation=%?([\w.-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_CONDITION = re.compile(r"condition=%?([\w.-]+)")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Instruction:
  """One line of a computation.

  Attributes:
    name: as operands call it.
    opcode: such as 'fusion'.
    bytes: of the result.
    arguments: the line from the opening bracket on.
  """

  name: str
  opcode: str
  bytes: int
  arguments: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Collective:
  """A collective operation.

  Attributes:
    kind: one of `COLLECTIVES`.
    group: devices that take part together.
    bytes: that each device sends, by the ring algorithm.
    count: how often it runs.
  """

  kind: str
  group: int
  bytes: int
  count: int


class Program:
  """A compiled program.

  Attributes:
    computations: instructions by name of the computation.
    multiplicity: how often each computation runs; the unreached are left out.
  """

  def __init__(self, text: str):
    self.computations, entry = _parse(text)
    self.multiplicity: dict[str, int] = {}
    self._visit(entry, 1)

  def _visit(self, name: str, times: int) -> None:
    self.multiplicity[name] = self.multiplicity.get(name, 0) + times
    for instruction in self.computations[name]:
      inner = times
      if instruction.opcode == "while":
        inner *= self._trip_count(instruction)
      for callee in _callees(instruction):
        self._visit(callee, inner)

  def _trip_count(self, loop: Instruction) -> int:
    """The bound in the loop's condition: counters start at 0, by steps of 1."""
    match = _CONDITION.search(loop.arguments)
    condition = self.computations.get(match.group(1), []) if match else []
    bounds = [
      int(number)
      for instruction in condition
      if instruction.opcode == "constant"
      and (number := instruction.arguments.partition(")")[0]).isdigit()
    ]
    return max(bounds, default=1)

  def instructions(self) -> Iterator[tuple[Instruction, int]]:
    """All instructions and how often each runs."""
    for name, times in self.multiplicity.items():
      for instruction in self.computations[name]:
        yield instruction, times

  def count(self, opcode: str) -> int:
    """Instructions of an opcode in the text, run or not."""
    return sum(
      instruction.opcode == opcode
      for instructions in self.computations.values()
      for instruction in instructions
    )

  def cycles(self) -> int:
    """Sum of the compiler's cycle estimates of what runs.

    Collectives, custom calls and some fusions have none.
    """
    return sum(
      times * int(match.group(1))
      for instruction, times in self.instructions()
      if (match := _CYCLES.search(instruction.arguments))
    )

  def loop_factor(self) -> float:
    """Bytes moved over the bytes moved if every loop ran once.

    Bytes are those of results and operands of the instructions that are not
    inside fusions.
    """
    total = once = 0
    fused = {
      callee
      for instructions in self.computations.values()
      for instruction in instructions
      if instruction.opcode == "fusion"
      for callee in _callees(instruction)
    }
    for name, times in self.multiplicity.items():
      if name in fused:
        continue
      sizes = {i.name: i.bytes for i in self.computations[name]}
      moved = sum(self._moved(i, sizes) for i in self.computations[name])
      total, once = total + times * moved, once + moved
    return total / once if once else 1.0

  def _moved(self, one: Instruction, sizes: Mapping[str, int]) -> int:
    """Bytes that an instruction reads and writes.

    Of an array that is only sliced the slices count, and of one that is
    updated in place the update.
    """
    if one.opcode in _FREE:
      return 0
    operands = list(_operands(one, sizes))
    if one.opcode == _SLICE:
      return 2 * one.bytes
    if one.opcode == _UPDATE:
      return 2 * sizes.get(operands[1], 0) if len(operands) > 1 else one.bytes
    if one.opcode != "fusion":
      return one.bytes + sum(sizes[name] for name in operands)
    inner = [i for c in _callees(one) for i in self.computations[c]]
    parameters = {
      int(i.arguments.partition(")")[0]): i
      for i in inner
      if i.opcode == "parameter"
    }
    read = 0
    for index, name in enumerate(operands):
      read += _read_of(parameters.get(index), inner, otherwise=sizes[name])
    local = {i.name: i.bytes for i in inner}
    updates = [list(_operands(i, local)) for i in inner if i.opcode == _UPDATE]
    buffers = sum(local[names[0]] for names in updates if len(names) > 1)
    written = sum(local[names[1]] for names in updates if len(names) > 1)
    return read + max(one.bytes - buffers, 0) + written

  def collectives(self) -> list[Collective]:
    """The collectives that run, the pieces of one joined."""
    found: dict[str, Collective] = {}
    for name, times in self.multiplicity.items():
      scattered = "reduce-scatter" in name
      for instruction in self.computations[name]:
        kind = instruction.opcode.removesuffix("-start")
        if kind not in COLLECTIVES:
          continue
        if kind == "all-reduce" and scattered:
          kind = "reduce-scatter"
        channel = re.search(r"channel_id=(\d+)", instruction.arguments)
        key = channel.group(1) if channel else instruction.name
        found.setdefault(key, _collective(kind, instruction, times))
    return [one for one in found.values() if one.group > 1]


def _read_of(
  parameter: Instruction | None, inner: list[Instruction], *, otherwise: int
) -> int:
  """Bytes that a fusion reads of one of its parameters."""
  if parameter is None:
    return otherwise
  own = {parameter.name: parameter.bytes}
  users = [i for i in inner if list(_operands(i, own))]
  first = f"%{parameter.name}"
  if users and all(
    i.opcode in (_SLICE, _UPDATE)
    and i.arguments.partition(",")[0].split()[-1] == first
    for i in users
  ):
    return sum(i.bytes for i in users if i.opcode == _SLICE)
  return otherwise


def _collective(kind: str, instruction: Instruction, times: int) -> Collective:
  """What one collective sends, from the size of its result."""
  group = _group_size(instruction.arguments)
  size = instruction.bytes
  if kind == "reduce-scatter" and instruction.opcode == "reduce-scatter":
    size *= group  # its result is one share of the whole
  share = (group - 1) / group if group else 0
  sent = {
    "all-reduce": 2 * size * share,
    "collective-permute": size,
  }.get(kind, size * share)
  if kind == "collective-permute":
    group = max(group, 2)
  return Collective(kind=kind, group=group, bytes=int(sent), count=times)


def _group_size(arguments: str) -> int:
  """Devices in a replica group, in any of the three notations."""
  text = arguments.partition("replica_groups=")[2]
  if text.startswith("mesh["):
    sizes = dict(re.findall(r"'(\w+)'=(\d+)", text.partition("]")[0]))
    names = re.search(r"\{([^}]*)\}", text)
    used = re.findall(r"'(\w+)'", names.group(1)) if names else []
    return math.prod(int(sizes[name]) for name in used)
  if match := re.match(r"\[(\d+),(\d+)\]", text):
    return int(match.group(2))
  if match := re.match(r"\{\{([\d,]*)\}", text):
    return len(match.group(1).split(","))
  return 0


def _parse(text: str) -> tuple[Mapping[str, list[Instruction]], str]:
  """Instructions by computation, and the name of the entry."""
  computations: dict[str, list[Instruction]] = {}
  entry, current = "", None
  for line in text.splitlines():
    if header := _HEADER.match(line):
      current = computations.setdefault(header.group(1), [])
      if line.startswith("ENTRY"):
        entry = header.group(1)
    elif current is not None and (found := _INSTRUCTION.match(line)):
      name, result, opcode, arguments = found.groups()
      current.append(
        Instruction(
          name=name,
          opcode=opcode,
          bytes=array_bytes(result),
          arguments=arguments,
        )
      )
  if not entry:
    raise ValueError("hlo: the text has no ENTRY computation")
  return computations, entry


def array_bytes(shape: str) -> int:
  """Bytes of an array or tuple as HLO writes its shape, without padding."""
  return sum(
    _BYTES.get(kind, 4) * math.prod(int(n) for n in sizes.split(",") if n)
    for kind, sizes in _ARRAY.findall(shape)
    if kind in _BYTES
  )


def _callees(instruction: Instruction) -> list[str]:
  """Computations that an instruction runs, reducers left out."""
  text = instruction.arguments
  if instruction.opcode == "conditional":
    branches = _BRANCHES.search(text)
    names = re.findall(r"%?([\w.-]+)", branches.group(1)) if branches else []
    return names or _CALLS.findall(text) + _ALSO_CALLS.findall(text)
  if instruction.opcode == "while":
    return re.findall(r"body=%?([\w.-]+)", text)
  return re.findall(r"calls=%?([\w.-]+)", text) + (
    re.findall(r"to_apply=%?([\w.-]+)", text)
    if instruction.opcode == "call"
    else []
  )


def _operands(
  instruction: Instruction, sizes: Mapping[str, int]
) -> Iterator[str]:
  for name in re.findall(r"%([\w.-]+)", instruction.arguments.split("), ")[0]):
    if name in sizes:
      yield name
