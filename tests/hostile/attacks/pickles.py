"""Torch files and other files of weights that want more than to be read.

Those of `tests/weights`, each given to one of the commands that read weights,
and some that are made to last.
"""

import itertools
import struct

import test_damaged_files as damaged
import torch_files
from torch_files import global_, ordered, sequence, storage, tensor, text

from tests.hostile import attack
from tests.hostile.attacks import commands

_FILE = "weights.file"
# All commands that read a file of weights; of LoRAs and networks that measure
# too.
_READERS = (
  ("convert", _FILE, "--out=out"),
  ("export", f"--checkpoint={_FILE}", "--out=out"),
  (*commands.CHAIR, "--score=mv", f"--multiview={_FILE}"),
  (*commands.CONVERT, f"--lora={_FILE}"),
  (*commands.CHAIR, f"--image={_FILE}", "--score=2d"),
)


def _reading(number, name, write, says):
  return attack.Attack(
    name=name,
    command=_READERS[number % len(_READERS)],
    build=lambda scene: write(scene.home / _FILE),
    says=says,
  )


_TUPLE = b"\x85"  # a tuple of one
_PAIR = b"\x86"  # a tuple of two
_PUT, _GET = b"q\x01", b"h\x01"
_DOUBLE = _PUT + _GET + _PAIR


def _dict(*pairs):
  return b"}(" + b"".join(pairs) + b"u"


def _integer(value):
  content = value.to_bytes(value.bit_length() // 8 + 1, "little")
  return b"\x8b" + struct.pack("<i", len(content)) + content


def _colliding():
  """Keys of one hash: a dict of them takes quadratic time."""
  keys = (_integer(n * (2**61 - 1)) for n in range(60_000))
  return _dict(*(key + b"N" for key in keys))


# What makes a reader work for long, fall over or tell too much.
_BODIES = {
  # 2 ** 60 leaves, in a few hundred bytes.
  "tuples that double": b"N" + _DOUBLE * 60,
  "tuples that double, as a key": _dict(b"N" + _DOUBLE * 60 + b"N"),
  "tuples that double, as an argument": global_("os", "system")
  + b"N"
  + _DOUBLE * 60
  + _TUPLE
  + b"R",
  "tuples 100,000 deep": b"N" + _TUPLE * 100_000,
  "tuples 100,000 deep, as a key": _dict(b"N" + _TUPLE * 100_000 + b"N"),
  "lists 100,000 deep": b"]" * 100_000 + b"a" * 99_999,
  "dicts 100,000 deep": (b"}" + text("a")) * 100_000 + b"N" + b"s" * 100_000,
  "a million marks": b"(" * 1_000_000,
  "keys of one hash": _colliding(),
  "a number of a megabyte": _integer(1 << 8_000_000),
  "a key of a megabyte": _dict(_integer(1 << 8_000_000) + b"N"),
  "a long name of what is not built": global_("os", "x" * 880_000) + b")R",
  "a long module of what is not built": global_("o" * 880_000, "x") + b")R",
  "a long persistent id": text("x" * 880_000) + b"Q",
  "a long type of a storage": storage("0", 4, "F" * 880_000),
  "a long key of a storage": storage("0" * 880_000, 4),
  "long names of no tensors": _dict(text("n" * 880_000) + b"N"),
  "a name of many lines": _dict(text("line\n" * 999) + b"N"),
  "a name that speaks to the terminal": _dict(text("\x1b[2J\x07\r") + b"N"),
  "a shape of a million axes": ordered(
    x=tensor(storage("0", 4), shape=(1,) * 200_000, strides=(0,) * 200_000)
  ),
  "a shape of huge axes": ordered(
    x=tensor(storage("0", 4), shape=(2**31 - 1,) * 9, strides=(0,) * 9)
  ),
  "a dict that holds itself": b"}" + _PUT + text("a") + _GET + b"s",
  "a list that holds itself": b"]" + _PUT + _GET + b"a",
  "a state of a dict that holds itself": b"}"
  + _PUT
  + text("state_dict")
  + _GET
  + b"s",
  "a memo of a million": b"N"
  + b"".join(b"r" + struct.pack("<I", n * 4000) for n in range(100_000)),
  "a memo that is far": b"r\xff\xff\xff\xff",
  "a stack of a million": b"N" * 1_000_000,
  "bytes without their end": b"\x8e" + struct.pack("<Q", 2**62),
  "a frame beyond the file": b"\x95" + struct.pack("<Q", 2**62),
  "a buffer from outside": b"\x97",
  "a bytearray of 2 ** 40": b"\x96" + struct.pack("<Q", 2**40),
  "ordered pairs that are none": torch_files.call(
    global_("collections", "OrderedDict"), b"](K\x01K\x02e"
  ),
  "a parameter of nothing": torch_files.call(
    global_("torch._utils", "_rebuild_parameter"), b"N", b"\x88", b"N"
  ),
  "a tensor of too few words": torch_files.call(
    global_("torch._utils", "_rebuild_tensor_v2")
  ),
  "words as strides": torch_files.call(
    global_("torch._utils", "_rebuild_tensor_v2"),
    storage("0", 4),
    text("0"),
    sequence(text("4")),
    sequence(text("1")),
    b"\x89",
    b"N",
  ),
}


def _written(body, legacy):
  def write(path):
    if legacy:
      torch_files.write_legacy(path, body, damaged.FOUR)
    else:
      torch_files.write_zip(path, body, damaged.FOUR)

  return write


_OWN = [
  (f"{name}{', legacy' if legacy else ''}", _written(body, legacy), "")
  for number, (name, body) in enumerate(_BODIES.items())
  for legacy in ((False, True) if number % 3 == 0 else (False,))
]
_OTHERS = [
  # Some commands refuse the file before they reach what is damaged.
  (name, write, f"{reason}|no UNet|no model there")
  for name, (write, reason) in damaged.FILES.items()
]

ATTACKS = [
  _reading(number, *entry)
  for number, entry in enumerate(itertools.chain(_OTHERS, _OWN))
]
