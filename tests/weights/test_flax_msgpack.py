"""Flax files: what is read, and what damage is called."""

import flax.serialization
import ml_dtypes
import numpy as np
import pytest

from mvjax.weights import flax_msgpack


def test_half_precision_and_layouts(tmp_path):
  tree = {
    "a": {"kernel": np.arange(24.0).reshape(1, 2, 3, 4).astype("float32")},
    "b": {"scale": np.array([1.5, -2], ml_dtypes.bfloat16)},
    "c": {"kernel": np.ones((70, 300), np.float16)},
  }
  path = tmp_path / "file.msgpack"
  path.write_bytes(flax.serialization.to_bytes(tree))
  found = flax_msgpack.open_msgpack(path)
  assert {key: tensor.shape for key, tensor in found.items()} == {
    "a.weight": (4, 3, 1, 2),
    "b.weight": (2,),
    "c.weight": (300, 70),
  }
  assert found["a.weight"].read()[3, 2, 0, 1] == tree["a"]["kernel"][0, 1, 2, 3]
  assert found["b.weight"].read().dtype == ml_dtypes.bfloat16


def array(shape, dtype=b"\xa7float32"):
  """A file of one array, which may be of any nonsense."""
  content = b"\x93" + shape + dtype + b"\xc4\x04" + bytes(4)
  head = b"\x81\xa1a\xc9" + len(content).to_bytes(4, "big") + b"\x01"
  return head + content


@pytest.mark.parametrize(
  "content, reason",
  [
    (b"", "ends early"),
    (b"\xff" * 30, "a map was expected"),
    (flax.serialization.to_bytes({"a": {"b": 1.0}}), "at 'a/b'"),
    (flax.serialization.to_bytes({"a": np.zeros(3, bool)}), "dtype 'bool'"),
    (flax.serialization.to_bytes({"a": np.zeros(3)})[:-1], "ends early"),
    (flax.serialization.to_bytes({"a": np.zeros(3)}) + b"\0", "goes on"),
    (b"\x81" * 100_000, "expected"),
    (b"\x81\xa1a" * 100_000, "too many levels"),
    ((b"\x81\xd9\xff" + b"a" * 255) * 100, "too many levels at 'aaa"),
    (b"\xdf\xff\xff\xff\xff", "more than 65536 names"),
    # Two maps of 40,000 names, one in the other.
    (b"\xde\x9c\x40\xa1a" * 2, "more than 65536 names at 'a'"),
    (b"\x81\xdb\xff\xff\xff\xff", "a name of"),
    (b"\x81\xa1\xff", "a name that is no text"),
    (b"\x81\xa1a" + b"\xc7\x07\x01\x93\x91\x09\xa5int64\xc4\x00", "ends|fit"),
    (array(b"\xdd\x00\x07\xff\xff" + b"\x02" * 0x7FFFF), "524287 axes, 8 at"),
    (array(b"\x91\x01", b"\xda\x0f\xff" + b"x" * 0xFFF), "a name of 4095"),
    (array(b"\x91\x01", b"\xd9\xff" + b"x" * 255), "dtype 'xxx"),
    (array(b"\x91\xff"), "no size of an axis"),
    (array(b"\x91\xc3"), "no size of an axis"),
    (array(b"\x98" + (b"\xcf" + b"\xff" * 8) * 8), "does not fit its bytes"),
  ],
)
def test_damage_is_named(tmp_path, content, reason):
  path = tmp_path / "file.msgpack"
  path.write_bytes(content)
  with pytest.raises(ValueError, match=reason) as error:
    flax_msgpack.open_msgpack(path)
  message = str(error.value)
  assert str(path) in message
  assert len(message) < 500 + len(str(path)) and "\n" not in message


def test_arrays_of_every_length(tmp_path):
  """msgpack has five ways to write the lengths of these."""
  sizes = (0, 1, 2, 60, 70, 300, 20_000)
  tree = {f"{n}": {"bias": np.arange(n, dtype=np.float32)} for n in sizes}
  tree["scalar"] = {"bias": np.array(2.5, np.float32)}
  path = tmp_path / "file.msgpack"
  path.write_bytes(flax.serialization.to_bytes(tree))
  found = flax_msgpack.open_msgpack(path)
  assert len(found) == len(tree)
  for name, arrays in tree.items():
    np.testing.assert_array_equal(found[f"{name}.bias"].read(), arrays["bias"])
