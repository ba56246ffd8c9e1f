"""Pictures that are damaged, enormous, or no pictures."""

import io
import os
import struct
import zlib

import numpy as np
from PIL import Image

from tests.hostile import attack
from tests.hostile.attacks import commands

_FOLDER = "samples/a-red-leather-sofa-0"


def _png(size=(16, 16), mode="RGB", kind="PNG") -> bytes:
  buffer = io.BytesIO()
  Image.new(mode, size).save(buffer, kind)
  return buffer.getvalue()


def _chunk(name: bytes, content: bytes) -> bytes:
  length = struct.pack(">I", len(content))
  check = struct.pack(">I", zlib.crc32(name + content))
  return length + name + content + check


def _claimed(width, height, *, data=b"\x78\x9c\x03\x00\x00\x00\x00\x01"):
  """A PNG that says how large it is."""
  head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
  return (
    b"\x89PNG\r\n\x1a\n"
    + _chunk(b"IHDR", head)
    + _chunk(b"IDAT", data)
    + _chunk(b"IEND", b"")
  )


def _text_bomb():
  """A comment of a hundred megabytes in a hundred kilobytes."""
  comment = b"a\0\0" + zlib.compress(bytes(100_000_000), 9)
  good = _png()
  return good[:33] + _chunk(b"zTXt", comment) + good[33:]


def _flipped(content, place):
  return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def _bytes(make):
  return lambda path: path.write_bytes(make())


def _link(target):
  return lambda path: (path.unlink(), path.symlink_to(target))


def _special(make):
  return lambda path: (path.unlink(), make(path))


_DAMAGES = {
  "nothing": _bytes(lambda: b""),
  "text": _bytes(lambda: b"this is a picture"),
  "half a picture": _bytes(lambda: _png((64, 64))[:60]),
  "a flipped bit": _bytes(lambda: _flipped(_png(), 45)),
  "13,000 pixels on a side": _bytes(lambda: _png((13_000, 13_000))),
  "claims of two billion pixels": _bytes(lambda: _claimed(46_000, 46_000)),
  "claims of all pixels": _bytes(lambda: _claimed(2**31 - 1, 2**31 - 1)),
  "no pixels": _bytes(lambda: _claimed(0, 0)),
  "a comment that is a bomb": _bytes(_text_bomb),
  "a GIF by another name": _bytes(lambda: _png(kind="GIF")),
  "a TIFF by another name": _bytes(lambda: _png(kind="TIFF")),
  "another size": _bytes(lambda: _png((8, 8))),
  "not square": _bytes(lambda: _png((16, 8))),
  "one pixel": _bytes(lambda: _png((1, 1))),
  "sixteen bits": _bytes(lambda: _png(mode="I;16")),
  "four inks": _bytes(lambda: _png(mode="CMYK", kind="JPEG")),
  "a web page": _bytes(lambda: b"<svg xmlns='x'><script>1</script></svg>"),
  "a link to nothing": _link("nowhere.png"),
  "a link to itself": _link("view_00.png"),
  "a file that never ends": _link("/dev/zero"),
  "a pipe that nobody fills": _special(os.mkfifo),
  "a folder": _special(os.mkdir),
}
_READERS = {
  "reconstruct": commands.RECONSTRUCT,
  "figure": commands.FIGURE,
  "images": commands.IMAGES,
  "consistency": commands.CONSISTENCY,
  "view": commands.VIEW,
}


def _view(reader, name, damage):
  """The first view of a sample is damaged."""

  def build(scene):
    scene.copy("samples")
    damage(scene.home / _FOLDER / "view_00.png")

  return attack.Attack(
    name=name,
    command=_READERS[reader],
    build=build,
    # Other samples are good, and a page shows what there is.
    ends=attack.EITHER,
    writes=("out", "samples"),
  )


def _render(name, damage, file):
  """A picture of a render folder is damaged."""

  def build(scene):
    scene.copy("renders")
    path = scene.home / "renders/object_0" / file
    path.rename(path.with_name("view_00.png"))
    damage(path.with_name("view_00.png"))
    path.with_name("view_00.png").rename(path)

  return attack.Attack(
    name=f"{file}: {name}",
    command=commands.BUILD,
    build=build,
    ends=attack.EITHER,
    writes=("out", "renders"),
  )


def _public(name, damage):
  def build(scene):
    scene.copy("transforms")
    damage(scene.home / "transforms/chair/r_0.png")

  return attack.Attack(
    name=f"transforms: {name}",
    command=commands.layout("transforms"),
    build=build,
    ends=attack.EITHER,
  )


def _depths(scene):
  """Depth that is not a number."""
  scene.copy("samples")
  for number in range(4):
    Image.fromarray(np.full((16, 16), np.nan, np.float32)).save(
      scene.home / _FOLDER / f"depth_{number:02d}.tiff"
    )
    os.rename(
      scene.home / _FOLDER / f"depth_{number:02d}.tiff",
      scene.home / _FOLDER / f"depth_{number:02d}.png",
    )


_NAMES = list(_READERS)
ATTACKS = [
  *(
    _view(_NAMES[(number + shift) % len(_NAMES)], name, damage)
    for number, (name, damage) in enumerate(_DAMAGES.items())
    for shift in (0, 2)
  ),
  *(
    _render(name, damage, ("0.png", "depth.png")[number % 2])
    for number, (name, damage) in enumerate(_DAMAGES.items())
  ),
  *(_public(name, damage) for name, damage in list(_DAMAGES.items())[::3]),
  attack.Attack(
    name="depths that are no numbers",
    command=commands.CONSISTENCY,
    build=_depths,
    ends=attack.EITHER,
  ),
]
