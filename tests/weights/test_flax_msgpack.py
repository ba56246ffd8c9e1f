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
    (b"\xdf\xff\xff\xff\xff", "ends early"),
    (b"\x81\xdb\xff\xff\xff\xff", "a name of"),
    (b"\x81\xa1a" + b"\xc7\x07\x01\x93\x91\x09\xa5int64\xc4\x00", "ends|fit"),
  ],
)
def test_damage_is_named(tmp_path, content, reason):
  path = tmp_path / "file.msgpack"
  path.write_bytes(content)
  with pytest.raises(ValueError, match=reason) as error:
    flax_msgpack.open_msgpack(path)
  assert str(path) in str(error.value)
