"""Lazy tensors of a `.safetensors` file.

The library checks the header: lengths, offsets and shapes against the file.
Tensors are then read from their place in the file, as it would keep what was
read in memory until the file is closed.
"""

import json
import pathlib
import struct
from typing import Any

import ml_dtypes
import numpy as np
import safetensors

from mvjax.weights import tensors

DTYPES = {
  "BF16": np.dtype(ml_dtypes.bfloat16),
  "BOOL": np.dtype(np.bool_),
  "F16": np.dtype(np.float16),
  "F32": np.dtype(np.float32),
  "F64": np.dtype(np.float64),
  "I8": np.dtype(np.int8),
  "I16": np.dtype(np.int16),
  "I32": np.dtype(np.int32),
  "I64": np.dtype(np.int64),
  "U8": np.dtype(np.uint8),
}
_METADATA = "__metadata__"


def open_safetensors(path: str | pathlib.Path) -> dict[str, tensors.Stored]:
  """The tensors of a file, by name.

  Raises:
    ValueError: the header is damaged, or lies about the file.
  """
  path = pathlib.Path(path)
  header, start = _header(path)
  return {
    key: tensors.Stored(
      path=path,
      start=start + entry["data_offsets"][0],
      shape=tuple(entry["shape"]),
      dtype=_dtype(entry["dtype"], f"{path}: {key}"),
    )
    for key, entry in header.items()
    if key != _METADATA
  }


def read_header(path: str | pathlib.Path) -> dict[str, str]:
  """The text entries beside the tensors; ValueError as above."""
  return _header(pathlib.Path(path))[0].get(_METADATA, {})


def _header(path: pathlib.Path) -> tuple[dict[str, Any], int]:
  """The header, and where the values behind it begin."""

  def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
      raise ValueError(f"{path}: a name is twice in the header")
    return found

  try:
    with safetensors.safe_open(path, "np"), path.open("rb") as file:
      (size,) = struct.unpack("<Q", file.read(8))
      return json.loads(file.read(size), object_pairs_hook=unique), 8 + size
  except safetensors.SafetensorError as error:
    reason = " ".join(str(error).split())
    raise ValueError(
      f"{path} is not a complete safetensors file ({reason}): get it again"
    ) from error


def _dtype(name: str, where: str) -> np.dtype:
  if name not in DTYPES:
    raise ValueError(
      f"{where} has dtype {name}: must be one of {', '.join(DTYPES)}"
    )
  return DTYPES[name]
