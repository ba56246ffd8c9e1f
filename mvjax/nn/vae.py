"""The KL autoencoder of latent diffusion, with diffusers' parameter names.

Images are in [-1, 1]. Latents leave the encoder unscaled: the models
multiply them by their own scaling factor. All norms use epsilon 1e-6.
"""

import functools
from typing import Literal

import einops
import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from mvjax.nn import attention, blocks, layers

EPSILON = 1e-6


class VAE(nn.Module):
  """Variational autoencoder; one level per entry of `block_out_channels`.

  Attributes:
    block_out_channels: channels per level, finest first; the latent is
      `2 ** (levels - 1)` times smaller than the image.
    layers_per_block: residual blocks per encoder level (decoder: one more).
    latent_channels: channels of the latent.
    norm_num_groups: groups of every norm.
    dtype: compute dtype.
  """

  block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
  layers_per_block: int = 2
  latent_channels: int = 4
  norm_num_groups: int = 32
  dtype: DTypeLike = jnp.float32

  def setup(self):
    """Builds both halves."""
    shared = dict(
      block_out_channels=self.block_out_channels,
      layers_per_block=self.layers_per_block,
      norm_num_groups=self.norm_num_groups,
      dtype=self.dtype,
    )
    moments = 2 * self.latent_channels
    pointwise = dict(kernel_size=1, padding=0, dtype=self.dtype)
    self.encoder = Encoder(out_channels=moments, **shared)
    self.decoder = Decoder(out_channels=3, **shared)
    self.quant_conv = layers.Conv(moments, **pointwise)
    self.post_quant_conv = layers.Conv(self.latent_channels, **pointwise)

  def encode(
    self, images: Float[Array, "n h w 3"]
  ) -> tuple[Float[Array, "n i j c"], Float[Array, "n i j c"]]:
    """Mean and log-variance (within [-30, 20]) of the latents, float32."""
    moments = self.quant_conv(self.encoder(images)).astype(jnp.float32)
    mean, log_variance = jnp.split(moments, 2, axis=-1)
    return mean, jnp.clip(log_variance, -30.0, 20.0)

  def decode(self, latents: Float[Array, "n i j c"]) -> Float[Array, "n h w 3"]:
    """Images of the latents, float32, about [-1, 1] but not clipped."""
    return self.decoder(self.post_quant_conv(latents)).astype(jnp.float32)

  def __call__(
    self, images: Float[Array, "n h w 3"]
  ) -> Float[Array, "n h w 3"]:
    """Reconstructs the images from their mean latents."""
    return self.decode(self.encode(images)[0])


class Encoder(nn.Module):
  """Image to moments."""

  block_out_channels: tuple[int, ...]
  layers_per_block: int
  norm_num_groups: int
  out_channels: int
  dtype: DTypeLike

  @nn.compact
  def __call__(self, x: Float[Array, "n h w 3"]) -> Float[Array, "n i j c"]:
    """Returns the moments before `quant_conv`."""
    widths = self.block_out_channels
    x = layers.Conv(widths[0], dtype=self.dtype, name="conv_in")(x)
    for i, width in enumerate(widths):
      x = Level(
        features=width,
        num_layers=self.layers_per_block,
        norm_num_groups=self.norm_num_groups,
        resample="down" if i + 1 < len(widths) else None,
        dtype=self.dtype,
        name=f"down_blocks_{i}",
      )(x)
    x = MidBlock(self.norm_num_groups, dtype=self.dtype, name="mid_block")(x)
    return blocks.head(
      x,
      features=self.out_channels,
      norm_num_groups=self.norm_num_groups,
      norm_epsilon=EPSILON,
      dtype=self.dtype,
    )


class Decoder(nn.Module):
  """Latent to image."""

  block_out_channels: tuple[int, ...]
  layers_per_block: int
  norm_num_groups: int
  out_channels: int
  dtype: DTypeLike

  @nn.compact
  def __call__(self, x: Float[Array, "n i j c"]) -> Float[Array, "n h w 3"]:
    """Returns the images of latents that went through `post_quant_conv`."""
    widths = self.block_out_channels[::-1]
    x = layers.Conv(widths[0], dtype=self.dtype, name="conv_in")(x)
    x = MidBlock(self.norm_num_groups, dtype=self.dtype, name="mid_block")(x)
    for i, width in enumerate(widths):
      x = Level(
        features=width,
        num_layers=self.layers_per_block + 1,
        norm_num_groups=self.norm_num_groups,
        resample="up" if i + 1 < len(widths) else None,
        dtype=self.dtype,
        name=f"up_blocks_{i}",
      )(x)
    return blocks.head(
      x,
      features=self.out_channels,
      norm_num_groups=self.norm_num_groups,
      norm_epsilon=EPSILON,
      dtype=self.dtype,
    )


class Level(nn.Module):
  """Residual blocks at one resolution, then a change of resolution.

  Attributes:
    features: channels of the level.
    num_layers: residual blocks.
    norm_num_groups: groups of every norm.
    resample: what follows the residual blocks.
    dtype: compute dtype.
  """

  features: int
  num_layers: int
  norm_num_groups: int
  resample: Literal["down", "up"] | None
  dtype: DTypeLike

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n i j o"]:
    """Returns the level's output."""
    for i in range(self.num_layers):
      x = blocks.ResnetBlock(
        self.features,
        norm_num_groups=self.norm_num_groups,
        norm_epsilon=EPSILON,
        dtype=self.dtype,
        name=f"resnets_{i}",
      )(x)
    if self.resample == "down":
      return blocks.Downsample(
        padding=((0, 1), (0, 1)), dtype=self.dtype, name="downsamplers_0"
      )(x)
    if self.resample == "up":
      return blocks.Upsample(dtype=self.dtype, name="upsamplers_0")(x)
    return x


class MidBlock(nn.Module):
  """Residual block, one-head attention over all pixels, residual block."""

  norm_num_groups: int
  dtype: DTypeLike

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """Returns the block's output."""
    resnet = functools.partial(
      blocks.ResnetBlock,
      x.shape[-1],
      norm_num_groups=self.norm_num_groups,
      norm_epsilon=EPSILON,
      dtype=self.dtype,
    )
    x = resnet(name="resnets_0")(x)
    x = PixelAttention(
      self.norm_num_groups, dtype=self.dtype, name="attentions_0"
    )(x)
    return resnet(name="resnets_1")(x)


class PixelAttention(nn.Module):
  """One-head self-attention over the pixels of each map, with residual."""

  norm_num_groups: int
  dtype: DTypeLike

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """Returns the map with what its pixels gathered added."""
    y = layers.GroupNorm(
      self.norm_num_groups, EPSILON, dtype=self.dtype, name="group_norm"
    )(x)
    y = einops.rearrange(y, "n h w c -> n (h w) 1 c")

    def project(name: str, tokens: Array) -> Array:
      return layers.Dense(x.shape[-1], dtype=self.dtype, name=name)(tokens)

    y = attention.attention(
      project("to_q", y), project("to_k", y), value=project("to_v", y)
    )
    y = project("to_out_0", y)
    return x + einops.rearrange(y, "n (h w) 1 c -> n h w c", h=x.shape[1])
