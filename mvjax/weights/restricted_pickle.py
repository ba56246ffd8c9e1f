"""Runs pickles without trust, and without pickle.

A pickle is a program for a stack machine. The machine here knows only the
instructions that put containers, plain values, arrays and tensors together. A
global that a pickle names is never imported: it stays a name, which may lie in
the result (training frameworks use classes as keys of their bookkeeping). Only
the names in `pickle_values.CALLABLES` can be called, and what runs then is a
function of that file. Every other call is refused with the name of what was
called. The work that a pickle can ask for is bounded by its number of steps.

Tensors come out lazy. A tensor names a *storage* (a flat buffer, kept apart
from the pickle) and says where in it it lives; whoever owns the file says
afterwards where each storage is.
"""

import io
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np

from mvjax.weights import pickle_values

# What a damaged or hostile pickle can make the machine raise.
ERRORS = (
  ArithmeticError,
  AttributeError,
  EOFError,
  LookupError,
  TypeError,
  ValueError,
)
# That of a checkpoint with thousands of tensors has less than one megabyte,
# and a hundred thousand steps.
MAX_BYTES = 1 << 26
MAX_STEPS = 1 << 21
# Bytes that are copied for a step.
_COPIED = 256


def one_line(error: Exception) -> str:
  """The message of an error, which may quote the file, in one short line."""
  return " ".join(str(error)[:2000].split())[:400]


def load(file: io.BytesIO) -> tuple[Any, dict[str, pickle_values.Storage]]:
  """Runs one pickle.

  Args:
    file: Read from its position to the end of the pickle.

  Returns:
    What the pickle builds, and the storages that its tensors name, by key.

  Raises:
    ValueError: an instruction or call is refused, and named; or the pickle asks
      for more than `MAX_STEPS`.
    ERRORS: the pickle is damaged.
  """
  machine = _Machine()
  for opcode, argument, _ in pickletools.genops(file):
    if opcode.name == "STOP":
      return machine.stack.pop(), machine.storages
    machine.run(opcode.name, argument)
  raise ValueError("the pickle has no end")


