"""Values of flags and of config fields that make no sense."""

import dataclasses
import re

from tests.hostile import attack
from tests.hostile.attacks import commands


def _flag(command, flag, *values, copies=(), **how):
  """An attack for every value of a flag; the line names one of both."""
  name = flag.rpartition(".")[2]

  def build(scene):
    for folder in copies:
      scene.copy(folder)

  return [
    attack.Attack(
      name=f"{flag}={value[:24]}",
      command=(*command, f"--{flag}={value}"),
      build=build,
      says=f"{name}|{re.escape(value)}" if len(value) > 3 else name,
      **how,
    )
    for value in values
  ]


_NUMBERS = ("nan", "inf", "-1")
_TRAIN = {
  "train.steps": ("-1", "x"),
  "train.batch_size": ("0", "-3", "100000000000"),
  "train.accumulate": ("0", "3"),
  "train.ema_decay": ("nan", "2.0"),
  "train.keep": ("0", "-1"),
  "train.log_every": ("0", "-1"),
  "train.checkpoint_minutes": ("nan", "-1.0"),
  "train.max_minutes": ("nan", "-1.0"),
  "train.dtype": ("float8",),
  "train.remat": ("some",),
  "train.init_from": ("nowhere", "/dev/null"),
  "optimizer.learning_rate": ("nan", "inf", "-1.0"),
  "optimizer.schedule": ("square",),
  "optimizer.warmup_steps": ("-1",),
  "optimizer.clip_norm": ("nan", "0.0"),
  "optimizer.b1": ("1.5", "nan"),
  "mesh.data": ("0", "7"),
  "mesh.view": ("-5",),
  "data.source": ("the web",),
  "data.image_size": ("0", "7", "1000000"),
  "data.num_views": ("0",),
  "data.crop": ("0", "4096"),
  "data.threads": ("0",),
  "data.prefetch": ("-1",),
  "data.workers": ("-1",),
  "vae.norm_num_groups": ("0", "3"),
  "vae.block_out_channels": ("()", "(0, 8)", "(-8, 16)"),
  "vae.layers_per_block": ("0", "-1"),
  "vae.latent_channels": ("0",),
  "processes.count": ("-2",),
  "processes.index": ("5",),
  "task": ("flying",),
  "seed": ("-1", "99999999999999999999"),
}

