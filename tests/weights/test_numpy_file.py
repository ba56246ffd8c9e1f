"""Numbers in .npy files and pickles, and what is refused of them."""

import collections
import io
import pickle

import numpy as np
import pytest
import refusal

from mvjax.weights import numpy_file

LIMIT = 1 << 20
PLAIN = {
  "a": np.arange(3),
  "b": [np.float64(2), "text", (1, None, True)],
  "c": {"d": np.arange(6, dtype=np.float16).reshape(2, 3).T},
}


def header(shape, descr, content=b"", version=1):
  """A .npy file that claims this shape and type."""
  stream = io.BytesIO()
  write = getattr(np.lib.format, f"write_array_header_{version}_0")
  write(stream, {"descr": descr, "fortran_order": False, "shape": shape})
  return stream.getvalue() + content


def raw_header(text):
  return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


class Harmful:
  def __reduce__(self):
    return (pytest.fail, ("code from a data file was run",))


def boxed(value):
  """What numpy writes for an object."""
  stream = io.BytesIO()
  np.save(stream, value, allow_pickle=True)
  return stream.getvalue()


# Object arrays are pointers: these eight bytes would be followed.
POINTER = (
  b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\0tC\x01btR"
  b"(K\x01)cnumpy\ndtype\n(X\x02\0\0\0O8K\0K\x01tR\x89C\x08AAAAAAAAtb."
)
FILES = {
  "pointer": (header((), "|O", POINTER), "bytes instead of list"),
  "array of objects": (boxed(np.array([{}, []], object)), "no numbers"),
  "code": (boxed({"fov": Harmful()}), "_pytest.outcomes.fail|refused"),
  "no array": (b"not an array", "magic string"),
  "later version": (b"\x93NUMPY\x09\x00" + bytes(64), "9"),
  "nothing": (b"", "magic string"),
  "100 GB": (header((10**5, 10**5), "<f8"), "100000.* 0 bytes follow"),
  "100 GB, version 2": (
    header((10**5, 10**5), "<f8", version=2),
    "0 bytes follow",
  ),
  "half an array": (boxed(np.eye(3))[:-9], "63 bytes follow"),
  "more than an array": (boxed(np.eye(3)) + b"0", "73 bytes follow"),
  "negative size": (header((-1, -9), "<f8", bytes(72)), "negative"),
  "records": (header((1,), [("x", "<f8")], bytes(8)), "no numbers"),
  "text": (boxed(np.array(["text"])), "no numbers"),
  "dates": (boxed(np.zeros(2, "M8[s]")), "no numbers"),
  "header of signs": (raw_header("-" * 9000 + "1"), "cannot be read safely"),
  "header of brackets": (raw_header("(" * 9000), "cannot be read safely"),
  "header of a call": (raw_header("exit(3)"), "cannot be read safely"),
  "header of numbers": (
    raw_header("{'descr': 1, 'fortran_order': 0, 'shape': 1}"),
    "cannot be read safely",
  ),
  "half a pickle": (boxed({"a": 1})[:-3], "cannot be read safely"),
  "pickle of a list": (header((), "|O", b"]."), "no array"),
  "too large": (bytes(LIMIT + 1), "1048577 bytes, 1048576 at most"),
}


@pytest.mark.parametrize("kind", FILES)
def test_refused(tmp_path, kind):
  content, reason = FILES[kind]
  path = tmp_path / "0.npy"
  path.write_bytes(content)
  refusal.check(
    lambda: numpy_file.load_npy(path, max_bytes=LIMIT),
    tmp_path,
    names=str(path),
    reason=reason,
  )


def equal(got, want):
  """Scalars of numpy come as Python's."""
  if isinstance(want, dict):
    return got.keys() == want.keys() and all(
      equal(got[k], want[k]) for k in got
    )
  if isinstance(want, np.ndarray):
    same = got.dtype == want.dtype and got.shape == want.shape
    return same and np.array_equal(got, want)
  return got == want


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_plain_data_of_any_protocol(tmp_path, protocol):
  path = tmp_path / "file"
  path.write_bytes(pickle.dumps(PLAIN, protocol=protocol))
  assert equal(numpy_file.load_pickle(path, max_bytes=LIMIT), PLAIN)
  array = np.empty((), object)
  array[()] = PLAIN
  path.write_bytes(header((), "|O", pickle.dumps(array, protocol=protocol)))
  assert equal(numpy_file.load_npy(path, max_bytes=LIMIT), PLAIN)
  assert isinstance(numpy_file.load_npy(path, max_bytes=LIMIT)["b"][0], float)


@pytest.mark.parametrize(
  "array",
  [
    np.eye(3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.float32(3)[None][0:0],
    np.array(2.5, ">f4"),
    np.array([True, False]),
  ],
)
def test_arrays_of_numbers(tmp_path, array):
  path = tmp_path / "0.npy"
  np.save(path, array)
  assert equal(numpy_file.load_npy(path, max_bytes=LIMIT), array)


def test_a_pickle_of_other_objects_is_refused(tmp_path):
  path = tmp_path / "file"
  path.write_bytes(pickle.dumps({"a": collections.Counter()}))
  with pytest.raises(ValueError, match=f"{path}.*collections.Counter"):
    numpy_file.load_pickle(path, max_bytes=LIMIT)
