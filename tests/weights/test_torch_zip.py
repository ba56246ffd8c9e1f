"""Today's torch files: lazy tensors, bookkeeping, and what is refused."""

import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest
from torch_files import (
  call,
  global_,
  integer,
  named,
  ordered,
  sequence,
  storage,
  tensor,
  text,
  write_legacy,
  write_zip,
)

from mvjax.weights import torch_zip, weight_file

VALUES = {
  "first.weight": np.arange(12).reshape(3, 4),
  "second.bias": np.array([0.5, -2.0]),
}


def dictionary(**items):
  pairs = b"".join(text(key) + value for key, value in items.items())
  return b"}(" + pairs + b"u"


def short_bytes(value):
  return b"C" + bytes([len(value)]) + value


@pytest.fixture
def path(tmp_path):
  return tmp_path / "model.ckpt"


@pytest.mark.parametrize("write", [write_zip, write_legacy])
@pytest.mark.parametrize("key", ["state_dict", "model", None])
def test_named_tensors_are_found(path, write, key):
  body, storages = named(VALUES)
  if key:
    body = dictionary(**{key: body, "global_step": integer(470000)})
  found = weight_file.open_weights(write(path, body, *storages))
  assert found.keys() == VALUES.keys()
  for name, value in VALUES.items():
    assert found[name].shape == value.shape
    np.testing.assert_array_equal(found[name].read(), value)


def test_views_of_one_storage_and_half_precision(path):
  values = np.arange(24, dtype=np.float32)
  brain = np.array([1.5, -3.0], ml_dtypes.bfloat16)
  whole = storage("0", 24)
  body = ordered(
    whole=tensor(whole, shape=(4, 6), strides=(6, 1)),
    tied=tensor(whole, shape=(4, 6), strides=(6, 1)),
    transposed=tensor(whole, shape=(6, 4), strides=(1, 6)),
    part=tensor(whole, offset=8, shape=(2, 4), strides=(6, 1)),
    brain=tensor(storage("1", 2, "BFloat16Storage"), shape=(2,), strides=(1,)),
    empty=tensor(storage("2", 0), shape=(0, 3), strides=(3, 1)),
  )
  write_zip(path, body, ("0", values), ("1", brain), ("2", values[:0]))
  found = weight_file.open_weights(path)
  table = values.reshape(4, 6)
  np.testing.assert_array_equal(found["tied"].read(), table)
  np.testing.assert_array_equal(found["transposed"].read(), table.T)
  np.testing.assert_array_equal(found["part"].read(), table[1:3, 2:])
  assert found["brain"].dtype == ml_dtypes.bfloat16
  np.testing.assert_array_equal(found["brain"].read(), brain)
  assert found["empty"].read().shape == (0, 3)


def test_only_the_bytes_of_a_tensor_are_read(path):
  body, storages = named(VALUES)
  write_zip(path, body, *storages)
  content = bytearray(path.read_bytes())
  content[content.index(struct.pack("<f", 11.0))] ^= 1
  path.write_bytes(content)
  found = weight_file.open_weights(path)
  np.testing.assert_array_equal(found["second.bias"].read(), [0.5, -2.0])
  with pytest.raises(ValueError, match="model.ckpt: wrong check sum"):
    found["first.weight"].read()


def test_bookkeeping_of_training_programs_is_passed_over(path):
  """What published Stable Diffusion files hold beside their weights."""
  body, storages = named(VALUES)
  double = (
    call(global_("numpy", "dtype"), text("f8"), integer(0), integer(1))
    + sequence(integer(3), text("<"), b"N", b"N", b"N", integer(-1))
    + b"b"
  )
  latin = call(
    global_("_codecs", "encode"),
    text(struct.pack("<d", 2.5).decode("latin-1")),
    text("latin1"),
  )
  module = "pytorch_lightning.callbacks.model_checkpoint"
  best = call(global_("numpy.core.multiarray", "scalar"), double, latin)
  callbacks = (
    b"}" + global_(module, "ModelCheckpoint") + dictionary(best=best) + b"s"
  )
  whole = dictionary(
    state_dict=body,
    callbacks=callbacks,
    dtype=global_("torch", "float16"),
    size=call(global_("torch", "Size"), sequence(integer(2), integer(3))),
    rates=b"](" + b"G" + struct.pack(">d", 1e-4) + b"e",
    version=text("1.4.2"),
  )
  content = torch_zip.read_torch_zip(write_zip(path, whole, *storages))
  assert content["size"] == (2, 3)
  assert content["rates"] == [1e-4]
  [(key, value)] = content["callbacks"].items()
  assert key == f"{module}.ModelCheckpoint"
  assert value == {"best": 2.5}
  assert weight_file.open_weights(path).keys() == VALUES.keys()


@pytest.mark.parametrize("kind", ["name", "call", "new", "old", "inline"])
def test_a_named_class_is_never_built(path, kind):
  """By calling it, as a new object, or as an old-style instance."""
  name = global_("pytorch_lightning", "Trainer")
  body = {
    "call": call(name),
    "new": name + sequence() + b"\x81",
    "old": b"(" + name + b"o",
    "inline": b"(ipytorch_lightning\nTrainer\n",
    # Naming alone is harmless: nothing is imported.
    "name": dictionary(
      trainer=name, x=tensor(storage("0", 1), shape=(), strides=())
    ),
  }[kind]
  write_zip(path, body, ("0", np.zeros(1, np.float32)))
  if kind == "name":
    assert list(weight_file.open_weights(path)) == ["x"]
  else:
    with pytest.raises(ValueError, match="pytorch_lightning.Trainer"):
      weight_file.open_weights(path)


def test_archives_of_other_programs_are_refused(path):
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("word/document.xml", "<xml/>")
  with pytest.raises(ValueError, match="not from torch.save .*document.xml"):
    weight_file.open_weights(path)
