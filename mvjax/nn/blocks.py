"""Residual blocks and resampling shared by the UNet and the VAE.

Parameter names are those of diffusers.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from mvjax.nn import layers
from mvjax.parallel import logical


class ResnetBlock(nn.Module):
  """Two normalised convolutions around a shortcut.

  Attributes:
    features: output channels.
    norm_num_groups: groups of both norms.
    norm_epsilon: 1e-5 in the UNet, 1e-6 in the VAE.
    zero_init: starts as its shortcut.
    dtype: compute dtype.
  """

  features: int
  norm_num_groups: int
  norm_epsilon: float
  zero_init: bool = False
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "n h w c"],
    time_embedding: Float[Array, "n e"] | None = None,
  ) -> Float[Array, "n h w o"]:
    """Returns the block's output; the embedding is added between the two."""

    def norm(name: str) -> layers.GroupNorm:
      return layers.GroupNorm(
        self.norm_num_groups, self.norm_epsilon, dtype=self.dtype, name=name
      )

    y = nn.silu(norm("norm1")(x))
    y = layers.Conv(self.features, dtype=self.dtype, name="conv1")(y)
    if time_embedding is not None:
      shift = layers.Dense(
        self.features, dtype=self.dtype, name="time_emb_proj"
      )(nn.silu(time_embedding))
      y = y + shift[:, None, None, :]
    y = nn.silu(norm("norm2")(y))
    y = layers.Conv(
      self.features, zero_init=self.zero_init, dtype=self.dtype, name="conv2"
    )(y)
    if x.shape[-1] != self.features:
      x = layers.Conv(
        self.features,
        kernel_size=1,
        padding=0,
        dtype=self.dtype,
        name="conv_shortcut",
      )(x)
    return logical.constrain(x + y, "batch")


class Downsample(nn.Module):
  """Halves the map with a strided convolution.

  `padding` is 1 in the UNet and (0, 1) per axis, that is right and bottom
  only, in the VAE.
  """

  padding: int | layers.Padding
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n i j c"]:
    """Returns the half-size map."""
    return layers.Conv(
      x.shape[-1],
      stride=2,
      padding=self.padding,
      dtype=self.dtype,
      name="conv",
    )(x)


class Upsample(nn.Module):
  """Doubles the map by repeating pixels, then convolves it."""

  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n i j c"]:
    """Returns the double-size map."""
    n, h, w, c = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (n, h, 2, w, 2, c))
    return layers.Conv(c, dtype=self.dtype, name="conv")(
      x.reshape(n, 2 * h, 2 * w, c)
    )


def head(
  x: Float[Array, "n h w c"],
  *,
  features: int,
  norm_num_groups: int,
  norm_epsilon: float,
  zero_init: bool = False,
  dtype: DTypeLike = jnp.float32,
) -> Float[Array, "n h w o"]:
  """Norm, SiLU and convolution that end a network; call in a compact."""
  x = layers.GroupNorm(
    norm_num_groups, norm_epsilon, dtype=dtype, name="conv_norm_out"
  )(x)
  return layers.Conv(
    features, zero_init=zero_init, dtype=dtype, name="conv_out"
  )(nn.silu(x))
