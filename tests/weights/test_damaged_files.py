"""Damaged and hostile files of weights: one clear line each, and no effect.

They are read to their last tensor.
"""

import json
import pathlib
import struct
import zipfile

import numpy as np
import pytest
import refusal
from torch_files import (
  call,
  global_,
  integer,
  ordered,
  sequence,
  storage,
  tensor,
  text,
  write_legacy,
  write_zip,
)

from mvjax.weights import restricted_pickle, torch_zip, weight_file

MARKER = "marker-of-a-pickle"
FOUR = ("0", np.arange(4, dtype=np.float32))
GOOD = tensor(storage("0", 4), shape=(4,), strides=(1,))


def zipped(body, *, storages=(FOUR,), **options):
  return lambda path: write_zip(path, body, *storages, **options)


def edited(change):
  """A good zip file with `change` applied to its bytes."""

  def write(path):
    zipped(ordered(good=GOOD))(path)
    path.write_bytes(change(path.read_bytes()))

  return write


def raw(content):
  return lambda path: path.write_bytes(content)


def flip(content, place):
  return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def in_directory(content, name, place, new):
  """Changes what the archive's directory says of an entry.

  `place` counts from the signature: 6 version needed, 8 flags, 10 compression,
  42 start.
  """
  entry = content.rindex(f"archive/{name}".encode()) - 46
  assert content[entry : entry + 4] == b"PK\x01\x02"
  place += entry
  return content[:place] + new + content[place + len(new) :]


def touch(module, name):
  """The call that a hostile file would like to make."""
  return call(global_(module, name), text(f"touch {MARKER}"))


def viewed(shape, strides, offset=0, count=4):
  return zipped(
    ordered(
      x=tensor(storage("0", count), offset=offset, shape=shape, strides=strides)
    )
  )


def header(entries, data=bytes(64), length=None):
  """A safetensors file with a header of these entries (or of this text)."""
  if not isinstance(entries, str):
    entries = json.dumps(entries)
  size = len(entries) if length is None else length
  return raw(struct.pack("<Q", size) + entries.encode() + data)


def entry(dtype="F32", shape=(16,), offsets=(0, 64)):
  return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def without_pickle(path):
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("archive/data/0", bytes(16))


def duplicate(path):
  one = json.dumps({"a": entry()})[1:-1]
  header(f"{{{one}, {one}}}")(path)


# A tuple in a tuple in a tuple ...
NESTED = b")" + b"\x85" * 1000
# Each holds the one before it twice: 2^100 parts for whoever walks through.
SHARED = b")" + b"".join(
  b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(100)
)
ENCODE = global_("_codecs", "encode")
DICT = global_("collections", "OrderedDict")


def array(shape, spec, content, *, times=1):
  """An array of numpy as pickles have it."""
  new = call(
    global_("numpy.core.multiarray", "_reconstruct"),
    global_("numpy", "ndarray"),
    sequence(integer(0)),
    text("b"),
  )
  dtype = call(global_("numpy", "dtype"), text(spec), integer(0), integer(1))
  filled = sequence(
    integer(1), sequence(*map(integer, shape)), dtype, b"\x89", content
  )
  return new + (filled + b"b") * times


def in_bytes(value):
  return b"B" + struct.pack("<I", len(value)) + value


STACK_GLOBAL = b"\x8c\x05posix\x8c\x06system\x93"
COMPRESSED = {"compression": zipfile.ZIP_DEFLATED}
ZEROS = ("0", np.zeros(4_000_000, np.float32))

