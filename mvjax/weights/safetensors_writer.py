"""Writes a safetensors file one tensor at a time.

The format: the length of the header (8 bytes, little-endian), the header
(JSON: dtype, shape and place of every tensor, and text entries), the values.
Shapes and dtypes are known before anything is read, so the header is too.
"""

import json
import math
import pathlib
from collections.abc import Mapping

import numpy as np

from mvjax.weights import safetensors_file
from mvjax.weights import tensors as tensors_lib

# Values begin at a multiple of this, as the library wants to map them.
_ALIGNMENT = 8
_NAMES = {dtype: name for name, dtype in safetensors_file.DTYPES.items()}


def write_safetensors(
  path: pathlib.Path,
  tensors: tensors_lib.Tensors,
  *,
  header: Mapping[str, str],
) -> None:
  """Writes a new file.

  Args:
    path: where there is no file yet.
    tensors: by name; each is read once, in order of names, and dropped.
    header: text entries.
  """
  entries, place = {"__metadata__": dict(header)}, 0
  for name, tensor in sorted(tensors.items()):
    end = place + size_in_bytes(tensor)
    entries[name] = {
      "dtype": _NAMES[np.dtype(tensor.dtype)],
      "shape": list(tensor.shape),
      "data_offsets": [place, end],
    }
    place = end
  text = json.dumps(entries, separators=(",", ":")).encode()
  text += b" " * (-len(text) % _ALIGNMENT)
  with path.open("xb") as file:
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for name, tensor in sorted(tensors.items()):
      values = np.asarray(tensor.read(), order="C")
      if values.dtype != tensor.dtype or values.shape != tuple(tensor.shape):
        # The header, which is written already, would lie.
        raise AssertionError(f"{name} is not what it was announced to be")
      file.write(values.reshape(-1).view(np.uint8).data)


def size_in_bytes(tensor: tensors_lib.Tensor) -> int:
  """Of the values."""
  return math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize
