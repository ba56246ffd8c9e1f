"""Names of Stable Diffusion's single files, and diffusers' names for them.

The original code numbers its modules through (`input_blocks.4.1` is the
second module of the fifth block); diffusers names levels and layers. Which
module is which follows from the config of the network, so that every table
here is a finite dictionary from the name in the file to the name in the
component, one-to-one, and serves both directions.

Layouts are equal but for the VAE's attention (`POINTWISE`), which the
original code writes as 1x1 convolutions.
"""

from collections.abc import Iterable, Mapping
from typing import Any

UNET = "model.diffusion_model."
VAE = "first_stage_model."
# Where the file keeps the camera embedding: MVDream and SPAD.
CAMERA = f"{UNET}camera_embed."
RAY_CAMERA = "cc_projection."

# In the VAE's component matrices [out in], in the file [out in 1 1].
POINTWISE = frozenset(
  f"{half}.mid_block.attentions.0.{name}.weight"
  for half in ("encoder", "decoder")
  for name in ("to_q", "to_k", "to_v", "to_out.0")
)

_RESNET = {
  "in_layers.0": "norm1",
  "in_layers.2": "conv1",
  "emb_layers.1": "time_emb_proj",
  "out_layers.0": "norm2",
  "out_layers.3": "conv2",
}
# A spatial transformer has the same names in both.
_ATTENTION = ("to_q.weight", "to_k.weight", "to_v.weight")
_TRANSFORMER = (
  *(f"norm.{leaf}" for leaf in ("weight", "bias")),
  *(f"proj_in.{leaf}" for leaf in ("weight", "bias")),
  *(f"proj_out.{leaf}" for leaf in ("weight", "bias")),
  *(
    f"transformer_blocks.0.{attention}.{name}"
    for attention in ("attn1", "attn2")
    for name in (*_ATTENTION, "to_out.0.weight", "to_out.0.bias")
  ),
  *(
    f"transformer_blocks.0.{name}.{leaf}"
    for name in ("norm1", "norm2", "norm3", "ff.net.0.proj", "ff.net.2")
    for leaf in ("weight", "bias")
  ),
)
_VAE_RESNET = ("norm1", "conv1", "norm2", "conv2")
_VAE_ATTENTION = {
  "norm": "group_norm",
  "q": "to_q",
  "k": "to_k",
  "v": "to_v",
  "proj_out": "to_out.0",
}

Config = Mapping[str, Any]


def unet_table(config: Config) -> dict[str, str]:
  """Names in the file to names in `unet/`, for a UNet2DConditionModel config.

  A camera embedding (`class_embed_type="projection"`) is MVDream's, or SPAD's
  if the network also has `ray_channels`.
  """
  widths = config["block_out_channels"]
  layers = config["layers_per_block"]
  attends = ["CrossAttn" in name for name in config["down_block_types"]]
  table = _Table()
  table.layer(f"{UNET}time_embed.0", "time_embedding.linear_1")
  table.layer(f"{UNET}time_embed.2", "time_embedding.linear_2")
  if config.get("class_embed_type") == "projection":
    camera = RAY_CAMERA if config.get("ray_channels") else CAMERA
    table.layer(f"{camera}0", "class_embedding.linear_1")
    table.layer(f"{camera}2", "class_embedding.linear_2")
  table.layer(f"{UNET}input_blocks.0.0", "conv_in")

  channels, skips, number = widths[0], [widths[0]], 1
  for level, width in enumerate(widths):
    new = f"down_blocks.{level}"
    for layer in range(layers):
      old = f"{UNET}input_blocks.{number}"
      table.resnet(
        f"{old}.0", f"{new}.resnets.{layer}", shortcut=channels != width
      )
      if attends[level]:
        table.transformer(f"{old}.1", f"{new}.attentions.{layer}")
      channels = width
      skips.append(channels)
      number += 1
    if level < len(widths) - 1:
      table.layer(
        f"{UNET}input_blocks.{number}.0.op", f"{new}.downsamplers.0.conv"
      )
      skips.append(channels)
      number += 1

  old = f"{UNET}middle_block"
  table.resnet(f"{old}.0", "mid_block.resnets.0", shortcut=False)
  if "CrossAttn" in (config.get("mid_block_type") or "CrossAttn"):
    table.transformer(f"{old}.1", "mid_block.attentions.0")
    table.resnet(f"{old}.2", "mid_block.resnets.1", shortcut=False)

  number = 0
  for level in reversed(range(len(widths))):
    new = f"up_blocks.{len(widths) - 1 - level}"
    for layer in range(layers + 1):
      old = f"{UNET}output_blocks.{number}"
      shortcut = channels + skips.pop() != widths[level]
      table.resnet(f"{old}.0", f"{new}.resnets.{layer}", shortcut=shortcut)
      if attends[level]:
        table.transformer(f"{old}.1", f"{new}.attentions.{layer}")
      channels = widths[level]
      number += 1
    if level:
      place = 2 if attends[level] else 1
      table.layer(f"{old}.{place}.conv", f"{new}.upsamplers.0.conv")
  table.layer(f"{UNET}out.0", "conv_norm_out")
  table.layer(f"{UNET}out.2", "conv_out")
  return table.names


