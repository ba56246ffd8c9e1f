"""Folders of models whose files are damaged or ask for too much."""

import json
import struct

import numpy as np
import safetensors.numpy
import test_damaged_models as damaged

from tests.hostile import attack
from tests.hostile.attacks import commands

_UNET = "unet/diffusion_pytorch_model.safetensors"
_READERS = (
  ("convert", "model", "--out=out"),
  (*commands.CHAIR, "--score=2d", "--image=model"),
  ("export", "--checkpoint=model", "--format=orbax", "--out=out"),
)
_DEEP = 100_000


def _damaged(number, name, damage, ends=attack.REFUSED):
  def build(scene):
    scene.copy("image", "model")
    damage(scene.home / "model")

  return attack.Attack(
    name=name,
    command=_READERS[number % len(_READERS)],
    build=build,
    ends=ends,
  )


def _text(file, content):
  def damage(home):
    (home / file).write_text(content)

  return damage


def _config(file, **values):
  def damage(home):
    path = home / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))

  return damage


def _tensor(change):
  """Changes conv_in.weight of the UNet."""

  def damage(home):
    found = safetensors.numpy.load_file(home / _UNET)
    found["conv_in.weight"] = change(found["conv_in.weight"])
    safetensors.numpy.save_file(found, home / _UNET)

  return damage


def _header(text, data=b""):
  def damage(home):
    head = text.encode()
    (home / _UNET).write_bytes(struct.pack("<Q", len(head)) + head + data)

  return damage


def _index(content):
  def damage(home):
    (home / _UNET).rename(home / "unet/one.safetensors")
    (home / f"{_UNET}.index.json").write_text(json.dumps(content))

  return damage


def _outside(home):
  """The weights are a link to what is no model."""
  (home / _UNET).unlink()
  (home / _UNET).symlink_to("/dev/zero")


def _flax(content):
  def damage(home):
    (home / _UNET).unlink()
    (home / "unet/diffusion_flax_model.msgpack").write_bytes(content)

  return damage


def _name(text):
  return bytes([0xA0 + len(text)]) + text


def _array(shape, dtype=b"float32", data=b"", *, kind=1, claims=None):
  """An array as flax writes it: an extension of msgpack in msgpack."""
  size = len(data) if claims is None else claims
  sizes = b"".join(
    bytes([n]) if n < 128 else b"\xcf" + struct.pack(">Q", n) for n in shape
  )
  content = (
    b"\x93"
    + b"\xdd"
    + struct.pack(">I", len(shape))
    + sizes
    + _name(dtype)
    + b"\xc6"
    + struct.pack(">I", size)
    + data
  )
  return b"\xc9" + struct.pack(">I", len(content)) + bytes([kind]) + content


