"""Arrays of numpy that hold cameras, and what else such files can hold.

The cameras of the zero123 layout are plain arrays, those of SPAD are pickles.
"""

import io
import pickle
import struct

import numpy as np

from tests.hostile import attack
from tests.hostile.attacks import commands


class _Call:
  """Pickles as a call."""

  def __init__(self, function, *arguments):
    self._call = function, arguments

  def __reduce__(self):
    return self._call


def _npy(header: str, data: bytes = b"", version=(1, 0)) -> bytes:
  """A .npy file with this header."""
  head = header.encode("latin1") + b"\n"
  length = struct.pack("<H" if version == (1, 0) else "<I", len(head))
  return b"\x93NUMPY" + bytes(version) + length + head + data


def _described(descr, shape=(), data=b"", fortran=False) -> bytes:
  return _npy(
    repr({"descr": descr, "fortran_order": fortran, "shape": shape}), data
  )


def _saved(array) -> bytes:
  buffer = io.BytesIO()
  np.save(buffer, array, allow_pickle=True)
  return buffer.getvalue()


def _object(pickled: bytes) -> bytes:
  """A .npy file of one object, with a pickle of any content."""
  return _described("|O", (), pickled)


def _raw_pickle(body: bytes) -> bytes:
  return _object(b"\x80\x04" + body + b".")


def _global(module, name):
  return f"c{module}\n{name}\n".encode()


_MULTIARRAY = "numpy.core.multiarray"
_RECONSTRUCT = (
  _global(_MULTIARRAY, "_reconstruct")
  + _global("numpy", "ndarray")
  + b"K\x00\x85C\x01b\x87R"
)


def _dtype(kind, state):
  """A dtype that was put into any state."""
  made = _global("numpy", "dtype") + pickle.dumps((kind, False, True))[2:-1]
  return made + b"R" + pickle.dumps(state, 2)[2:-1] + b"b"


def _array_state(shape, dtype, content):
  """An array that was put into any state."""
  return (
    _RECONSTRUCT
    + b"(K\x01"
    + pickle.dumps(shape, 2)[2:-1]
    + dtype
    + b"\x89"
    + pickle.dumps(content, 2)[2:-1]
    + b"tb"
  )


# An object's dtype that says it holds no objects.
_LYING = _dtype("O8", (3, "|", None, None, None, -1, -1, 0))
_LYING_RECORD = _dtype(
  "V8",
  (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0),
)
_PLAIN = _dtype("f8", (3, "<", None, None, None, -1, -1, 0))
_SCALAR = _global(_MULTIARRAY, "scalar")
_POINTERS = b"\x41" * 64
_DEEP = 100_000

