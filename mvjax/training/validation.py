"""Checks of a config that need no data and no compilation."""

import importlib.util
import math

import ml_collections
from jax.sharding import AbstractMesh, Mesh

from mvjax.nn import unet as networks
from mvjax.parallel import mesh as meshes
from mvjax.parallel import processes

TASKS = ("vae", "image", "multiview")
SOURCES = ("renders", "synthetic")
SCHEDULES = ("constant", "cosine")
DTYPES = ("float32", "bfloat16")
# Far above any run; what is beyond is a slip of the hand.
_MOST_EXAMPLES, _MOST_PIXELS = 2**20, 4096


def validate(
  config: ml_collections.ConfigDict, *, reads_weights: bool = True
) -> None:
  """Checks the fields against each other.

  Args:
    config: See configs/base.py.
    reads_weights: Whether `train.init_from` will be read.

  Raises:
    ValueError: Naming every violated rule with the values found.
  """
  train, adam = config.train, config.optimizer
  rules = [
    _one_of("task", config.task, TASKS),
    _one_of("data.source", config.data.source, SOURCES),
    _one_of("optimizer.schedule", adam.schedule, SCHEDULES),
    _one_of("train.dtype", train.dtype, DTYPES),
    _one_of("train.remat", train.remat, tuple(networks.REMAT)),
    *_data_rules(config),
    *_model_rules(config),
    *((False, problem) for problem in meshes.problems(config.mesh)),
    *((False, problem) for problem in processes.problems(config.processes)),
    *_number_rules(config),
    (
      not train.wandb or importlib.util.find_spec("wandb") is not None,
      f"train.wandb={train.wandb!r}: pip install wandb, or set ''",
    ),
  ]
  for name in ("checkpoint_minutes", "keep"):
    rules.append(
      (train[name] > 0, f"train.{name}={train[name]} must be positive")
    )
  for name in (
    "log_every",
    "sample_steps",
    "validation_batches",
    "profile_steps",
  ):
    rules.append((train[name] > 0, f"train.{name}={train[name]}: at least 1"))
  for name in (
    "caption_dropout",
    "view_dropout",
    "own_times",
    "clean_views",
    "image_batch_share",
    "ema_decay",
  ):
    rules.append(
      (0 <= train[name] <= 1, f"train.{name}={train[name]}: must be in [0, 1]")
    )
  for name in ("learning_rate", "clip_norm"):
    rules.append(
      (adam[name] > 0, f"optimizer.{name}={adam[name]} must be positive")
    )
  for name, rate in adam.groups.items():
    rules.append(
      (rate >= 0, f"optimizer.groups.{name}={rate}: must not be negative")
    )
  rules += [
    (
      train.batch_size % max(train.accumulate, 1) == 0,
      f"train.accumulate={train.accumulate} does not divide "
      f"train.batch_size={train.batch_size}",
    ),
    (
      not train.profile_at
      or 0 < train.profile_at <= train.steps - train.profile_steps,
      f"train.profile_at={train.profile_at}: must leave "
      f"train.profile_steps={train.profile_steps} of "
      f"train.steps={train.steps} steps, or be 0",
    ),
    (
      train.own_times + train.clean_views <= 1,
      f"train.own_times={train.own_times} + train.clean_views="
      f"{train.clean_views}: shares of the assets, at most 1 together",
    ),
    (
      train.min_snr >= 0,
      f"train.min_snr={train.min_snr}: must not be negative, 0 is none",
    ),
    (
      not train.image_batch_share or bool(adam.groups.unet),
      f"train.image_batch_share={train.image_batch_share}: 2D batches teach "
      "the unet, which optimizer.groups.unet=0 freezes; set one of them",
    ),
    (
      config.schedule.prediction_type != "epsilon"
      or not config.schedule.rescale_betas_zero_snr,
      "schedule.rescale_betas_zero_snr with prediction_type='epsilon': x0 is "
      "lost in pure noise; use 'v_prediction'",
    ),
    (
      0 <= adam.warmup_steps < train.steps,
      f"optimizer.warmup_steps={adam.warmup_steps}: must be below "
      f"train.steps={train.steps}",
    ),
    (
      config.task == "multiview" or config.data.num_views == 1,
      f"data.num_views={config.data.num_views}: the {config.task} task takes "
      "single views, set 1",
    ),
    (
      config.task == "multiview" or not train.image_batch_share,
      f"train.image_batch_share={train.image_batch_share}: only the multiview "
      "task mixes in 2D batches, set 0",
    ),
    (
      config.task == "vae" or config.data.crop is None,
      f"data.crop={config.data.crop}: only the vae task trains on crops",
    ),
    (
      config.task == "vae" or bool(train.init_from) or not reads_weights,
      f"train.init_from='': the {config.task} task needs a folder with a "
      f"{'vae' if config.task == 'image' else '2D model'}",
    ),
    (
      not train.freeze_encoder or bool(train.init_from),
      "train.freeze_encoder needs train.init_from, a folder with a vae",
    ),
  ]
  broken = [message for holds, message in rules if not holds]
  if broken:
    raise ValueError("config: " + "; ".join(broken))


