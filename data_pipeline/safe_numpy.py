"""Reads files that hold pickled Python objects, building only plain data.

NumPy stores anything but numbers as a pickle, and loading a pickle can run
any code. Public data sets contain such files; this reader accepts numbers,
strings, lists, tuples, dicts and NumPy arrays of them, and nothing else.
"""

import io
import pathlib
import pickle
from typing import Any

import numpy as np
from numpy._core import multiarray

_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_FUNCTIONS = ("_reconstruct", "scalar")


class _PlainUnpickler(pickle.Unpickler):
  """Knows the four names that arrays and their scalars are made of."""

  def find_class(self, module: str, name: str) -> Any:
    if module in _MODULES and name in _FUNCTIONS:
      return getattr(multiarray, name)
    if module == "numpy" and name in ("ndarray", "dtype"):
      return getattr(np, name)
    raise ValueError(f"contains {module}.{name}, which is not plain data")


def load_object(path: pathlib.Path) -> Any:
  """The object in a zero-dimensional .npy file, or the array in any other.

  Raises:
    ValueError: if it is not a .npy file or holds more than plain data.
  """
  data = path.read_bytes()
  stream = io.BytesIO(data)
  try:
    version = np.lib.format.read_magic(stream)
    readers = {
      (1, 0): np.lib.format.read_array_header_1_0,
      (2, 0): np.lib.format.read_array_header_2_0,
    }
    _, _, dtype = readers[version](stream)
    if not dtype.hasobject:
      return np.load(io.BytesIO(data), allow_pickle=False)
    array = _PlainUnpickler(stream).load()
  except (KeyError, EOFError, ValueError, pickle.UnpicklingError) as error:
    raise ValueError(f"{path}: cannot be read safely ({error})") from error
  return array.item() if getattr(array, "ndim", None) == 0 else array


def load_pickle(path: pathlib.Path) -> Any:
  """The object in a pickle file of plain data.

  Raises:
    ValueError: if it is damaged or holds more than plain data.
  """
  try:
    with path.open("rb") as stream:
      return _PlainUnpickler(stream).load()
  except (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
  ) as error:
    raise ValueError(f"{path}: cannot be read safely ({error})") from error
