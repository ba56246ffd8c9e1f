"""Runs the pickles of `torch.save` without trust, and without pickle.

A pickle is a program for a stack machine. The machine here knows only the
instructions that put containers, plain values and tensors together. A global
that a pickle names is never imported: it stays a name, which may lie in the
result (training frameworks use classes as keys of their bookkeeping). Only
the names in `_CALLABLES` can be called, and what runs then is a function of
this file. Every other call is refused with the name of what was called.

Tensors come out lazy. A tensor names a *storage* (a flat buffer, kept apart
from the pickle) and says where in it it lives; whoever owns the file says
afterwards where each storage is.
"""

import dataclasses
import io
import math
import mmap
import pathlib
import pickletools
import re
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from mvjax.weights import tensors

STORAGE_DTYPES = {
  "DoubleStorage": np.dtype(np.float64),
  "FloatStorage": np.dtype(np.float32),
  "HalfStorage": np.dtype(np.float16),
  "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
  "LongStorage": np.dtype(np.int64),
  "IntStorage": np.dtype(np.int32),
  "ShortStorage": np.dtype(np.int16),
  "CharStorage": np.dtype(np.int8),
  "ByteStorage": np.dtype(np.uint8),
  "BoolStorage": np.dtype(np.bool_),
}
# What a damaged or hostile pickle can make the machine raise.
ERRORS = (
  ArithmeticError,
  AttributeError,
  EOFError,
  LookupError,
  TypeError,
  ValueError,
)


def one_line(error: Exception) -> str:
  """The message of an error, which may quote the file, in one short line."""
  return " ".join(str(error).split())[:400]


@dataclasses.dataclass(frozen=True)
class Global:
  """A class or function that a pickle names; nothing was imported."""

  name: str


@dataclasses.dataclass(kw_only=True, eq=False)
class Storage:
  """A flat buffer; its place is set by the owner of the file.

  Attributes:
    count: Elements.
    path, start: The file and the byte of it where the buffer begins.
    crc32: Check sum of the whole buffer, where the file has one.
  """

  dtype: np.dtype
  count: int
  path: pathlib.Path | None = None
  start: int = 0
  crc32: int | None = None

  @property
  def nbytes(self) -> int:
    """Its length in the file."""
    return self.count * self.dtype.itemsize


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class StoredTensor:
  """A lazy tensor in a storage; offset and strides count elements."""

  storage: Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]

  @property
  def dtype(self) -> np.dtype:
    """That of the storage."""
    return self.storage.dtype

  def read(self) -> np.ndarray:
    """The values; ValueError if the file is damaged there."""
    storage = self.storage
    if storage.path is None:
      raise ValueError("the tensor's storage is not in the file")
    whole = tensors.extent(self.shape, self.strides) == storage.count
    return tensors.Stored(
      path=storage.path,
      start=storage.start + self.offset * storage.dtype.itemsize,
      shape=self.shape,
      dtype=storage.dtype,
      strides=self.strides,
      crc32=storage.crc32 if whole else None,
    ).read()


