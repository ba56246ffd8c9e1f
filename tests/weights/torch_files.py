"""Files of `torch.save`, put together opcode by opcode without torch."""

import io
import pickle
import struct
import zipfile

import numpy as np

PROTOCOL_2 = b"\x80\x02"


def global_(module, name):
  return f"c{module}\n{name}\n".encode()


def text(value):
  return b"X" + struct.pack("<I", len(value)) + value.encode()


def integer(value):
  return b"J" + struct.pack("<i", value)


def sequence(*items):
  return b"(" + b"".join(items) + b"t"


def call(function, *arguments):
  return function + sequence(*arguments) + b"R"


def storage(key, count, kind="FloatStorage", view=b"N"):
  return (
    sequence(
      text("storage"),
      global_("torch", kind),
      text(key),
      text("cpu"),
      integer(count),
      view,
    )
    + b"Q"
  )


def tensor(stored, *, offset=0, shape, strides):
  return call(
    global_("torch._utils", "_rebuild_tensor_v2"),
    stored,
    integer(offset),
    sequence(*map(integer, shape)),
    sequence(*map(integer, strides)),
    b"\x89",
    call(global_("collections", "OrderedDict")),
  )


def ordered(**items):
  """An OrderedDict with attributes, as a module's state dict is."""
  empty = call(global_("collections", "OrderedDict"))
  pairs = b"".join(text(key) + value for key, value in items.items())
  metadata = b"}" + text("_metadata") + b"}s"
  return empty + b"(" + pairs + b"u" + metadata + b"b"


def named(values):
  """Body and storages of a state dict of contiguous float32 arrays."""
  items, storages = {}, []
  for number, (name, array) in enumerate(values.items()):
    array = np.ascontiguousarray(array, np.float32)
    strides = [stride // 4 for stride in array.strides]
    items[name] = tensor(
      storage(str(number), array.size), shape=array.shape, strides=strides
    )
    storages.append((str(number), array))
  return ordered(**items), storages


def write_zip(path, body, *storages, order="little", extra=(), **options):
  """Writes today's format; `options` go to every entry of the archive."""
  with zipfile.ZipFile(path, "w", **options) as archive:
    archive.writestr("archive/data.pkl", PROTOCOL_2 + body + b".")
    archive.writestr("archive/byteorder", order)
    for key, values in storages:
      archive.writestr(f"archive/data/{key}", values.tobytes())
    for name, content in extra:
      archive.writestr(name, content)
  return path


def write_legacy(path, body, *storages, keys=None):
  """Writes the format before torch 1.6; `keys` as opcodes, if not as is."""
  file = io.BytesIO()
  for head in (
    0x1950A86A20F9469CFC6C,
    1001,
    {"protocol_version": 1001, "little_endian": True},
  ):
    pickle.dump(head, file, protocol=2)
  file.write(PROTOCOL_2 + body + b".")
  if keys is None:
    pickle.dump([key for key, _ in storages], file, protocol=2)
  else:
    file.write(PROTOCOL_2 + keys + b".")
  for _, values in storages:
    file.write(struct.pack("<q", values.size) + values.tobytes())
  path.write_bytes(file.getvalue())
  return path