# Of the kind of the first letter: as zero123 (plain) and SPAD (pickled) have.
_FILES = {
  "no array": b"these are no numbers",
  "nothing": b"",
  "half a header": _described("<f8", (3, 4))[:40],
  "half the numbers": _described("<f8", (3, 4), bytes(40)),
  "an unknown version": b"\x93NUMPY\x09\x00" + bytes(99),
  "a header of code": _npy("__import__('os').system('touch marker')"),
  "a header 9,000 deep": _npy("(" * 9000),
  "a header of signs": _npy("-" * 9000 + "1"),
  "a header of four gigabytes": b"\x93NUMPY\x02\x00\xff\xff\xff\xff{",
  "a header of a megabyte": _npy(
    repr({"descr": "<f8", "fortran_order": False, "shape": (1,) * 300_000}),
    version=(2, 0),
  ),
  "a shape of terabytes": _described("<f8", (10**6, 10**6)),
  "a shape that overflows": _described("<f8", (2**40, 2**40)),
  "a negative shape": _described("<f8", (-3, 4), bytes(96)),
  "a shape of words": _described("<f8", ("3", 4), bytes(96)),
  "texts": _saved(np.full((3, 4), "far")),
  "dates": _saved(np.zeros((3, 4), "M8[s]")),
  "complex numbers": _saved(np.full((3, 4), 1j)),
  "records": _saved(np.zeros((3, 4), [("a", "f8")])),
  "records with objects": _described([("a", "|O")], (3, 4), _POINTERS * 2),
  "a dtype of no kind": _described("|Z9", (3, 4)),
  "a dtype of a billion bytes": _described("|V1000000000", (3, 4)),
  "a dtype in a dtype": _described([("a", [("b", "<f8")] * 1)] * 2, (3, 4)),
  "another shape": _saved(np.zeros((4, 4))),
  "an empty axis": _saved(np.zeros((0, 4))),
  "not a number": _saved(np.full((3, 4), np.nan)),
  "infinite numbers": _saved(np.full((3, 4), np.inf)),
  "a singular matrix": _saved(np.zeros((3, 4))),
  "objects": _saved(np.array([[1, "a"]], object)),
  "a call of os.system": _saved(
    np.array(_Call(__import__("os").system, "touch marker"), object)
  ),
  "a call of eval": _saved(
    np.array(_Call(eval, "open('marker', 'w')"), object)
  ),
  "a zip of arrays": b"PK\x03\x04" + bytes(99),
}
_PICKLED = {
  "pointers as objects": _raw_pickle(_array_state((8,), _LYING, _POINTERS)),
  "pointers in records": _raw_pickle(
    _array_state((8,), _LYING_RECORD, _POINTERS)
  ),
  "a pointer as a number": _raw_pickle(
    _SCALAR + _LYING_RECORD + b"C\x08AAAAAAAA\x86R"
  ),
  "a number of objects": _raw_pickle(_SCALAR + _LYING + b"C\x08AAAAAAAA\x86R"),
  "an array larger than its bytes": _raw_pickle(
    _array_state((10**6,), _PLAIN, bytes(8))
  ),
  "an array of petabytes": _raw_pickle(_array_state((2**50,), _PLAIN, b"")),
  "an array of one number, ten gigabytes of it": _raw_pickle(
    _global(_MULTIARRAY, "_reconstruct")
    + _global("numpy", "ndarray")
    + b"J"
    + struct.pack("<i", 1_500_000_000)
    + b"\x85C\x01d\x87R"
  ),
  "a state of words": _raw_pickle(_RECONSTRUCT + b"X\x01\x00\x00\x00ab"),
  "a dtype of another state": _raw_pickle(_dtype("f8", (9, "x"))),
  "a dtype without a state": _raw_pickle(_global("numpy", "dtype") + b")R"),
  "tuples that double": _raw_pickle(b"N" + b"q\x01h\x01\x86" * 60),
  "tuples that double, as a key": _raw_pickle(
    b"}N" + b"q\x01h\x01\x86" * 60 + b"Ns"
  ),
  "tuples 100,000 deep": _raw_pickle(b"N" + b"\x85" * _DEEP),
  "tuples 100,000 deep, as a key": _raw_pickle(b"}N" + b"\x85" * _DEEP + b"Ns"),
  "keys of one hash": _raw_pickle(
    b"}("
    + b"".join(
      pickle.dumps(n * (2**61 - 1), 4)[2:-1].removesuffix(b".") + b"N"
      for n in range(60_000)
    )
    + b"u"
  ),
  "a long name that is no plain data": _raw_pickle(
    _global("os", "x" * 880_000)
  ),
  "a memo that is far": _raw_pickle(b"Nr\xff\xff\xff\x7f"),
  "bytes without their end": _raw_pickle(b"\x8e" + struct.pack("<Q", 2**62)),
  "a list": _saved(np.array(None, object)),
  "no field of view": _saved(np.array({"matrix_world": [1.0] * 16}, object)),
  "a field of view of zero": _saved(
    np.array({"fov": 0.0, "matrix_world": [1.0] * 16}, object)
  ),
  "a field of view of words": _saved(
    np.array({"fov": "wide", "matrix_world": [1.0] * 16}, object)
  ),
  "a matrix of words": _saved(
    np.array({"fov": 0.7, "matrix_world": ["a"] * 16}, object)
  ),
  "a matrix of 15 numbers": _saved(
    np.array({"fov": 0.7, "matrix_world": [1.0] * 15}, object)
  ),
  "a huge number in a matrix": _saved(
    np.array({"fov": 0.7, "matrix_world": [10**400] * 16}, object)
  ),
  "a matrix that holds itself": _raw_pickle(
    b"}(X\x03\x00\x00\x00fovG?\xe0\x00\x00\x00\x00\x00\x00"
    b"X\x0c\x00\x00\x00matrix_world]q\x01h\x01au"
  ),
}
_PLACES = {"zero123": "chair/000.npy", "spad": "chair/cameras/0.npy"}


def _camera(layout, name, content, **how):
  """An object whose first camera is damaged."""

  def build(scene):
    scene.copy(layout)
    scene.write(f"{layout}/{_PLACES[layout]}", content)

  return attack.Attack(
    name=f"{layout}: {name}",
    command=commands.layout(layout),
    build=build,
    # A broken camera may be dropped; the others are good.
    ends=attack.EITHER,
    **how,
  )


ATTACKS = [
  *(
    _camera(layout, name, content)
    for number, (name, content) in enumerate(_FILES.items())
    for layout in (tuple(_PLACES)[number % 2 :: 2])
  ),
  *(_camera("spad", name, content) for name, content in _PICKLED.items()),
  _camera("zero123", "a pickle", _PICKLED["a list"]),
]
