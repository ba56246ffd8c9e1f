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
# Local file header: signature, then at 26 the lengths of name and extra field.
_HEADER = struct.Struct("<26xHH")
# Flags of an entry that is encrypted (bits 0 and 6) or a patch (5).
_NOT_PLAIN = 0b1100001


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
  except NotImplementedError as error:
    # All that zipfile has left to say it for: a version above those it knows.
    raise ValueError(
      f"{path}: {restricted_pickle.one_line(error)} is none that torch.save "
      "writes: the file is damaged; fetch it again"
    ) from error
  except (*restricted_pickle.ERRORS, zipfile.BadZipFile) as error:
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
  root, size = roots[0], path.stat().st_size
  order = entries.get(f"{root}/byteorder")
  if order:
    _require_plain(order, size)
    if order.file_size != 6 or archive.read(order) != b"little":
      raise ValueError("big-endian torch files are not supported")
  pickled = entries[f"{root}/data.pkl"]
  _require_plain(pickled, size)
  if pickled.file_size > restricted_pickle.MAX_BYTES:
    raise ValueError(
      f"data.pkl has {pickled.file_size} bytes, {restricted_pickle.MAX_BYTES} "
      "at most: export the weights as safetensors instead"
    )
  content = io.BytesIO(archive.read(pickled))
  result, storages = restricted_pickle.load(content)
  with path.open("rb") as file:
    for key, storage in storages.items():
      info = entries.get(f"{root}/data/{key}")
      if info is None:
        raise ValueError(f"no values for storage {key!r}")
      _require_plain(info, size)
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


def _require_plain(info: zipfile.ZipInfo, size: int) -> None:
  """Refuses an entry whose bytes do not lie in the file as they are."""
  if not 0 <= info.header_offset <= size - _HEADER.size:
    raise ValueError(
      f"{info.filename} begins at byte {info.header_offset} of {size}: the "
      "file is damaged; fetch it again"
    )
  if info.flag_bits & _NOT_PLAIN:
    raise ValueError(
      f"{info.filename} is encrypted or a patch (flags {info.flag_bits:#x}): "
      "torch.save never does that; save the weights with it again"
    )
  if info.compress_type != zipfile.ZIP_STORED or (
    info.compress_size != info.file_size
  ):
    raise ValueError(
      f"{info.filename} is compressed: torch.save never does that; save the "
      "weights with it again"
    )
