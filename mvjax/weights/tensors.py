"""Tensors that are still in their file, and views of them.

A view knows its shape and dtype at once and does its work when it is read,
so that a checkpoint can be renamed, cut and written again one tensor at a
time.
"""

import dataclasses
import functools
import math
import pathlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np


@runtime_checkable
class Tensor(Protocol):
  """A tensor that is still in its file.

  Attributes:
    shape: Its axes.
    dtype: That of the file; ml_dtypes' for bfloat16.
  """

  @property
  def shape(self) -> tuple[int, ...]: ...  # noqa: D102

  @property
  def dtype(self) -> np.dtype: ...  # noqa: D102

  def read(self) -> np.ndarray:
    """The values; a new array or one that must not be changed."""
    ...


Tensors = Mapping[str, Tensor]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stored:
  """A tensor at a place of a file, little-endian.

  It is read with seek and read, not mapped: a mapped file's pages would count
  as this program's memory until all of it is closed.

  Attributes:
    path: The file.
    start: Byte of the file where the first element lies.
    strides: Distances of the elements along each axis, in elements; None for
      row-major order.
    crc32: Check sum of the bytes that hold the tensor, where it is known.
  """

  path: pathlib.Path
  start: int
  shape: tuple[int, ...]
  dtype: np.dtype
  strides: tuple[int, ...] | None = None
  crc32: int | None = None

  def read(self) -> np.ndarray:
    """The values.

    Raises:
      ValueError: the file ends early, or its bytes are not the written ones.
    """
    strides = self.strides
    if strides is None:
      strides = row_major(self.shape)
    flat = np.empty(extent(self.shape, strides), self.dtype)
    buffer = flat.view(np.uint8).data
    with self.path.open("rb") as file:
      file.seek(self.start)
      if file.readinto(buffer) != flat.nbytes:
        raise ValueError(f"{self.path}: the file ends early, it is truncated")
    if self.crc32 is not None and zlib.crc32(buffer) != self.crc32:
      raise ValueError(
        f"{self.path}: wrong check sum, the file is damaged: get it again"
      )
    size = self.dtype.itemsize
    return np.ndarray(
      self.shape,
      self.dtype,
      buffer=flat,
      strides=tuple(stride * size for stride in strides),
    )


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
  """Strides, in elements, of a tensor whose last axis is the fastest."""
  return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def extent(shape: Sequence[int], strides: Sequence[int]) -> int:
  """Elements from the first to the last of a strided tensor, both counted."""
  if 0 in shape:
    return 0
  steps = zip(shape, strides, strict=True)
  return 1 + sum((size - 1) * stride for size, stride in steps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class View:
  """A tensor computed from others when it is read."""

  shape: tuple[int, ...]
  dtype: np.dtype
  read: Callable[[], np.ndarray]


def in_memory(array: np.ndarray) -> View:
  """A tensor that is already here."""
  return View(shape=array.shape, dtype=array.dtype, read=lambda: array)


def reshaped(tensor: Tensor, shape: tuple[int, ...]) -> View:
  """The same values under other axes.

  Raises:
    ValueError: the sizes differ.
  """
  if math.prod(shape) != math.prod(tensor.shape):
    raise ValueError(f"a tensor of shape {tensor.shape} cannot be {shape}")
  return View(
    shape=shape,
    dtype=tensor.dtype,
    read=lambda: tensor.read().reshape(shape),
  )


def transposed(tensor: Tensor, axes: Sequence[int]) -> View:
  """The tensor with its axes in another order."""
  return View(
    shape=tuple(tensor.shape[axis] for axis in axes),
    dtype=tensor.dtype,
    read=lambda: tensor.read().transpose(axes),
  )


def row_shares(tensor: Tensor, count: int) -> list[View]:
  """`count` equal shares of the first axis.

  Raises:
    ValueError: the rows cannot be shared.
  """
  if not tensor.shape or tensor.shape[0] % count:
    raise ValueError(
      f"a tensor of shape {tensor.shape} has no {count} equal shares of rows"
    )
  rows = tensor.shape[0] // count

  def share(first: int) -> View:
    return View(
      shape=(rows, *tensor.shape[1:]),
      dtype=tensor.dtype,
      read=lambda: tensor.read()[first : first + rows],
    )

  return [share(i * rows) for i in range(count)]


def concatenated(parts: Sequence[Tensor]) -> View:
  """The parts' rows after each other; inverse of `row_shares`.

  The dtype is one that holds those of all parts.
  """
  dtype = functools.reduce(jnp.promote_types, [part.dtype for part in parts])
  return View(
    shape=(sum(part.shape[0] for part in parts), *parts[0].shape[1:]),
    dtype=dtype,
    read=lambda: np.concatenate([part.read().astype(dtype) for part in parts]),
  )


def cast(tensor: Tensor, dtype: np.dtype, *, name: str) -> View:
  """The tensor in another floating dtype; integers stay as they are.

  Reading it raises ValueError, with the name, where a number is not finite.
  """
  if not jnp.issubdtype(tensor.dtype, jnp.floating):
    dtype = tensor.dtype
  return View(
    shape=tuple(tensor.shape),
    dtype=dtype,
    read=functools.partial(_read_finite, tensor, dtype, name=name),
  )


def _read_finite(tensor: Tensor, dtype: np.dtype, *, name: str) -> np.ndarray:
  with np.errstate(over="ignore"):
    values = np.asarray(tensor.read(), dtype)
  if not np.isfinite(values.astype(np.float32, copy=False)).all():
    raise ValueError(
      f"{name} is not finite in {dtype}: write a wider dtype, or look for "
      "damaged weights"
    )
  return values
