"""What a restricted pickle may build: plain values, arrays, lazy tensors.

The functions of `CALLABLES` are all that the machine of `restricted_pickle`
can run. They get whatever a hostile file hands them: each checks the types and
sizes of its arguments first, and none walks into containers, whose parts may be
shared or nested without end.
"""

import dataclasses
import math
import pathlib
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
# What numpy and torch allow.
_MAX_AXES = 64
_MAX_SIZE = (1 << 63) - 1


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


def refuse(value: Any) -> None:
  """Raises the ValueError for what would be built, by name if it has one."""
  name = value.name if isinstance(value, Global) else type(value).__name__
  raise ValueError(
    f"refused to build {name}: only arrays and containers are read; export "
    "the weights as safetensors instead"
  )


def typed(value: Any, kind: type) -> Any:
  """The value, which must be of this type and of none below it."""
  if type(value) is not kind:
    raise TypeError(f"{type(value).__name__} instead of {kind.__name__}")
  return value


def size(value: Any) -> int:
  """A number of elements or bytes."""
  if not 0 <= typed(value, int) <= _MAX_SIZE:
    raise ValueError("a negative size" if value < 0 else "a size beyond 2^63")
  return value


def add_items(target: dict[str, Any], pairs: Any) -> None:
  """Adds named values to a dictionary.

  Keys become text: a file can choose numbers that collide in a hash table, and
  nested keys that are hashed for ever. So a class is known by its name.
  """
  for key, value in pairs:
    if isinstance(key, Global):
      key = key.name
    if not isinstance(key, (str, int, float, bytes, type(None))):
      raise ValueError(f"a {type(key).__name__} as a key")
    if str(key) in target:
      raise ValueError(f"the key {str(key)[:40]!r} twice")
    target[str(key)] = value


def fill(array: np.ndarray, state: Any) -> None:
  """Gives an array the shape, type and content that its state says.

  Numbers only, or one object, as `numpy.save` wraps what is no array.
  """
  _, shape, dtype, by_columns, content = typed(state, tuple)
  if not isinstance(dtype, np.dtype) or array.size:
    raise TypeError("an array without a type, or that is filled twice")
  shape = _axes(shape)
  if dtype == np.dtype(object):
    if shape or len(typed(content, list)) != 1:
      raise ValueError("an array of objects, which are not numbers")
  elif math.prod(shape) * dtype.itemsize != len(typed(content, bytes)):
    raise ValueError(
      f"an array {shape} of {dtype} in {len(content)} bytes, which do not fit"
    )
  array.__setstate__((1, shape, dtype, bool(by_columns), content))


def _axes(values: Any) -> tuple[int, ...]:
  if len(typed(values, tuple)) > _MAX_AXES:
    raise ValueError(f"{len(values)} axes, {_MAX_AXES} at most")
  return tuple(map(size, values))


def _ordered_dict(pairs: Any = ()) -> dict[str, Any]:
  found: dict[str, Any] = {}
  add_items(found, pairs)
  return found


def _tensor(storage, offset, shape, strides, *_) -> StoredTensor:
  """A view of a storage; its gradient flag and hooks are of no use."""
  storage, offset = typed(storage, Storage), size(offset)
  shape, strides = _axes(shape), _axes(strides)
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
  return typed(tensor, StoredTensor)


def _numpy_dtype(spec, *_) -> np.dtype:
  if not re.fullmatch("b1|[iu][1248]|f[248]|O8?", typed(spec, str)):
    raise ValueError(f"refused to build numpy.dtype {spec[:40]!r}")
  return np.dtype(f"<{spec}")


def _numpy_scalar(dtype, data) -> int | float | bool:
  if not isinstance(dtype, np.dtype) or dtype.hasobject:
    raise TypeError("a numpy scalar that is no number")
  return np.frombuffer(typed(data, bytes), dtype, count=1)[0].item()


def _numpy_array(kind, *_) -> np.ndarray:
  """An array that is to be filled."""
  if not isinstance(kind, Global) or kind.name != "numpy.ndarray":
    refuse(kind)
  return np.empty(0, np.uint8)


def _encode(text, encoding) -> bytes:
  """How a pickle for Python 2 spells bytes."""
  if typed(encoding, str) not in ("latin1", "latin-1"):
    raise ValueError(f"refused the encoding {encoding[:40]!r}")
  return typed(text, str).encode("latin-1")


CALLABLES: dict[str, Callable[..., Any]] = {
  "collections.OrderedDict": _ordered_dict,
  "torch.Size": lambda sizes: _axes(sizes),
  "torch._utils._rebuild_tensor_v2": _tensor,
  "torch._utils._rebuild_parameter": _parameter,
  "numpy.dtype": _numpy_dtype,
  "numpy.core.multiarray.scalar": _numpy_scalar,
  "numpy._core.multiarray.scalar": _numpy_scalar,
  "numpy.core.multiarray._reconstruct": _numpy_array,
  "numpy._core.multiarray._reconstruct": _numpy_array,
  "_codecs.encode": _encode,
}
