"""Reads PyTorch's old (pre-zip) `.pth` files without torch and without trust.

The format, read front to back:

1. three pickles: a magic number, a protocol version, the machine's traits;
2. one pickle of the object, whose tensors name their storages;
3. one pickle with the list of storage keys;
4. for each key in that order: an int64 element count, then the raw values.
"""

import io
import os
import pathlib
import sys
from typing import Any

from mvjax.weights import pickle_values, restricted_pickle

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
# Bytes of the number of values before them.
_COUNT = 8
# How the pickled magic number looks: every file begins with it.
SIGNATURE = b"\x80\x02\x8a\x0a" + _MAGIC.to_bytes(10, "little") + b"."


def read_legacy_torch(path: str | os.PathLike) -> Any:
  """Reads the object that `torch.save` wrote into an old-format file.

  Args:
    path: the file; only little-endian files are read.

  Returns:
    The saved object, usually a mapping from names to lazy tensors.

  Raises:
    ValueError: if the file is of another format, is truncated, or would build
      anything but arrays and containers (the refused name is given).
  """
  path = pathlib.Path(path)
  try:
    # The pickles are decoded from memory: a read beyond its end gives less.
    with path.open("rb") as file:
      head = io.BytesIO(file.read(restricted_pickle.MAX_BYTES))
    return _read(head, path)
  except restricted_pickle.ERRORS as error:
    reason = restricted_pickle.one_line(error)
    raise ValueError(f"{path}: {reason}") from error


def _read(head: io.BytesIO, path: pathlib.Path) -> Any:
  def load() -> Any:
    return restricted_pickle.load(head)[0]

  if load() != _MAGIC or load() != _PROTOCOL:
    raise ValueError("not a legacy torch file (wrong magic number)")
  if not load().get("little_endian") or sys.byteorder != "little":
    raise ValueError("big-endian torch files and machines are not supported")
  result, storages = restricted_pickle.load(head)
  keys = pickle_values.typed(load(), list)
  end, place = path.stat().st_size, head.tell()
  with path.open("rb") as file:
    for key in keys:
      storage = storages.pop(pickle_values.typed(key, str))
      file.seek(place)
      count = int.from_bytes(file.read(_COUNT), "little")
      if count != storage.count:
        raise ValueError(
          f"storage {key!r}: {count} values, not {storage.count}"
        )
      storage.path, storage.start = path, place + _COUNT
      place = storage.start + storage.nbytes
      if place > end:
        raise ValueError(f"storage {key!r}: the file ends early")
  if storages:
    raise ValueError(f"no values for storages {sorted(storages)[:4]}")
  return result
