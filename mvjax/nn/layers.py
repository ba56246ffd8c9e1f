"""The layers under every network: convolution, norms, time embedding.

Maps are channels last (`[n h w c]`), kernels `[height width in out]`.
Parameters are float32 whatever the compute `dtype` is; norms compute in
float32 and return the compute dtype.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from mvjax.parallel import logical

Padding = tuple[tuple[int, int], tuple[int, int]]

# Maps of at most so many rows, and of at least so many channels.
_COARSE, _WIDE = 8, 512


def conv2d(
  x: Float[Array, "n h w c"],
  kernel: Float[Array, "kh kw c o"],
  *,
  strides: tuple[int, int] = (1, 1),
  padding: Padding = ((0, 0), (0, 0)),
) -> Float[Array, "n i j o"]:
  """Correlates maps with a kernel; the one convolution of the code base.

  XLA:CPU convolves wide coarse maps at half the speed of a matrix product
  (`tests/benchmarks/unet.py`), so there they are laid out for one.
  """

  def convolve(x: Array, kernel: Array) -> Array:
    return jax.lax.conv_general_dilated(
      x,
      kernel,
      window_strides=strides,
      padding=padding,
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )

  if kernel.shape[:2] == (1, 1) and strides == (1, 1) and not np.any(padding):
    return jnp.matmul(x, kernel[0, 0])
  coarse_and_wide = x.shape[1] <= _COARSE and x.shape[-1] >= _WIDE
  if coarse_and_wide and strides == (1, 1):
    return jax.lax.platform_dependent(
      x,
      kernel,
      cpu=lambda x, kernel: _as_product(x, kernel, padding=padding),
      default=convolve,
    )
  return convolve(x, kernel)


def _as_product(x: Array, kernel: Array, *, padding: Padding) -> Array:
  """The convolution as one product with copies of the maps, side by side."""
  rows, columns = kernel.shape[:2]
  x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
  height, width = x.shape[1] - rows + 1, x.shape[2] - columns + 1
  copies = [
    x[:, i : i + height, j : j + width]
    for i in range(rows)
    for j in range(columns)
  ]
  weights = kernel.reshape(-1, kernel.shape[-1])
  return jnp.matmul(jnp.concatenate(copies, axis=-1), weights)


def _matmul(x: Array, kernel: Array, *args: Any, **kwargs: Any) -> Array:
  return jax.lax.dot_general(x, logical.whole(kernel), *args, **kwargs)


# Flax's, with a kernel that is gathered from all devices for its use.
Dense = functools.partial(nn.Dense, dot_general=_matmul)


class Embed(nn.Module):
  """A vector for each id; the table is gathered for its use.

  Attributes:
    num_embeddings: rows of the table.
    features: width of a row.
    dtype: of the vectors.
  """

  num_embeddings: int
  features: int
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, ids: Int[Array, "*b"]) -> Float[Array, "*b d"]:
    """Returns the rows of the ids."""
    initializer = nn.initializers.variance_scaling(
      1.0, "fan_in", "normal", out_axis=0
    )
    shape = self.num_embeddings, self.features
    table = self.param("embedding", initializer, shape)
    return jnp.take(logical.whole(jnp.asarray(table, self.dtype)), ids, axis=0)


class Conv(nn.Module):
  """Square convolution with bias.

  Attributes:
    features: output channels.
    kernel_size: side of the kernel in pixels.
    stride: step of the output grid in pixels.
    padding: zeros on every side, or ((top, bottom), (left, right)).
    zero_init: starts as the zero map, for the last layer of a residual.
    dtype: compute dtype.
  """

  features: int
  kernel_size: int = 3
  stride: int = 1
  padding: int | Padding = 1
  zero_init: bool = False
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n i j o"]:
    """Returns the convolved maps in the compute dtype."""
    kernel = self.param(
      "kernel",
      kernel_initializer(zero=self.zero_init),
      (self.kernel_size, self.kernel_size, x.shape[-1], self.features),
    )
    bias = self.param("bias", nn.initializers.zeros, (self.features,))
    padding = self.padding
    if isinstance(padding, int):
      padding = ((padding, padding), (padding, padding))
    y = conv2d(
      x.astype(self.dtype),
      logical.whole(jnp.asarray(kernel, self.dtype)),
      strides=(self.stride, self.stride),
      padding=padding,
    )
    return y + jnp.asarray(bias, self.dtype).reshape(1, 1, 1, -1)


class GroupNorm(nn.Module):
  """Normalises groups of neighbouring channels over all pixels.

  The variance is that of the centred values: E[x^2] - E[x]^2 loses the
  small variances for which epsilon matters.
  """

  num_groups: int
  epsilon: float
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "n *s c"]) -> Float[Array, "n *s c"]:
    """Returns the normalised maps; raises ValueError on odd group sizes."""
    channels = x.shape[-1]
    if channels % self.num_groups:
      raise ValueError(
        f"norm_num_groups={self.num_groups} does not divide {channels} "
        "channels: choose a common divisor of all block_out_channels"
      )
    scale = self.param("scale", nn.initializers.ones, (channels,))
    bias = self.param("bias", nn.initializers.zeros, (channels,))
    # Pixels first, groups second: the large sums then keep the layout of x.
    pixels = tuple(range(1, x.ndim - 1))
    x = x.astype(jnp.float32)
    x = x - self._over_group(x.mean(pixels), x.ndim)
    variance = self._over_group(jnp.square(x).mean(pixels), x.ndim)
    leading = (1,) * (x.ndim - 1)
    gain = jax.lax.rsqrt(variance + self.epsilon) * scale.reshape(*leading, -1)
    return (x * gain + bias.reshape(*leading, -1)).astype(self.dtype)

  def _over_group(self, values: Float[Array, "n c"], ndim: int) -> Array:
    """Averages channels over their group, shaped to broadcast over pixels."""
    n, channels = values.shape
    groups = values.reshape(n, self.num_groups, -1)
    mean = jnp.broadcast_to(groups.mean(-1, keepdims=True), groups.shape)
    return mean.reshape(n, *(1,) * (ndim - 2), channels)


class LayerNorm(nn.Module):
  """Normalises the channels of each token."""

  epsilon: float = 1e-5
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
    """Returns the normalised tokens in the compute dtype."""
    scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
    bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
    leading = (1,) * (x.ndim - 1)
    x = x.astype(jnp.float32)
    x = x - x.mean(-1, keepdims=True)
    variance = jnp.square(x).mean(-1, keepdims=True)
    x = x * jax.lax.rsqrt(variance + self.epsilon)
    x = x * scale.reshape(*leading, -1) + bias.reshape(*leading, -1)
    return x.astype(self.dtype)


class Embedder(nn.Module):
  """Linear-SiLU-Linear on vectors, with diffusers' layer names.

  `zero_init` starts the last layer at zero, so that an embedding added to a
  trained network leaves it unchanged at first.
  """

  features: int
  zero_init: bool = False
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "n c"]) -> Float[Array, "n e"]:
    """Returns the embedded vectors."""
    x = Dense(self.features, dtype=self.dtype, name="linear_1")(x)
    return Dense(
      self.features,
      dtype=self.dtype,
      kernel_init=kernel_initializer(zero=self.zero_init),
      name="linear_2",
    )(nn.silu(x))


def kernel_initializer(*, zero: bool) -> nn.initializers.Initializer:
  """Zeros, or variance 1/fan_in."""
  if zero:
    return nn.initializers.zeros
  return nn.initializers.lecun_normal()


def timestep_features(
  t: Float[Array, "n"], channels: int
) -> Float[Array, "n c"]:
  """Cosines, then sines, of t at `channels / 2` geometric frequencies.

  Frequency k is 10000^(-2k / channels); t need not be an integer.
  """
  half = channels // 2
  frequencies = jnp.exp(-jnp.log(10000.0) / half * jnp.arange(half))
  angles = t.astype(jnp.float32)[:, None] * frequencies[None, :]
  return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)