FILES = {
  # The archive.
  "half a zip": (edited(lambda c: c[: len(c) // 2]), "not a zip file"),
  "zip without its end": (edited(lambda c: c[:-9]), "not a zip file"),
  "flipped value": (
    edited(lambda c: flip(c, c.index(FOUR[1].tobytes()))),
    "sum",
  ),
  "flipped pickle": (edited(lambda c: flip(c, c.index(b"good"))), "CRC"),
  "no pickle": (without_pickle, "without one FOLDER/data.pkl"),
  "two pickles": (
    zipped(ordered(x=GOOD), extra=[("other/data.pkl", b".")]),
    "without one",
  ),
  "compression bomb": (
    zipped(
      ordered(x=tensor(storage("0", 4_000_000), shape=(4,), strides=(1,))),
      storages=[ZEROS],
      **COMPRESSED,
    ),
    "is compressed",
  ),
  "compressed byte order": (
    edited(lambda c: in_directory(c, "byteorder", 10, b"\x63\0")),
    "archive/byteorder is compressed",
  ),
  "encrypted pickle": (
    edited(lambda c: in_directory(c, "data.pkl", 8, b"\x01\0")),
    r"archive/data\.pkl is encrypted.*flags 0x1\)",
  ),
  "strongly encrypted storage": (
    edited(lambda c: in_directory(c, "data/0", 8, b"\x40\0")),
    r"archive/data/0 is encrypted.*flags 0x40\)",
  ),
  "patch of a pickle": (
    edited(lambda c: in_directory(c, "data.pkl", 8, b"\x20\0")),
    r"archive/data\.pkl is encrypted or a patch.*flags 0x20\)",
  ),
  "zip of a later standard": (
    edited(lambda c: in_directory(c, "data/0", 6, b"\xff\0")),
    "zip file version 25.5 is none that torch.save writes.*fetch it again",
  ),
  "entry beyond the file": (
    edited(lambda c: in_directory(c, "data/0", 42, b"\xff\xff\xff\0")),
    "archive/data/0 begins at byte 16777215",
  ),
  "entry before the file": (
    edited(lambda c: c[:-5] + bytes([c[-5] ^ 0x20]) + c[-4:]),
    "begins at byte -",
  ),
  "missing storage": (zipped(ordered(x=GOOD), storages=()), "storage '0'"),
  "big-endian": (
    lambda path: write_zip(path, ordered(x=GOOD), FOUR, order="big"),
    "big-endian",
  ),
  # Calls.
  "os.system": (zipped(touch("os", "system")), "os.system"),
  "eval": (zipped(touch("builtins", "eval")), "builtins.eval"),
  "Python 2's eval": (zipped(touch("__builtin__", "eval")), "__builtin__.eval"),
  "getattr": (
    zipped(call(global_("builtins", "getattr"), global_("os", "x"), text("y"))),
    "builtins.getattr",
  ),
  "partial": (
    zipped(call(global_("functools", "partial"), global_("os", "system"))),
    "functools.partial",
  ),
  "call of a result": (
    zipped(call(call(global_("collections", "OrderedDict")), text("x"))),
    "refused to build dict",
  ),
  "call by newer opcodes": (
    zipped(STACK_GLOBAL + sequence(text("true")) + b"R"),
    "posix.system",
  ),
  "new object": (
    zipped(global_("subprocess", "Popen") + sequence(text("true")) + b"\x81"),
    "subprocess.Popen",
  ),
  "inline instance": (zipped(b"(ios\nsystem\n"), "os.system"),
  "old instance": (zipped(b"(" + global_("os", "system") + b"o"), "os.system"),
  "extension code": (zipped(b"\x82\x01"), "refused to build"),
  "state of a class": (
    zipped(global_("os", "environ") + b"}" + text("a") + text("b") + b"sb"),
    "os.environ",
  ),
  "a module": (
    zipped(global_("torch.nn.modules.linear", "Linear") + b")\x81"),
    "torch.nn.modules.linear.Linear",
  ),
  "a call in a legacy file": (
    lambda path: write_legacy(path, touch("os", "system")),
    "os.system",
  ),
  # Storages and views.
  "persistent id of no storage": (zipped(text("x") + b"Q"), "tuple"),
  "other persistent id": (
    zipped(
      sequence(
        text("other"), global_("torch", "FloatStorage"), text("0"), b"NK\x04"
      )
      + b"Q"
    ),
    "unknown storage",
  ),
  "storage of another module": (
    zipped(
      sequence(
        text("storage"),
        global_("os", "FloatStorage"),
        text("0"),
        b"N",
        b"K\x04",
      )
      + b"Q"
    ),
    "os.FloatStorage",
  ),
  "complex storage": (
    zipped(storage("0", 4, "ComplexFloatStorage")),
    "torch.ComplexFloatStorage",
  ),
  "negative storage": (zipped(storage("0", -4)), "negative size"),
  "storage beyond its bytes": (viewed((4,), (1,), count=5), "16 bytes"),
  "huge storage": (viewed((4,), (1,), count=2_000_000_000), "16 bytes"),
  "storage of two types": (
    zipped(sequence(storage("0", 4), storage("0", 4, "IntStorage"))),
    "two types",
  ),
  "path as a storage": (
    zipped(storage("../../../etc/passwd", 4)),
    "no values for storage",
  ),
  "shape beyond the storage": (viewed((5,), (1,)), "leaves its storage"),
  "offset beyond the storage": (viewed((4,), (1,), 1), "leaves its storage"),
  "strides beyond the storage": (viewed((2, 2), (3, 1)), "leaves its storage"),
  "expansion bomb": (viewed((50_000, 50_000), (0, 0)), "leaves its storage"),
  "negative stride": (viewed((4,), (-1,)), "negative size"),
  "negative offset": (viewed((4,), (1,), -1), "negative size"),
  # The pickle itself.
  "empty pickle": (zipped(b""), "empty|list"),
  "unknown memo": (zipped(b"h\x07"), "7"),
  "no mark": (zipped(b"t"), "empty"),
  "string without its end": (zipped(b"X\xff\xff\xff\x7fab"), "expected"),
  "unknown opcode": (zipped(b"\xff"), "opcode"),
  "text opcode": (zipped(b"I1\n"), "INT"),
  "key that is hashed for ever": (zipped(b"}" + NESTED + b"Ns"), "as a key"),
  "parts of parts as a module": (
    zipped(SHARED + text("x") + b"\x93"),
    "tuple instead of str",
  ),
  "parts of parts as an encoding": (
    zipped(call(ENCODE, text("x"), SHARED)),
    "tuple instead of str",
  ),
  "parts of parts as the keys of a legacy file": (
    lambda path: write_legacy(path, GOOD, FOUR, keys=b"]" + SHARED + b"a"),
    "tuple instead of str",
  ),
  "parts of parts": (zipped(SHARED), "holds a tuple"),
  "5,000 levels": (
    zipped(b")" + b"\x85" * 5_000 + text("x") + b"\x93"),
    "tuple instead of str",
  ),
  "one key as number and text": (
    zipped(b"}(" + b"K\x01N" + text("1") + b"Nu"),
    "the key '1' twice",
  ),
  "a memo of chosen places": (
    zipped(b"Nr" + struct.pack("<I", 2**31)),
    "place 2147483648 of the memo",
  ),
  "100 axes": (viewed((1,) * 100, (1,) * 100), "100 axes, 64 at most"),
  "a size of many digits": (
    zipped(
      call(
        global_("torch", "Size"),
        sequence(b"\x8b" + struct.pack("<I", 5000) + b"\x7f" * 5000),
      )
    ),
    r"a size beyond 2\^63",
  ),
  "array of objects": (
    zipped(array((2,), "O8", b"](NNe")),
    "array of objects",
  ),
  "array of pointers": (
    zipped(array((), "O8", in_bytes(b"\x41" * 8))),
    "bytes instead of list",
  ),
  "array beyond its bytes": (
    zipped(array((2_000_000_000,), "f8", in_bytes(bytes(8)))),
    "in 8 bytes, which do not fit",
  ),
  "array of other objects": (
    zipped(array((1,), "V8", in_bytes(bytes(8)))),
    "numpy.dtype 'V8'",
  ),
  "array filled twice": (
    zipped(array((), "O8", b"](Ne", times=2)),
    "filled twice",
  ),
  "a list": (zipped(b"]"), "holds a list"),
  "no tensors": (
    zipped(b"}" + text("epoch") + b"K\x01s"),
    "no tensors .*ep",
  ),
  "half a legacy file": (
    lambda path: path.write_bytes(
      write_legacy(path, GOOD, FOUR).read_bytes()[:-5]
    ),
    "ends early",
  ),
  # safetensors.
  "header beyond the file": (header({"a": entry()}, length=5000), "complete"),
  "endless header": (header({"a": entry()}, length=2**63), "complete"),
  "header cut off": (header('{"a":'), "complete"),
  "header of a list": (header("{}[]"), "complete"),
  "unknown dtype": (header({"a": entry("F31")}), "F31"),
  "dtype of no network": (header({"a": entry("C64", (8,))}), "dtype C64"),
  "values beyond the file": (header({"a": entry(shape=(99,))}), "complete"),
  "offsets beyond the file": (
    header({"a": entry(offsets=(64, 128))}),
    "complete",
  ),
  "overlapping values": (header({"a": entry(), "b": entry()}), "complete"),
  "values of another shape": (header({"a": entry(shape=(4, 5))}), "complete"),
  "values cut off": (header({"a": entry()}, bytes(63)), "complete"),
  "values of nothing": (header({"a": entry()}, bytes(65)), "complete"),
  "negative size": (header({"a": entry(shape=(-4, -4))}), "complete"),
  "size that is no number": (
    header({"a": entry(shape=(float("nan"),))}),
    "complete",
  ),
  "one name twice": (duplicate, "twice"),
  # No weights at all.
  "empty file": (raw(b""), "is empty"),
  "text": (raw(b"these are not weights"), "neither .* b'these are no'"),
  "web page": (raw(b"<!DOCTYPE html><html></html>"), "neither"),
  "git-lfs pointer": (
    raw(b"version https://git-lfs.github.com/spec/v1\noid sha256:0"),
    "git lfs pull",
  ),
  "folder": (lambda path: path.mkdir(), "is not a file"),
}


@pytest.mark.parametrize("kind", FILES)
def test_files(tmp_path, monkeypatch, kind):
  write, reason = FILES[kind]
  monkeypatch.chdir(tmp_path)
  path = tmp_path / "weights.file"
  write(path)

  def read():
    for lazy in weight_file.open_weights(path).values():
      lazy.read()

  message = refusal.check(read, tmp_path, names="weights.file", reason=reason)
  # The reader's own refusal, not that of the type checks of the tests.
  assert "Type-check" not in message
  assert not (tmp_path / MARKER).exists()


LONG = sequence(b"K\0" * 60)
# Bodies that do much work with what they hold once.
WORK = {
  "steps": b"N" * 40_000,
  "one text copied often": b"("
  + text("x" * 30_000)
  + b"q\0"
  + call(ENCODE, b"h\0", text("latin1")) * 300,
  "one list walked often": b"(]("
  + b"".join(text(f"{i}") + b"N\x86" for i in range(99))
  + b"eq\0"
  + call(DICT, b"h\0") * 300,
  "sizes walked often": b"("
  + LONG
  + b"q\0"
  + call(global_("torch", "Size"), b"h\0") * 400,
  "bytes copied often": b"("
  + in_bytes(bytes(30_000))
  + b"q\0"
  + array((30_000,), "u1", b"h\0") * 300,
}


@pytest.mark.parametrize("kind", WORK)
def test_the_work_of_a_pickle_is_bounded(tmp_path, monkeypatch, kind):
  monkeypatch.setattr(restricted_pickle, "MAX_STEPS", 20_000)
  path = write_zip(tmp_path / "weights.file", WORK[kind])
  refusal.check(
    lambda: weight_file.open_weights(path),
    tmp_path,
    names="weights.file",
    reason="a pickle of more than 20000 steps.*safetensors",
  )


def test_keys_cannot_be_chosen_to_collide(tmp_path):
  """Multiples of 2^61 - 1 have one hash; as text they have random ones."""
  keys = [i * (2**61 - 1) for i in range(1, 9)]
  pairs = b"".join(b"\x8a\x0b" + k.to_bytes(11, "little") + b"N" for k in keys)
  path = write_zip(tmp_path / "weights.file", b"}(" + pairs + b"u")
  assert len({hash(key) for key in keys}) == 1
  assert list(torch_zip.read_torch_zip(path)) == [str(key) for key in keys]


def test_what_these_are_made_from_is_not_damaged(tmp_path):
  path = tmp_path / "weights.file"
  for write in (
    edited(lambda c: c),
    viewed((4,), (1,)),
    header({"a": entry()}),
  ):
    write(path)
    assert len(weight_file.open_weights(path)) == 1


def test_the_program_prints_one_line(tmp_path, monkeypatch, capsys, launch_py):
  path = tmp_path / "model.ckpt"
  zipped(touch("os", "system"))(path)
  root = pathlib.Path(__file__).parents[2]
  monkeypatch.chdir(tmp_path)
  code = launch_py(
    *("sample", "--prompt=a chair", "--score=mv"),
    *(f"--config={root}/configs/nano.py", f"--multiview={path}"),
    f"--out={tmp_path}/out",
  )
  assert code == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert "refused to build os.system" in line
  assert not (tmp_path / MARKER).exists()
  # `out` is made to see whether it can be, and stays empty.
  assert not list((tmp_path / "out").iterdir())