ATTACKS = [
  *_flag(commands.CHAIR, "seeds", "a", "", "0,,1", "-1", "4294967296", "1e3"),
  *_flag(
    commands.CHAIR, "views", "0", "-1", "4.5", "999999999", "20000", "\u0663x"
  ),
  *_flag(commands.CHAIR, "elevation", *_NUMBERS[:2], "90.5"),
  *_flag(commands.CHAIR, "azimuth", *_NUMBERS[:2]),
  *_flag(commands.CHAIR, "distance", *_NUMBERS, "0"),
  *_flag(commands.CHAIR, "field_of_view", *_NUMBERS, "0", "180"),
  *_flag(commands.CHAIR, "steps", "0", "-1", "999999999"),
  *_flag(commands.CHAIR, "eta", *_NUMBERS, "2"),
  *_flag(commands.CHAIR, "multiview_guidance", *_NUMBERS),
  *_flag(commands.CHAIR, "image_guidance", *_NUMBERS),
  *_flag(commands.CHAIR, "guidance_rescale", *_NUMBERS, "2"),
  *_flag(commands.CHAIR, "lora_scale", *_NUMBERS[:2]),
  *_flag(commands.CHAIR, "image_size", "0", "-8", "1000000", "8192"),
  *_flag(commands.CHAIR, "batch_size", "0", "-1", "x"),
  *_flag(commands.CHAIR, "dtype", "float8", "", "FLOAT32"),
  *_flag(commands.CHAIR, "score", "3d", "", "mix,mv"),
  *_flag(commands.CHAIR, "timestep_spacing", "random", ""),
  *_flag(
    commands.CHAIR,
    "lambda_schedule",
    *("", "linear", "linear:", "linear:nan", "linear:2", "best:1"),
    *("linear:1=0,0=1", "constant:0.5@distance", "linear:" + "0," * 9 + "x"),
  ),
  *_flag(commands.CONVERT, "lora_scale", *_NUMBERS[:2]),
  *_flag(commands.CONVERT, "dtype", "int8"),
  *_flag(commands.EXPORT, "format", "gguf", ""),
  *_flag(commands.PLAN, "topology", "v9:4x4", "v5e", "", "v5e:0x0", "v5e:-2x2"),
  # Without libtpu, which is not in every environment, nothing else is read.
  *[
    dataclasses.replace(one, says="")
    for one in (
      *_flag(commands.PLAN, "programs", "paint", ""),
      *_flag(commands.PLAN, "samples_per_chip", "0", "-1"),
    )
  ],
  *_flag(
    commands.RECONSTRUCT, "grid", "0", "-2", "15", "100000", copies=["samples"]
  ),
  *_flag(commands.RECONSTRUCT, "steps", "0", "-1", "x", copies=["samples"]),
  *_flag(commands.RECONSTRUCT, "faces", "0", "-1", copies=["samples"]),
  *_flag(
    commands.RECONSTRUCT,
    "texture_size",
    "0",
    "-1",
    "1000000",
    copies=["samples"],
  ),
  *_flag(
    commands.FIGURE,
    "views",
    "0",
    "-1",
    "3",
    "1000000000000",
    copies=["samples"],
  ),
  *_flag(commands.FIGURE, "seed", "7", "x", copies=["samples"]),
  *_flag(commands.VIEW, "port", "x", copies=["samples"], writes=("samples",)),
  *_flag(
    ("view", "--out=samples"),
    "port",
    "-1",
    "70000",
    copies=["samples"],
    writes=("samples",),
  ),
  *_flag(commands.RENDER, "workers", "0", "-1", "100000", copies=["objects"]),
  *_flag(
    commands.RENDER, "image_size", "0", "-1", "1000000", copies=["objects"]
  ),
  *_flag(commands.RENDER, "limit", "0", "-1", "x", copies=["objects"]),
  *_flag(commands.RENDER, "time_limit", *_NUMBERS, "0", copies=["objects"]),
  *_flag(
    commands.RENDER,
    "shard",
    *("3", "1/1", "0/0", "-1/4", "a/b", "1/2/3"),
    copies=["objects"],
  ),
  *_flag(commands.BUILD, "shard", "5/4", "", "7/8", copies=["renders"]),
  *_flag(commands.BUILD, "layout", "obj", copies=["renders"]),
  *_flag(commands.BUILD, "layout", "spad", copies=["renders"]),
  *_flag(commands.ENCODE, "batch_size", "0", "-1", "x", copies=["data"]),
  *_flag(commands.ENCODE, "looks", "", "glass", copies=["data"]),
  *_flag(commands.ENCODE, "shard", "9", "9/8", copies=["data"]),
  *_flag(
    commands.ENCODE, "model", "no-model", "", "/dev/null", copies=["data"]
  ),
  *_flag(commands.IMAGES, "reference_assets", "0", "-1", copies=["samples"]),
  *_flag(commands.IMAGES, "reference_views", "0", "-1", copies=["samples"]),
  *_flag(commands.IMAGES, "networks", "vgg99", copies=["samples"]),
  *_flag(commands.IMAGES, "resize", "stretch", copies=["samples"]),
  *_flag(commands.IMAGES, "inception", "nothing", copies=["samples"]),
  *_flag(commands.IMAGES, "clip", "nothing", copies=["samples"]),
  *_flag(commands.IMAGES, "reference", "nothing", copies=["samples"]),
  *_flag(commands.CONSISTENCY, "limit", "0", "-1", copies=["samples"]),
  *_flag(
    (*commands.CONSISTENCY, "--metrics=holdout"),
    "folds",
    "0",
    "1",
    "-1",
    "9",
    copies=["samples"],
  ),
  *_flag(commands.CONSISTENCY, "metrics", "beauty", "", copies=["samples"]),
  *_flag(commands.CONSISTENCY, "holdout_limit", "-1", copies=["samples"]),
  *_flag(commands.CONSISTENCY, "floor_assets", "-1", copies=["samples"]),
  *_flag(commands.CONSISTENCY, "floor", "nothing", copies=["samples"]),
  *_flag(
    commands.RETRIEVAL, "num_names", "0", "-1", "1000000", copies=["data"]
  ),
  *_flag(
    commands.RETRIEVAL_PROMPTS, "num_names", "0", "-1", "99", copies=["data"]
  ),
  *_flag(commands.RETRIEVAL_PROMPTS, "per_name", "0", "-1", copies=["data"]),
  *_flag(commands.HELD_OUT, "per_kind", "0", "-1", "x", copies=["data"]),
  *_flag(commands.HELD_OUT, "dataset", "nothing", copies=["data"]),
  *_flag(commands.TABLE, "table.num_prompts", "0", "-1", "101"),
  *_flag(commands.TABLE, "table.seeds", "('a',)", "(-1,)", "()"),
  *_flag(commands.TABLE, "table.folds", "0", "-1"),
  *_flag(commands.TABLE, "table.sample.steps", "0", "x"),
  *_flag(commands.TABLE, "table.prompts", "nothing.txt", "/dev/null"),
  *[
    one
    for field, values in _TRAIN.items()
    for one in _flag(commands.TRAIN, f"config.{field}", *values)
  ],
  *[
    attack.Attack(name=name, command=command, says=says)
    for name, command, says in (
      ("unknown flag", (*commands.CHAIR, "--speed=9"), "speed"),
      ("stray word", (*commands.CHAIR, "more"), "more"),
      ("no config", ("sample", "--prompt=a", "--out=out"), "config"),
      ("config of data", ("train", "--config=/dev/null", "--workdir=out"), ""),
      ("no --out", (*commands.SAMPLE[:4], "--prompt=a"), "--out"),
      ("unknown variant", ("train", "--config=<root>/configs/nano.py:x"), ""),
      ("rows without label", ("figure", "samples", "--out=out/a.png"), "LABEL"),
      ("rows that are not there", ("figure", "a=no", "--out=out/a.png"), "no"),
      ("deb that is not there", ("data", "fetch", "--deb=no.deb"), "no.deb"),
      ("unknown table", ("evaluate", "table", "--table=no.py"), "no.py"),
      ("two sources", (*commands.EXPORT, "--checkpoint=x"), "checkpoint"),
      ("no view", ("reconstruct", "--views=nothing"), "nothing"),
      ("empty view", ("reconstruct", "--views="), "views"),
    )
  ],
]
