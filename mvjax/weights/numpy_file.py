"""Files of numpy and pickle with numbers in them, read without trust.

NumPy stores anything but numbers as a pickle, and loading a pickle can run any
code. Public data sets and packages contain such files. `restricted_pickle`
reads them: numbers, text, lists, tuples, dicts with text as keys, and arrays of
numbers. Whatever a header claims, memory is taken for what the file holds.
"""

import io
import math
import pathlib
import tokenize
from typing import Any

import numpy as np

from mvjax.weights import restricted_pickle

_HEADERS = {
  (1, 0): np.lib.format.read_array_header_1_0,
  (2, 0): np.lib.format.read_array_header_2_0,
}
# What else numpy's reader of headers, which parses Python, can raise.
_ERRORS = (
  *restricted_pickle.ERRORS,
  MemoryError,
  RecursionError,
  SyntaxError,
  tokenize.TokenError,
)
_NUMBERS = "biuf"


def load_npy(path: pathlib.Path, *, max_bytes: int) -> Any:
  """The numbers in a .npy file, or the plain object that was saved as one.

  Args:
    path: the file.
    max_bytes: of a file that is read at all.

  Raises:
    ValueError: if it is not a .npy file, holds more than plain data, or is
      larger; names the file.
  """
  stream = _content(path, max_bytes)
  try:
    shape, by_columns, dtype = _HEADERS[np.lib.format.read_magic(stream)](
      stream
    )
    if dtype == np.dtype(object) and shape == ():
      array = _unpickled(stream)
      if not isinstance(array, np.ndarray):
        raise TypeError("its pickle is no array")
      return array.item() if array.shape == () else array
    if dtype.kind not in _NUMBERS:
      raise ValueError(f"an array {shape} of {dtype}, which are no numbers")
    start, size = stream.tell(), stream.getbuffer().nbytes
    if math.prod(shape) * dtype.itemsize != size - start:
      raise ValueError(
        f"its header claims {shape} of {dtype}, {size - start} bytes follow"
      )
    return np.ndarray(
      shape,
      dtype,
      buffer=stream.getbuffer(),
      offset=start,
      order="F" if by_columns else "C",
    )
  except _ERRORS as error:
    raise _unreadable(path, error) from error


def load_pickle(path: pathlib.Path, *, max_bytes: int) -> Any:
  """The object in a pickle file of plain data.

  Raises:
    ValueError: as `load_npy`.
  """
  stream = _content(path, max_bytes)
  try:
    return _unpickled(stream)
  except restricted_pickle.ERRORS as error:
    raise _unreadable(path, error) from error


def _content(path: pathlib.Path, max_bytes: int) -> io.BytesIO:
  size = path.stat().st_size
  if size > max_bytes:
    raise ValueError(
      f"{path} has {size} bytes, {max_bytes} at most: it is not what it "
      "should be; get it again"
    )
  return io.BytesIO(path.read_bytes())


def _unpickled(stream: io.BytesIO) -> Any:
  value, storages = restricted_pickle.load(stream)
  if storages:
    raise ValueError("it names tensors that are in no such file")
  return value


def _unreadable(path: pathlib.Path, error: BaseException) -> ValueError:
  reason = restricted_pickle.one_line(error) or type(error).__name__
  return ValueError(
    f"{path}: cannot be read safely ({reason}): save it with numpy as numbers"
  )
