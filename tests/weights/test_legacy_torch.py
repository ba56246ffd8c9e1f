"""The restricted reader, against files put together opcode by opcode."""

import ml_dtypes
import numpy as np
import pytest
from torch_files import (
  call,
  global_,
  integer,
  ordered,
  sequence,
  storage,
  tensor,
  text,
)
from torch_files import write_legacy as write

from mvjax.weights import legacy_torch


@pytest.fixture
def path(tmp_path):
  return tmp_path / "weights.pth"


def test_strides_and_offsets_are_honoured(path):
  values = np.arange(30, dtype=np.float32)
  shared = storage("7", 30)
  body = ordered(
    plain=tensor(shared, shape=(2, 3), strides=(3, 1)),
    permuted=tensor(shared, offset=6, shape=(4, 2, 3), strides=(1, 12, 4)),
    scalar=tensor(shared, offset=29, shape=(), strides=()),
  )
  result = legacy_torch.read_legacy_torch(write(path, body, ("7", values)))
  result = {key: tensor.read() for key, tensor in result.items()}
  assert list(result) == ["plain", "permuted", "scalar"]
  np.testing.assert_array_equal(result["plain"], [[0, 1, 2], [3, 4, 5]])
  expected = values[6:].reshape(2, 3, 4).transpose(2, 0, 1)
  np.testing.assert_array_equal(result["permuted"], expected)
  assert result["scalar"] == 29


@pytest.mark.parametrize(
  "kind, dtype",
  [
    ("LongStorage", np.int64),
    ("HalfStorage", np.float16),
    ("BFloat16Storage", ml_dtypes.bfloat16),
    ("BoolStorage", np.bool_),
  ],
)
def test_storage_types_and_parameters(path, kind, dtype):
  first = tensor(storage("a", 2, kind), shape=(2,), strides=(1,))
  second = call(
    global_("torch._utils", "_rebuild_parameter"),
    tensor(storage("b", 1), shape=(1,), strides=(1,)),
    b"\x88",
    call(global_("collections", "OrderedDict")),
  )
  values = np.array([1, 0], dtype)
  weight = np.array([2.5], np.float32)
  # The values need not come in the order in which tensors name them.
  write(path, ordered(x=first, y=second), ("b", weight), ("a", values))
  result = legacy_torch.read_legacy_torch(path)
  assert result["x"].dtype == dtype
  np.testing.assert_array_equal(result["x"].read(), values)
  np.testing.assert_array_equal(result["y"].read(), weight)


@pytest.mark.parametrize(
  "module, name",
  [
    ("os", "system"),
    ("builtins", "eval"),
    ("torch", "load"),
    ("collections", "OrderedDict.fromkeys"),
    ("numpy", "ndarray"),
  ],
)
def test_other_callables_are_refused_by_name(path, module, name):
  body = call(global_(module, name), text("touch pwned"))
  with pytest.raises(ValueError, match=f"refused to build {module}.{name}"):
    legacy_torch.read_legacy_torch(write(path, body))


def test_a_refusal_comes_before_any_effect(path, tmp_path):
  target = tmp_path / "pwned"
  body = call(global_("pathlib", "Path.touch"), text(str(target)))
  with pytest.raises(ValueError, match="pathlib.Path.touch"):
    legacy_torch.read_legacy_torch(write(path, body))
  assert not target.exists()


def test_a_hostile_file_cannot_change_the_reader(path):
  rebuild = global_("torch._utils", "_rebuild_tensor_v2")
  slots = b"N}" + text("__defaults__") + b"Ns" + b"\x86"
  write(path, rebuild + slots + b"b")
  with pytest.raises(ValueError):
    legacy_torch.read_legacy_torch(path)


FOUR = np.zeros(4, np.float32)


@pytest.mark.parametrize(
  "body, storages",
  [
    (tensor(storage("k", 4), shape=(5,), strides=(1,)), [("k", FOUR)]),
    (tensor(storage("k", 4), shape=(2,), strides=(-1,)), [("k", FOUR)]),
    (
      tensor(storage("k", 4), offset=-1, shape=(2,), strides=(1,)),
      [("k", FOUR)],
    ),
    (storage("k", 2_000_000_000), [("k", FOUR)]),
    (storage("k", -1), [("k", FOUR)]),
    (storage("k", 3), [("k", FOUR)]),
    (storage("k", 4), []),
    (storage("k", 4), [("other", FOUR)]),
    (storage("k", 4, view=sequence()), [("k", FOUR)]),
    (integer(1) + b"Q", []),
  ],
  ids=[
    "shape beyond storage",
    "negative stride",
    "negative offset",
    "storage larger than the file",
    "negative storage",
    "count differs",
    "values missing",
    "values of an unknown storage",
    "storage view",
    "odd persistent id",
  ],
)
def test_inconsistent_files_are_named(path, body, storages):
  write(path, body, *storages)
  with pytest.raises(ValueError, match="weights.pth"):
    legacy_torch.read_legacy_torch(path)


def test_truncated_and_foreign_files_are_named(path):
  body = tensor(storage("k", 4), shape=(4,), strides=(1,))
  content = write(path, body, ("k", FOUR)).read_bytes()
  for cut in (0, 5, len(content) // 2, len(content) - 1):
    path.write_bytes(content[:cut])
    with pytest.raises(ValueError, match="weights.pth"):
      legacy_torch.read_legacy_torch(path)
  path.write_bytes(b"PK\x03\x04" + bytes(64))
  with pytest.raises(ValueError, match="weights.pth"):
    legacy_torch.read_legacy_torch(path)
