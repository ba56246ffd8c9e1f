"""Reads the zip files of `torch.save` (`.pt`, `.ckpt`, `.pth`) without torch.

The archive has one folder with

* `data.pkl`: the object, whose tensors name their storages;
* `data/KEY`: the bytes of each storage, stored without compression;
* `byteorder`: "little" or "big" (older files have none: little).

So a tensor can be read from its place in the file. Check sums are checked
where a tensor fills its storage.
"""

import io
import os
import pathlib
import struct
import zipfile
from typing import Any

from mvjax.weights import restricted_pickle

SIGNATURE = b"PK\x03\x04"
# That of a checkpoint with thousands of tensors has less than one megabyte.
_MAX_PICKLE = 1 << 26
# Local file header: signature, then at 26 the lengths of name and extra field.
_HEADER = struct.Struct("<26xHH")


def read_torch_zip(path: str | os.PathLike) -> Any:
  """Reads the object that `torch.save` wrote.

  Args:
    path: the file; only little-endian files are read.

  Returns:
    The saved object, usually a mapping from names to lazy tensors.

  Raises:
    ValueError: the archive is damaged or not torch's, or it would build
      anything but arrays and containers (the refused name is given).
  """
  path = pathlib.Path(path)
  try:
    with zipfile.ZipFile(path) as archive:
      return _read(archive, path)
  except (
    *restricted_pickle.ERRORS,
    NotImplementedError,
    zipfile.BadZipFile,
  ) as error:
    reason = restricted_pickle.one_line(error)
    raise ValueError(f"{path}: {reason}") from error


def _read(archive: zipfile.ZipFile, path: pathlib.Path) -> Any:
  entries = {info.filename: info for info in archive.infolist()}
  roots = [name[:-9] for name in entries if name.endswith("/data.pkl")]
  if len(roots) != 1 or "/" in roots[0]:
    raise ValueError(
      f"a zip file without one FOLDER/data.pkl is not from torch.save (it "
      f"holds {', '.join(sorted(entries)[:4]) or 'nothing'})"
    )
  root = roots[0]
  order = entries.get(f"{root}/byteorder")
  if order and (order.file_size != 6 or archive.read(order) != b"little"):
    raise ValueError("big-endian torch files are not supported")
  pickled = entries[f"{root}/data.pkl"]
  _require_stored(pickled)
  if pickled.file_size > _MAX_PICKLE:
    raise ValueError(f"data.pkl claims {pickled.file_size} bytes")
  content = io.BytesIO(archive.read(pickled))
  result, storages = restricted_pickle.load(content)
  size = path.stat().st_size
  with path.open("rb") as file:
    for key, storage in storages.items():
      info = entries.get(f"{root}/data/{key}")
      if info is None:
        raise ValueError(f"no values for storage {key!r}")
      _require_stored(info)
      if info.file_size != storage.nbytes:
        raise ValueError(
          f"storage {key!r} holds {info.file_size} bytes, its tensors claim "
          f"{storage.nbytes}"
        )
      file.seek(info.header_offset)
      name, extra = _HEADER.unpack(file.read(_HEADER.size))
      storage.path, storage.crc32 = path, info.CRC
      storage.start = info.header_offset + _HEADER.size + name + extra
      if storage.start + storage.nbytes > size:
        raise ValueError(f"storage {key!r}: the file ends early")
  return result


def _require_stored(info: zipfile.ZipInfo) -> None:
  if info.compress_type != zipfile.ZIP_STORED or (
    info.compress_size != info.file_size
  ):
    raise ValueError(f"{info.filename} is compressed: torch.save never does")
