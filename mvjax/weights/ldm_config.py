"""Configs of the networks in a single file, from the shapes in it.

The number of levels and layers, all widths and the kind of projections show
in names and shapes. Group norms have 32 groups. Attention heads do not show:
networks with convolution projections (SD 1.x) have 8 everywhere, those with
linear ones (SD 2.x) have heads of width 64.
"""

import functools
from typing import Any

from mvjax.weights import ldm, shapes
from mvjax.weights import tensors as tensors_lib

_NUM_HEADS = 8
_HEAD_WIDTH = 64
_NUM_GROUPS = 32
_SCALING_FACTOR = 0.18215
_RAY_CHANNELS = 6


def unet_config(
  tensors: tensors_lib.Tensors,
  *,
  sample_size: int,
  head_dim: int | None = None,
) -> dict[str, Any]:
  """The UNet2DConditionModel config of a file's UNet.

  Args:
    tensors: of the file.
    sample_size: side of the latents that the model was trained on.
    head_dim: width of an attention head where projections are linear; only
      networks of other than the published widths need another than 64.

  Raises:
    ValueError: names the tensor that is missing or has an impossible shape.
  """
  conv = functools.partial(_convolution, tensors)
  levels = _levels(tensors)
  blocks = [f"{ldm.UNET}input_blocks.{level[0]}" for level in levels]
  widths = [conv(f"{block}.0.out_layers.3")[0] for block in blocks]
  attends = [f"{block}.1.norm.weight" in tensors for block in blocks]
  transformers = [n for n, has in zip(blocks, attends, strict=True) if has]
  middle = f"{ldm.UNET}middle_block"
  mid_attention = f"{middle}.1.norm.weight" in tensors
  first = f"{transformers[0]}.1" if transformers else f"{middle}.1"
  projection = shapes.shape(tensors, f"{first}.proj_in.weight", 2, 4)
  linear = len(projection) == 2
  key = f"{first}.transformer_blocks.0.attn2.to_k.weight"
  config = {
    "_class_name": "UNet2DConditionModel",
    "act_fn": "silu",
    "attention_head_dim": _heads(widths, head_dim or _HEAD_WIDTH)
    if linear
    else [_NUM_HEADS] * len(widths),
    "block_out_channels": widths,
    "cross_attention_dim": shapes.shape(tensors, key, 2)[1],
    "down_block_types": [
      "CrossAttnDownBlock2D" if has else "DownBlock2D" for has in attends
    ],
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": shapes.shape(
      tensors, f"{ldm.UNET}input_blocks.0.0.weight", 4
    )[1],
    "layers_per_block": len(levels[0]),
    "mid_block_type": "UNetMidBlock2DCrossAttn"
    if mid_attention
    else "UNetMidBlock2D",
    "norm_eps": 1e-5,
    "norm_num_groups": _NUM_GROUPS,
    "out_channels": conv(f"{ldm.UNET}out.2")[0],
    "sample_size": sample_size,
    "up_block_types": [
      "CrossAttnUpBlock2D" if has else "UpBlock2D" for has in reversed(attends)
    ],
    "use_linear_projection": linear,
  }
  for prefix in (ldm.CAMERA, ldm.RAY_CAMERA):
    if f"{prefix}0.weight" in tensors:
      numbers = shapes.shape(tensors, f"{prefix}0.weight", 2)[1]
      config |= {
        "class_embed_type": "projection",
        "projection_class_embeddings_input_dim": numbers,
      }
  if projection[1] == projection[0] + _RAY_CHANNELS:
    config |= {"_class_name": "SPADUNet", "ray_channels": _RAY_CHANNELS}
  return config


def vae_config(
  tensors: tensors_lib.Tensors, *, sample_size: int
) -> dict[str, Any]:
  """The AutoencoderKL config of a file's VAE.

  Args:
    tensors: of the file.
    sample_size: side of the images that the model was trained on.

  Raises:
    ValueError: names the tensor that is missing or has an impossible shape.
  """
  conv = functools.partial(_convolution, tensors)
  head = f"{ldm.VAE}encoder.down"
  levels = max(1, shapes.count(tensors, f"{head}.{{}}.block.0.conv1.weight"))
  widths = [conv(f"{head}.{i}.block.0.conv1")[0] for i in range(levels)]
  return {
    "_class_name": "AutoencoderKL",
    "act_fn": "silu",
    "block_out_channels": widths,
    "down_block_types": ["DownEncoderBlock2D"] * levels,
    "in_channels": 3,
    "latent_channels": shapes.shape(
      tensors, f"{ldm.VAE}decoder.conv_in.weight", 4
    )[1],
    "layers_per_block": shapes.count(
      tensors, f"{head}.0.block.{{}}.conv1.weight"
    ),
    "norm_num_groups": _NUM_GROUPS,
    "out_channels": 3,
    "sample_size": sample_size,
    "scaling_factor": _SCALING_FACTOR,
    "up_block_types": ["UpDecoderBlock2D"] * levels,
  }


def _convolution(tensors: tensors_lib.Tensors, name: str) -> tuple[int, ...]:
  """Shape of a layer's kernel: out, in, height, width."""
  return shapes.shape(tensors, f"{name}.weight", 4)


def _levels(tensors: tensors_lib.Tensors) -> list[list[int]]:
  """Numbers of the input blocks that are residual blocks, by level."""
  levels: list[list[int]] = [[]]
  number = 1
  while True:
    block = f"{ldm.UNET}input_blocks.{number}.0"
    if f"{block}.in_layers.0.weight" in tensors:
      levels[-1].append(number)
    elif f"{block}.op.weight" in tensors:
      levels.append([])
    else:
      break
    number += 1
  if not levels[0] or len({len(level) for level in levels}) > 1:
    raise ValueError(
      f"{ldm.UNET}input_blocks has {[len(level) for level in levels]} "
      "residual blocks by level: expected one number, is the file whole?"
    )
  return levels


def _heads(widths: list[int], head_dim: int) -> list[int]:
  """Heads per level; ValueError where the widths are not whole heads."""
  if any(width % head_dim for width in widths):
    raise ValueError(
      f"the UNet has widths {widths}, not multiples of the head width "
      f"{head_dim}: not the published ones, give head_dim"
    )
  return [width // head_dim for width in widths]
