"""Lazy tensors of the `.msgpack` files of diffusers' and transformers' Flax.

Such a file is one nested map from names to arrays. An array is an extension
of type 1, whose content is again msgpack: (shape, dtype name, bytes). Only
these are understood, which is all that `flax.serialization` writes for
parameters below a gigabyte each. The file is walked without reading arrays,
which the msgpack library would put into memory to pass over them.

Their trees are our linen paths with two differences: the layers of the text
encoder are `layers/3` instead of `layers_3`, and the attention of the VAE has
the old names (`query`, ...), which `names` understands.
"""

import io
import math
import os
import pathlib

import ml_dtypes
import numpy as np

from mvjax.weights import names, tensors

_DTYPES = {
  name: np.dtype(getattr(ml_dtypes, name, name))
  for name in ("bfloat16", "float16", "float32", "float64", "int32", "int64")
}
# What their UNet cannot vary and so leaves out of its config.
CONFIG = {"norm_num_groups": 32}
_ARRAY = 1
# Far beyond those of any network.
_MAX_NAME = 256
_MAX_NAMES = 1 << 16
_MAX_DEPTH = 32
_MAX_AXES = 8
# First bytes of values, by what they mean: the bytes of the length after
# them, or, in `_FIXED`, the values that hold the length themselves.
_MAP = {0xDE: 2, 0xDF: 4}
_LIST = {0xDC: 2, 0xDD: 4}
_TEXT = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_BYTES = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_EXTENSION = {0xC7: 1, 0xC8: 2, 0xC9: 4}
_FIXED_EXTENSION = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_UNSIGNED = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}

Path = tuple[str, ...]


def open_msgpack(path: str | os.PathLike) -> dict[str, tensors.Tensor]:
  """The tensors of a Flax parameter file, in torch names and layouts.

  Raises:
    ValueError: the file is damaged, or holds anything but named arrays.
  """
  path = pathlib.Path(path)
  found: dict[Path, tensors.Stored] = {}
  with path.open("rb") as file:
    scanner = _Scanner(file, path)
    scanner.tree((), found)
    if file.tell() != scanner.end:
      raise ValueError(f"{path}: not a Flax parameter file (it goes on)")
  return {
    names.torch_key(place): _torch_layout(tensor)
    if place[-1] == "kernel"
    else tensor
    for place, tensor in found.items()
  }


def _torch_layout(kernel: tensors.Stored) -> tensors.View:
  """(height, width, in, out) as torch's (out, in, height, width)."""
  last = len(kernel.shape) - 1
  return tensors.transposed(kernel, (last, last - 1, *range(last - 1)))


class _Scanner:
  """Reads msgpack values one after the other."""

  def __init__(self, file: io.BufferedIOBase, path: pathlib.Path):
    self.end = path.stat().st_size
    self._file, self._path, self._names = file, path, 0

  def tree(self, place: Path, found: dict[Path, tensors.Stored]) -> None:
    """Adds the arrays of the map that comes next."""
    if len(place) > _MAX_DEPTH:
      raise self._error("too many levels", place)
    count = self._length(self._unsigned(1), _MAP, fixed=(0x80, 16))
    count = self._known(count, "a map", place)
    self._names += count
    if self._names > _MAX_NAMES:
      raise self._error(f"more than {_MAX_NAMES} names", place)
    for _ in range(count):
      child = (*place, self._text(place))
      if child in found:
        raise self._error("a name is there twice", child)
      first = self._unsigned(1)
      if self._length(first, _MAP, fixed=(0x80, 16)) is None:
        found[child] = self._array(first, child)
      else:
        self._file.seek(-1 - _MAP.get(first, 0), os.SEEK_CUR)
        self.tree(child, found)

  def _array(self, first: int, place: Path) -> tensors.Stored:
    size = _FIXED_EXTENSION.get(first)
    if size is None:
      size = self._known(self._length(first, _EXTENSION), "an array", place)
    if self._unsigned(1) != _ARRAY:
      raise self._error("not an array", place)
    end = self._file.tell() + size
    if self._list(place) != 3:
      raise self._error("not an array", place)
    axes = self._list(place)
    if axes > _MAX_AXES:
      raise self._error(f"{axes} axes, {_MAX_AXES} at most", place)
    shape = tuple(self._integer(place) for _ in range(axes))
    name = self._text(place)
    if name not in _DTYPES:
      raise self._error(
        f"dtype {name[:40]!r}, not {' or '.join(_DTYPES)}", place
      )
    length = self._length(self._unsigned(1), _BYTES)
    start, dtype = self._file.tell(), _DTYPES[name]
    if length != math.prod(shape) * dtype.itemsize or start + length != end:
      raise self._error(f"shape {shape} does not fit its bytes", place)
    if end > self.end:
      raise self._error("the file ends early", place)
    self._file.seek(end)
    return tensors.Stored(
      path=self._path, start=start, shape=shape, dtype=dtype
    )

  def _list(self, place: Path) -> int:
    count = self._length(self._unsigned(1), _LIST, fixed=(0x90, 16))
    return self._known(count, "a list", place)

  def _integer(self, place: Path) -> int:
    first = self._unsigned(1)
    if first < 0x80:
      return first
    if first not in _UNSIGNED:
      raise self._error("no size of an axis", place)
    return self._unsigned(_UNSIGNED[first])

  def _text(self, place: Path) -> str:
    size = self._length(self._unsigned(1), _TEXT, fixed=(0xA0, 32))
    if self._known(size, "a name", place) > _MAX_NAME:
      raise self._error(f"a name of {size} bytes", place)
    try:
      return self._take(size).decode()
    except UnicodeDecodeError as error:
      raise self._error("a name that is no text", place) from error

  def _length(
    self, first: int, sizes: dict[int, int], fixed: tuple[int, int] = (0, 0)
  ) -> int | None:
    """The length that a value of one kind begins with; None: another kind."""
    if fixed[0] <= first < fixed[0] + fixed[1]:
      return first - fixed[0]
    return self._unsigned(sizes[first]) if first in sizes else None

  def _known(self, length: int | None, what: str, place: Path) -> int:
    if length is None:
      raise self._error(f"{what} was expected", place)
    return length

  def _unsigned(self, size: int) -> int:
    return int.from_bytes(self._take(size), "big")

  def _take(self, size: int) -> bytes:
    content = self._file.read(size)
    if len(content) < size:
      raise self._error("the file ends early", ())
    return content

  def _error(self, reason: str, place: Path) -> ValueError:
    where = f" at {'/'.join(place)[:100]!r}" if place else ""
    return ValueError(
      f"{self._path} is not a Flax parameter file: {reason}{where}"
    )