def load(file: io.BytesIO | mmap.mmap) -> tuple[Any, dict[str, Storage]]:
  """Runs one pickle.

  Args:
    file: Read from its position to the end of the pickle. A read beyond its
      end must not allocate what was asked for (BytesIO and mmap do not).

  Returns:
    What the pickle builds, and the storages that its tensors name, by key.

  Raises:
    ValueError: an instruction or call is refused; names it.
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
    self.storages: dict[str, Storage] = {}
    self._marked: list[list[Any]] = []
    self._memo: dict[int, Any] = {}

  def run(self, opcode: str, argument: Any) -> None:
    """Carries out one instruction."""
    if opcode in _PUSHED:
      self.stack.append(argument)
    elif opcode in _FRESH:
      self.stack.append(_FRESH[opcode]())
    elif opcode in ("PUT", "BINPUT", "LONG_BINPUT"):
      self._memo[argument] = self.stack[-1]
    elif opcode in ("GET", "BINGET", "LONG_BINGET"):
      self.stack.append(self._memo[argument])
    elif opcode in _INSTRUCTIONS:
      _INSTRUCTIONS[opcode](self)
    elif opcode == "GLOBAL":
      self.stack.append(Global(argument.replace(" ", ".")))
    elif opcode in ("INST", "EXT1", "EXT2", "EXT4"):
      _refuse(f"{argument}".replace(" ", "."))
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
    _typed(self.stack[-1], list).extend(items)

  def set_items(self, items: list[Any]) -> None:
    pairs = zip(items[::2], items[1::2], strict=True)
    _typed(self.stack[-1], dict).update(_dict(list(pairs)))

  def name_global(self) -> None:
    module, name = self.take(2)
    self.stack.append(Global(f"{module}.{name}"))

  def call(self) -> None:
    function, arguments = self.take(2)
    if not isinstance(function, Global) or function.name not in _CALLABLES:
      _refuse(getattr(function, "name", type(function).__name__))
    self.stack.append(_CALLABLES[function.name](*_typed(arguments, tuple)))

  def new(self, count: int) -> None:
    """An object of any class would be built: never."""
    first = self.take(count)[0]
    _refuse(getattr(first, "name", type(first).__name__))

  def build(self) -> None:
    """Changes to what is there: none has a meaning for arrays and containers.

    State dicts carry version numbers of their modules, numpy's scalars the
    byte order of their type.
    """
    state = self.take(1)[0]
    target = self.stack[-1]
    if isinstance(target, np.dtype):
      if _typed(state, tuple)[1] not in ("<", "|", "="):
        raise ValueError("numbers with their largest byte first")
    elif not isinstance(target, dict):
      _refuse(getattr(target, "name", type(target).__name__))

  def storage(self) -> None:
    """The buffer of `('storage', type, key, device, count)`."""
    kind, named, *rest = _typed(self.take(1)[0], tuple)
    if kind == "module":
      _refuse(_typed(named, Global).name)
    key, _, count, *view = rest
    if kind != "storage" or any(part is not None for part in view):
      raise ValueError("unknown storage description")
    module, _, name = _typed(named, Global).name.rpartition(".")
    if module != "torch" or name not in STORAGE_DTYPES:
      _refuse(named.name)
    new = Storage(dtype=STORAGE_DTYPES[name], count=_size(count))
    old = self.storages.setdefault(_typed(key, str), new)
    if (old.dtype, old.count) != (new.dtype, new.count):
      raise ValueError(f"storage {key!r} has two types or sizes")
    self.stack.append(old)


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


def _refuse(name: str) -> None:
  raise ValueError(
    f"refused to build {name}: only arrays and containers are read; export "
    "the weights as safetensors instead"
  )


def _typed(value: Any, kind: type) -> Any:
  if type(value) is not kind:
    raise TypeError(f"{type(value).__name__} instead of {kind.__name__}")
  return value


def _size(value: Any) -> int:
  if _typed(value, int) < 0:
    raise ValueError(f"negative size {value}")
  return value


def _dict(pairs: Any = ()) -> dict[Any, Any]:
  """A dictionary; its keys are plain, as hashing nested ones may never end."""
  for key, _ in pairs:
    if not isinstance(key, (str, int, float, bytes, Global, type(None))):
      raise ValueError(f"a {type(key).__name__} as a key")
  return dict(pairs)


def _tensor(storage, offset, shape, strides, *_) -> StoredTensor:
  """A view of a storage; its gradient flag and hooks are of no use."""
  storage, offset = _typed(storage, Storage), _size(offset)
  shape = tuple(map(_size, _typed(shape, tuple)))
  strides = tuple(map(_size, _typed(strides, tuple)))
  last = offset + tensors.extent(shape, strides)
  # Overlapping elements would make a small file claim any amount of memory.
  if last > storage.count or math.prod(shape) > storage.count:
    raise ValueError(
      f"a tensor of shape {shape}, strides {strides} and offset {offset} "
      f"leaves its storage of {storage.count} values"
    )
  return StoredTensor(
    storage=storage, offset=offset, shape=shape, strides=strides
  )


def _parameter(tensor, *_) -> StoredTensor:
  return _typed(tensor, StoredTensor)


def _numpy_dtype(spec, *_) -> np.dtype:
  if not re.fullmatch("b1|[iu][1248]|f[248]", _typed(spec, str)):
    raise ValueError(f"refused to build numpy.dtype {spec!r}")
  return np.dtype(f"<{spec}")


def _numpy_scalar(dtype, data) -> int | float | bool:
  if not isinstance(dtype, np.dtype):
    raise TypeError("a numpy scalar without a type")
  return np.frombuffer(_typed(data, bytes), dtype, count=1)[0].item()


def _encode(text, encoding) -> bytes:
  """How a pickle for Python 2 spells bytes."""
  if encoding not in ("latin1", "latin-1"):
    raise ValueError(f"refused the encoding {encoding!r}")
  return _typed(text, str).encode("latin-1")


_CALLABLES: dict[str, Callable[..., Any]] = {
  "collections.OrderedDict": _dict,
  "torch.Size": lambda sizes: tuple(map(_size, sizes)),
  "torch._utils._rebuild_tensor_v2": _tensor,
  "torch._utils._rebuild_parameter": _parameter,
  "numpy.dtype": _numpy_dtype,
  "numpy.core.multiarray.scalar": _numpy_scalar,
  "numpy._core.multiarray.scalar": _numpy_scalar,
  "_codecs.encode": _encode,
}