class _Machine:
  """The stack, the memo and the instructions of a running pickle."""

  def __init__(self):
    self.stack: list[Any] = []
    self.storages: dict[str, pickle_values.Storage] = {}
    self._marked: list[list[Any]] = []
    self._memo: dict[int, Any] = {}
    self._steps = 0

  def run(self, opcode: str, argument: Any) -> None:
    """Carries out one instruction."""
    self._spend(1)
    if opcode in _PUSHED:
      self.stack.append(argument)
    elif opcode in _FRESH:
      self.stack.append(_FRESH[opcode]())
    elif opcode in ("BINPUT", "LONG_BINPUT"):
      # Picklers count from 0; chosen numbers could collide in the memo.
      if argument > self._steps:
        raise ValueError(f"place {argument} of the memo")
      self._memo[argument] = self.stack[-1]
    elif opcode in ("BINGET", "LONG_BINGET"):
      if argument not in self._memo:
        raise ValueError(f"nothing is at place {argument} of the memo")
      self.stack.append(self._memo[argument])
    elif opcode in _INSTRUCTIONS:
      _INSTRUCTIONS[opcode](self)
    elif opcode == "GLOBAL":
      self.stack.append(pickle_values.Global(argument.replace(" ", ".")))
    elif opcode in ("INST", "EXT1", "EXT2", "EXT4"):
      name = f"{argument}".replace(" ", ".")
      pickle_values.refuse(pickle_values.Global(name))
    elif opcode not in ("PROTO", "FRAME"):
      raise ValueError(f"refused the pickle instruction {opcode}")

  def memoize(self) -> None:
    self._memo[len(self._memo)] = self.stack[-1]

  def mark(self) -> None:
    self._marked.append(self.stack)
    self.stack = []

  def since_mark(self) -> list[Any]:
    """Takes what was put on the stack since the last mark."""
    items, self.stack = self.stack, self._marked.pop()
    return items

  def take(self, count: int) -> list[Any]:
    if len(self.stack) < count:
      raise IndexError("the pickle's stack is empty")
    items = self.stack[len(self.stack) - count :]
    del self.stack[len(self.stack) - count :]
    return items

  def tuple_of(self, count: int | None = None) -> None:
    items = self.since_mark() if count is None else self.take(count)
    self.stack.append(tuple(items))

  def extend(self, items: list[Any]) -> None:
    pickle_values.typed(self.stack[-1], list).extend(items)

  def set_items(self, items: list[Any]) -> None:
    pairs = zip(items[::2], items[1::2], strict=True)
    pickle_values.add_items(pickle_values.typed(self.stack[-1], dict), pairs)

  def name_global(self) -> None:
    module, name = (pickle_values.typed(item, str) for item in self.take(2))
    self.stack.append(pickle_values.Global(f"{module}.{name}"))

  def call(self) -> None:
    function, arguments = self.take(2)
    known = isinstance(function, pickle_values.Global)
    if not known or function.name not in pickle_values.CALLABLES:
      pickle_values.refuse(function)
    self._pay(pickle_values.typed(arguments, tuple))
    self.stack.append(pickle_values.CALLABLES[function.name](*arguments))

  def new(self, count: int) -> None:
    """An object of any class would be built: never."""
    pickle_values.refuse(self.take(count)[0])

  def build(self) -> None:
    """Changes to what is there: the content of arrays.

    State dicts carry version numbers of their modules, numpy's types the order
    of their bytes.
    """
    state = self.take(1)[0]
    target = self.stack[-1]
    if isinstance(target, np.ndarray):
      self._pay(pickle_values.typed(state, tuple))
      pickle_values.fill(target, state)
    elif isinstance(target, np.dtype):
      if pickle_values.typed(state, tuple)[1] not in ("<", "|", "="):
        raise ValueError("numbers with their largest byte first")
    elif not isinstance(target, dict):
      pickle_values.refuse(target)

  def storage(self) -> None:
    """The buffer of `('storage', type, key, device, count)`."""
    kind, named, *rest = pickle_values.typed(self.take(1)[0], tuple)
    if pickle_values.typed(kind, str) == "module":
      pickle_values.refuse(named)
    key, _, count, *view = rest
    if kind != "storage" or any(part is not None for part in view):
      raise ValueError("unknown storage description")
    whole = pickle_values.typed(named, pickle_values.Global).name
    module, _, name = whole.rpartition(".")
    if module != "torch" or name not in pickle_values.STORAGE_DTYPES:
      pickle_values.refuse(named)
    new = pickle_values.Storage(
      dtype=pickle_values.STORAGE_DTYPES[name], count=pickle_values.size(count)
    )
    old = self.storages.setdefault(pickle_values.typed(key, str), new)
    if (old.dtype, old.count) != (new.dtype, new.count):
      raise ValueError(f"storage {key[:40]!r} has two types or sizes")
    self.stack.append(old)

  def _spend(self, steps: int) -> None:
    self._steps += steps
    if self._steps > MAX_STEPS:
      raise ValueError(
        f"a pickle of more than {MAX_STEPS} steps, as no weights need: export "
        "them as safetensors instead"
      )

  def _pay(self, arguments: tuple[Any, ...]) -> None:
    """Counts what a function may copy or walk: its arguments may be shared."""
    for argument in arguments:
      if isinstance(argument, (bytes, str)):
        self._spend(len(argument) // _COPIED)
      elif isinstance(argument, (dict, list, tuple)):
        self._spend(len(argument))


# Instructions whose decoded argument is the value.
_PUSHED = frozenset(
  "BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT BINSTRING SHORT_BINSTRING "
  "BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES".split()
)
_FRESH: dict[str, Callable[[], Any]] = {
  "NONE": lambda: None,
  "NEWTRUE": lambda: True,
  "NEWFALSE": lambda: False,
  "EMPTY_DICT": dict,
  "EMPTY_LIST": list,
  "EMPTY_TUPLE": tuple,
}
_INSTRUCTIONS: dict[str, Callable[[_Machine], None]] = {
  "MARK": _Machine.mark,
  "MEMOIZE": _Machine.memoize,
  "TUPLE": _Machine.tuple_of,
  "TUPLE1": lambda machine: machine.tuple_of(1),
  "TUPLE2": lambda machine: machine.tuple_of(2),
  "TUPLE3": lambda machine: machine.tuple_of(3),
  "APPEND": lambda machine: machine.extend(machine.take(1)),
  "APPENDS": lambda machine: machine.extend(machine.since_mark()),
  "SETITEM": lambda machine: machine.set_items(machine.take(2)),
  "SETITEMS": lambda machine: machine.set_items(machine.since_mark()),
  "STACK_GLOBAL": _Machine.name_global,
  "BINPERSID": _Machine.storage,
  "REDUCE": _Machine.call,
  "BUILD": _Machine.build,
  "OBJ": lambda machine: machine.new(len(machine.stack)),
  "NEWOBJ": lambda machine: machine.new(2),
  "NEWOBJ_EX": lambda machine: machine.new(3),
}
