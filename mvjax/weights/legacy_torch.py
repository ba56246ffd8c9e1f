"""Reads PyTorch's old (pre-zip) `.pth` files without torch and without trust.

The format, read front to back:

1. three pickles: a magic number, a protocol version, the machine's traits;
2. one pickle of the object, whose tensors name a *storage* (a flat buffer) by
   key and say where in it they live: offset, shape and strides, in elements;
3. one pickle with the list of storage keys;
4. for each key in that order: an int64 element count, then the raw values.

A pickle is a program. The one that runs it here can build numpy arrays and the
plain containers that hold them, and refuses any other callable by name.
"""

import io
import math
import os
import pathlib
import pickle
import sys
from collections import OrderedDict
from typing import Any

import ml_dtypes
import numpy as np

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001

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


class RestrictedUnpickler(pickle.Unpickler):
  """Builds tensors as numpy views of storages; refuses every other callable.

  A storage is allocated when a tensor first names it and filled afterwards by
  whoever owns the file, which fills the tensors too: they are views.

  Attributes:
    storages: flat arrays by storage key, in the order they were first named.
  """

  def __init__(self, file: io.BufferedIOBase, *, max_bytes: int) -> None:
    """`max_bytes` bounds the memory that the file may ask for."""
    super().__init__(file)
    self.storages: dict[str, np.ndarray] = {}
    self._budget = max_bytes

  def find_class(self, module: str, name: str) -> Any:
    """Returns one of the few callables that a file of arrays needs."""
    # Whatever is returned here, a hostile file may call or assign to: hence an
    # immutable class, bound methods and strings, never a dtype or a module's
    # function.
    if (module, name) == ("collections", "OrderedDict"):
      return OrderedDict
    if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
      return self._rebuild_tensor
    if (module, name) == ("torch._utils", "_rebuild_parameter"):
      return self._rebuild_parameter
    if module == "torch" and name in STORAGE_DTYPES:
      return name
    raise ValueError(
      f"refused to build {module}.{name}: only arrays and containers are "
      "read; export the weights as safetensors instead"
    )

  def persistent_load(self, pid: Any) -> np.ndarray:
    """Returns the flat array for `('storage', type, key, device, count)`."""
    kind, storage_type, key, _, count, *view = pid
    if kind != "storage" or any(part is not None for part in view):
      raise ValueError(f"unknown storage description {pid!r}")
    if key not in self.storages:
      dtype = STORAGE_DTYPES[storage_type]
      self._budget -= count * dtype.itemsize
      if count < 0 or self._budget < 0:
        raise ValueError(f"storage {key!r} claims {count} values: truncated?")
      self.storages[key] = np.zeros(count, dtype)
    return self.storages[key]

  def _rebuild_tensor(
    self, storage, offset, shape, strides, requires_grad, hooks, *metadata
  ) -> np.ndarray:
    """A strided view; numpy raises if it would leave the storage."""
    del requires_grad, hooks, metadata
    size = storage.itemsize
    if offset < 0 or min(strides, default=0) < 0:
      raise ValueError(f"tensor of shape {shape} has negative strides")
    if not math.prod(shape):
      return np.zeros(shape, storage.dtype)
    return np.ndarray(
      shape,
      storage.dtype,
      buffer=storage,
      offset=offset * size,
      strides=tuple(stride * size for stride in strides),
    )

  def _rebuild_parameter(self, tensor, requires_grad, hooks) -> np.ndarray:
    del requires_grad, hooks
    return tensor


def read_legacy_torch(path: str | os.PathLike) -> Any:
  """Reads the object that `torch.save` wrote into an old-format file.

  Args:
    path: the file; only little-endian files are read.

  Returns:
    The saved object, usually an ordered mapping from names to arrays. Arrays
    have their saved shape, but are views with the file's own strides: copy
    before changing one, as several may share a storage.

  Raises:
    ValueError: if the file is of another format, is truncated, or would build
      anything but arrays and containers (the refused name is given).
  """
  path = pathlib.Path(path)
  with path.open("rb") as file:
    try:
      return _read(file, path.stat().st_size)
    except (
      ArithmeticError,
      AttributeError,
      EOFError,
      LookupError,
      TypeError,
      ValueError,
      pickle.UnpicklingError,
    ) as error:
      raise ValueError(f"{path}: {error}") from error


def _read(file: io.BufferedIOBase, size: int) -> Any:
  def load() -> Any:
    return RestrictedUnpickler(file, max_bytes=0).load()

  if load() != _MAGIC or load() != _PROTOCOL:
    raise ValueError("not a legacy torch file (wrong magic number)")
  if not load().get("little_endian") or sys.byteorder != "little":
    raise ValueError("big-endian torch files and machines are not supported")
  unpickler = RestrictedUnpickler(file, max_bytes=size)
  result = unpickler.load()
  for key in load():
    storage = unpickler.storages.pop(key)
    count = int.from_bytes(file.read(8), "little")
    if count != storage.size:
      raise ValueError(f"storage {key!r}: {count} values, not {storage.size}")
    if file.readinto(storage.view(np.uint8).data) != storage.nbytes:
      raise ValueError(f"storage {key!r}: the file ends early")
  if unpickler.storages:
    raise ValueError(f"no values for storages {sorted(unpickler.storages)}")
  return result