_ONE_ENTRY = b"\x81\xa1x"
_FLAX = {
  "shapes that take quadratic time": _ONE_ENTRY
  + _array((2**63,) * 200_000 + (0,)),
  "a shape of negative bytes": _ONE_ENTRY + _array((2**32, 2**32), claims=0),
  "maps 100,000 deep": _ONE_ENTRY * _DEEP + b"\x80",
  "a map of four billion": b"\xdf\xff\xff\xff\xff",
  "a list of four billion": _ONE_ENTRY
  + b"\xc7\x06\x01\x93\xdd\xff\xff\xff\xff",
  "a name of four billion": b"\x81\xdb\xff\xff\xff\xff",
  "a name that is no text": b"\x81\xa2\xff\xfe" + _array((1,), data=bytes(4)),
  "an array of another kind": _ONE_ENTRY + _array((1,), data=bytes(4), kind=5),
  "an unknown dtype": _ONE_ENTRY + _array((1,), b"object", bytes(8)),
  "bytes that are not there": _ONE_ENTRY + _array((9,), claims=36),
  "a name twice": b"\x82" + 2 * (b"\xa1x" + _array((1,), data=bytes(4))),
  "no map": _array((1,), data=bytes(4)),
  "nothing": b"",
  "more after the end": b"\x80\x80",
  "a name with a slash": b"\x81\xa4../x" + _array((1,), data=bytes(4)),
}
_HEADERS = {
  "a header 100,000 deep": '{"x":' * _DEEP + "1" + "}" * _DEEP,
  "a list 100,000 deep in the header": '{"x":'
  + "[" * _DEEP
  + "]" * _DEEP
  + "}",
  "a long unknown dtype": json.dumps(
    {"x": {"dtype": "F" * 880_000, "shape": [], "data_offsets": [0, 0]}}
  ),
  "a long name": json.dumps(
    {"x" * 880_000: {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}
  ),
  "200,000 tensors of nothing": json.dumps(
    {
      f"x{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
      for n in range(200_000)
    }
  ),
  "a huge number in the header": '{"x":{"dtype":"F32","shape":['
  + "9" * 100_000
  + '],"data_offsets":[0,0]}}',
}
_TENSORS = {
  "integers as weights": lambda x: x.astype(np.int32),
  "bools as weights": lambda x: x > 0,
  "infinite weights": lambda x: x * np.inf,
  "weights of nothing": lambda x: x[:0],
  "weights of another rank": lambda x: x[None, None],
}
_UNET_CONFIG, _VAE_CONFIG = "unet/config.json", "vae/config.json"
_TEXT_CONFIG = "text_encoder/config.json"
_SCHEDULE = "scheduler/scheduler_config.json"
_FIELDS = {
  _UNET_CONFIG: {
    "block_out_channels": (
      [10**9, 10**9],
      [0, 0],
      [-16, 32],
      [16.5, 32],
      [],
      {},
    ),
    "layers_per_block": (10**6, 0, -1, "2", 10**400),
    "norm_num_groups": (0, 3, -4),
    "attention_head_dim": (0, [2, 0], 10**9),
    "cross_attention_dim": (10**9, 0, None),
    "in_channels": (10**12, 0),
    "sample_size": (10**6, 0, -8, 7.5, "8"),
  },
  _VAE_CONFIG: {
    "block_out_channels": ([8] * 60, [0, 16]),
    "layers_per_block": (10**6,),
    "scaling_factor": (0, "one", 10**400, None),
    "latent_channels": (0, 10**9),
  },
  _TEXT_CONFIG: {
    "num_hidden_layers": (10**7, 0, -1),
    "hidden_size": (10**9, 0),
    "vocab_size": (10**12, 0),
    "max_position_embeddings": (10**9, 0, 1),
    "num_attention_heads": (0, 3),
  },
  _SCHEDULE: {
    "num_train_timesteps": (10**10, 0, -1, 2.5, "1000"),
    "beta_start": (-1, 2, "x", 10**400),
    "beta_schedule": ("steep",),
    "prediction_type": ("guess",),
    "trained_betas": ([0.1] * 3, [2.0] * 1000),
  },
}
_FILES = {
  "config 100,000 deep": _text(_UNET_CONFIG, "[" * _DEEP),
  "config with NaN": _text(_UNET_CONFIG, '{"sample_size": NaN}'),
  "config with a long name": _text(
    _UNET_CONFIG, json.dumps({"n" * 880_000: 1})
  ),
  "schedule 100,000 deep": _text(_SCHEDULE, '{"a":' * _DEEP),
  "vocabulary of a list": _text("tokenizer/vocab.json", "[1, 2]"),
  "vocabulary 100,000 deep": _text("tokenizer/vocab.json", "[" * _DEEP),
  "vocabulary of huge numbers": _text(
    "tokenizer/vocab.json", '{"a": 99999999999999}'
  ),
  "vocabulary of one word": _text("tokenizer/vocab.json", '{"a": 0}'),
  "merges of one word": _text("tokenizer/merges.txt", "#v\na\n"),
  "merges of bytes": lambda home: (home / "tokenizer/merges.txt").write_bytes(
    b"\xff\xfe\x00"
  ),
  "tokenizer that is a file": lambda home: (
    [path.unlink() for path in (home / "tokenizer").iterdir()],
    (home / "tokenizer").rmdir(),
    (home / "tokenizer").write_text(""),
  ),
  "weights that never end": _outside,
  "index that leaves the folder": _index(
    {"weight_map": {"a": "../../secret.safetensors"}}
  ),
  "index of an absolute path": _index({"weight_map": {"a": "/etc/passwd"}}),
  "index of numbers": _index({"weight_map": {"a": 1}}),
  "index 900 deep": _index(json.loads("[" * 900 + "]" * 900)),
}

_ALL = [
  # Some commands need nothing of what is damaged.
  *(
    (name, damage, attack.EITHER)
    for name, (damage, _) in damaged.FOLDERS.items()
  ),
  *((name, damage, attack.EITHER) for name, damage in _FILES.items()),
  *((f"msgpack: {name}", _flax(data)) for name, data in _FLAX.items()),
  *((f"safetensors: {name}", _header(text)) for name, text in _HEADERS.items()),
  *((name, _tensor(change)) for name, change in _TENSORS.items()),
  *(
    (
      f"{file.partition('/')[0]}.{field}={str(value)[:20]}",
      _config(file, **{field: value}),
      attack.EITHER,
    )
    for file, fields in _FIELDS.items()
    for field, values in fields.items()
    for value in values
  ),
]
ATTACKS = [_damaged(number, *entry) for number, entry in enumerate(_ALL)]