def vae_table(config: Config) -> dict[str, str]:
  """Names in the file to names in `vae/`, for an AutoencoderKL config."""
  widths = config["block_out_channels"]
  layers = config["layers_per_block"]
  last = len(widths) - 1
  table = _Table()
  table.layer(f"{VAE}quant_conv", "quant_conv")
  table.layer(f"{VAE}post_quant_conv", "post_quant_conv")
  for half in ("encoder", "decoder"):
    old = f"{VAE}{half}"
    table.layer(f"{old}.conv_in", f"{half}.conv_in")
    table.layer(f"{old}.norm_out", f"{half}.conv_norm_out")
    table.layer(f"{old}.conv_out", f"{half}.conv_out")
    for i in range(2):
      table.vae_resnet(
        f"{old}.mid.block_{i + 1}", f"{half}.mid_block.resnets.{i}"
      )
    for name, new_name in _VAE_ATTENTION.items():
      table.layer(
        f"{old}.mid.attn_1.{name}", f"{half}.mid_block.attentions.0.{new_name}"
      )

  channels = widths[0]
  for level, width in enumerate(widths):
    old, new = f"{VAE}encoder.down.{level}", f"encoder.down_blocks.{level}"
    for i in range(layers):
      shortcut = channels != width
      table.vae_resnet(f"{old}.block.{i}", f"{new}.resnets.{i}", shortcut)
      channels = width
    if level < last:
      table.layer(f"{old}.downsample.conv", f"{new}.downsamplers.0.conv")

  # The file counts the decoder's levels from the finest, diffusers from the
  # coarsest, which is the order in which both run.
  for level in reversed(range(len(widths))):
    old, new = f"{VAE}decoder.up.{level}", f"decoder.up_blocks.{last - level}"
    for i in range(layers + 1):
      shortcut = channels != widths[level]
      table.vae_resnet(f"{old}.block.{i}", f"{new}.resnets.{i}", shortcut)
      channels = widths[level]
    if level:
      table.layer(f"{old}.upsample.conv", f"{new}.upsamplers.0.conv")
  return table.names


def average_name(name: str) -> str:
  """Where a file keeps the moving average of a tensor below `model.`."""
  return "model_ema." + name.removeprefix("model.").replace(".", "")


def inverse(table: Mapping[str, str]) -> dict[str, str]:
  """The table in the other direction.

  Raises:
    ValueError: two names have one image, which is an error of the table.
  """
  turned = {new: old for old, new in table.items()}
  if len(turned) != len(table):
    raise ValueError("the table is not one-to-one")
  return turned


class _Table:
  """A table under construction."""

  def __init__(self):
    self.names: dict[str, str] = {}

  def add(self, old: str, new: str, tails: Iterable[str]) -> None:
    """Names that end alike in both."""
    self.names |= {f"{old}.{tail}": f"{new}.{tail}" for tail in tails}

  def layer(self, old: str, new: str) -> None:
    """A layer with a weight and a bias."""
    self.add(old, new, ("weight", "bias"))

  def transformer(self, old: str, new: str) -> None:
    """A spatial transformer."""
    self.add(old, new, _TRANSFORMER)

  def resnet(self, old: str, new: str, *, shortcut: bool) -> None:
    """A residual block of the UNet."""
    for name, new_name in _RESNET.items():
      self.layer(f"{old}.{name}", f"{new}.{new_name}")
    if shortcut:
      self.layer(f"{old}.skip_connection", f"{new}.conv_shortcut")

  def vae_resnet(self, old: str, new: str, shortcut: bool = False) -> None:
    """A residual block of the VAE."""
    for name in _VAE_RESNET:
      self.layer(f"{old}.{name}", f"{new}.{name}")
    if shortcut:
      self.layer(f"{old}.nin_shortcut", f"{new}.conv_shortcut")