def _number_rules(config: ml_collections.ConfigDict) -> list[tuple[bool, str]]:
  """Ranges of numbers by themselves."""
  train, adam, data = config.train, config.optimizer, config.data
  ranges = [
    ("seed", config.seed, 0, 2**32 - 1),
    ("train.steps", train.steps, 1, math.inf),
    ("train.batch_size", train.batch_size, 1, _MOST_EXAMPLES),
    ("train.accumulate", train.accumulate, 1, _MOST_EXAMPLES),
    # 0: no limit.
    ("train.max_minutes", train.max_minutes, 0, 1e9),
    ("optimizer.b1", adam.b1, 0, 1),
    ("optimizer.b2", adam.b2, 0, 1),
    ("data.image_size", data.image_size, 1, _MOST_PIXELS),
    ("data.workers", data.workers, 0, 1024),
    ("vae.latent_channels", config.vae.latent_channels, 1, math.inf),
    (
      "text_encoder.num_attention_heads",
      config.text_encoder.num_attention_heads,
      1,
      math.inf,
    ),
  ]
  if data.crop is not None:
    ranges.append(
      (
        f"data.image_size={data.image_size}, data.crop",
        data.crop,
        1,
        data.image_size,
      )
    )
  for name in ("vae", "unet"):
    section = config[name]
    ranges += [
      (f"{name}.{field}", section[field], 1, math.inf)
      for field in ("norm_num_groups", "layers_per_block")
    ]
    widths = section.block_out_channels
    ranges.append((f"{name}.block_out_channels: levels", len(widths), 1, 16))
    ranges += [
      (f"{name}.block_out_channels={widths}: channels", width, 1, math.inf)
      for width in widths
    ]
  ranges += [("unet.num_heads", n, 1, math.inf) for n in config.unet.num_heads]
  return [
    (least <= value <= most, f"{name}={value}: must be {least} to {most}")
    for name, value, least, most in ranges
  ]


def check_devices(
  config: ml_collections.ConfigDict, mesh: Mesh | AbstractMesh
) -> None:
  """Checks that batches divide over the devices of a mesh.

  Raises:
    ValueError: naming the field.
  """
  parts, views = config.train.accumulate, config.data.num_views
  size = config.train.batch_size // parts
  groups = mesh.shape["data"] * mesh.shape["fsdp"]
  across = mesh.shape["view"]
  if size % groups:
    raise ValueError(
      f"config: train.batch_size={size * parts} / train.accumulate={parts} "
      f"does not divide over {groups} devices (mesh.data x mesh.fsdp); choose "
      "a multiple"
    )
  whole = size % (groups * across) == 0
  if not whole and (size != groups or views % across):
    raise ValueError(
      f"config: mesh.view={across} does not divide what each of the {groups} "
      f"groups of devices has, {size // groups} examples of {views} views: "
      f"choose train.batch_size={groups * across * parts}, or "
      f"{groups * parts} with a divisor of data.num_views"
    )


def check_cpu_devices(config: ml_collections.ConfigDict, devices: int) -> None:
  """Checks that the process has the devices that the config asks for.

  Raises:
    ValueError: something used jax before the config could set them.
  """
  wanted = config.train.cpu_devices
  if wanted and wanted != devices:
    raise ValueError(
      f"config: train.cpu_devices={wanted}, but {devices} devices are in use "
      "already; set it before anything else uses jax, or 0"
    )


def _divides(part: int, whole: int) -> bool:
  return part > 0 and whole % part == 0


def _one_of(field: str, value: str, allowed: tuple[str, ...]):
  return value in allowed, f"{field}={value!r}: one of {', '.join(allowed)}"


def _data_rules(config: ml_collections.ConfigDict) -> list[tuple[bool, str]]:
  """Rules of the sections that batches come from."""
  sections = {"data": config.data}
  if config.train.image_batch_share:
    sections["image_data"] = config.image_data
  return [
    (
      0 < section.threads <= section.prefetch,
      f"{name}.threads={section.threads}: must be from 1 to "
      f"{name}.prefetch={section.prefetch}, the batches that they prepare",
    )
    for name, section in sections.items()
  ]


def _model_rules(config: ml_collections.ConfigDict) -> list[tuple[bool, str]]:
  """Rules within and between the networks' sections."""
  unet, text, vae = config.unet, config.text_encoder, config.vae
  levels = len(unet.block_out_channels)
  side = config.data.crop or config.data.image_size
  factor = 2 ** (len(vae.block_out_channels) - 1)
  edges = 4  # the coarsest scale of the edge loss
  rules = [
    (
      len(unet.num_heads) == levels and len(unet.attention_levels) == levels,
      f"unet.num_heads, unet.attention_levels: one entry for each of the "
      f"{levels} unet.block_out_channels",
    ),
    (
      unet.cross_attention_dim == text.hidden_size,
      f"unet.cross_attention_dim={unet.cross_attention_dim} differs from "
      f"text_encoder.hidden_size={text.hidden_size}",
    ),
    (
      _divides(text.num_attention_heads, text.hidden_size),
      f"text_encoder.num_attention_heads={text.num_attention_heads} does not "
      f"divide hidden_size={text.hidden_size}",
    ),
    (
      side % max(factor, edges) == 0,
      f"image side {side} is not a multiple of {max(factor, edges)}, which "
      "the vae's levels need",
    ),
    (
      config.task == "vae"
      or config.data.image_size % (factor * 2 ** (levels - 1)) == 0,
      f"data.image_size={config.data.image_size} is not a multiple of "
      f"{factor * 2 ** (levels - 1)}, which vae and unet levels need",
    ),
    (
      set(config.epipolar.points)
      <= {"mid_block", *(f"up_blocks_{i}" for i in range(levels))},
      f"epipolar.points={dict(config.epipolar.points)}: places are mid_block "
      f"and up_blocks_0 .. up_blocks_{levels - 1}",
    ),
  ]
  for name, section in (("vae", vae), ("unet", unet)):
    rules += [
      (
        _divides(section.norm_num_groups, width),
        f"{name}.norm_num_groups={section.norm_num_groups} does not divide "
        f"{width} channels",
      )
      for width in section.block_out_channels
    ]
  for width, heads in zip(
    unet.block_out_channels, unet.num_heads, strict=False
  ):
    rules.append(
      (
        _divides(heads, width),
        f"unet.num_heads: {heads} does not divide {width}",
      )
    )
  return rules
