"""Bilinear sampling of feature maps at free positions, in two exact forms.

Positions are (x, y) in map units: the centre of pixel (i, j) is (j, i), and
nothing lies outside the outermost centres (`map_position` clamps). Gathering
four corners is the fast form on a CPU; a matrix product with hat-function
weights on a TPU, whose gathers and scatter-adds are slow. The forms differ by
rounding only, in value and gradient.
"""

from collections.abc import Callable

import einops
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def map_position(
  uv: Float[Array, "*b 2"], height: int, width: int
) -> Float[Array, "*b 2"]:
  """Image coordinates in [0, 1] to map units, clamped to pixel centres."""
  return jnp.stack(
    [
      jnp.clip(uv[..., 0] * width - 0.5, 0.0, width - 1.0),
      jnp.clip(uv[..., 1] * height - 0.5, 0.0, height - 1.0),
    ],
    -1,
  )


def sample_gather(
  maps: Float[Array, "*b h w c"], positions: Float[Array, "*b s 2"]
) -> Float[Array, "*b s c"]:
  """Samples by reading the four corners around each position."""
  height, width = maps.shape[-3:-1]
  left, top = (
    jnp.clip(jnp.floor(positions[..., axis]), 0, max(side - 2, 0))
    for axis, side in ((0, width), (1, height))
  )
  x = (positions[..., 0] - left).astype(maps.dtype)[..., None]
  y = (positions[..., 1] - top).astype(maps.dtype)[..., None]
  index = (top * width + left).astype(jnp.int32)
  # On a map one pixel wide both corners are that pixel.
  right, down = min(width - 1, 1), width * min(height - 1, 1)

  def read(pixels, index):
    return jnp.take(pixels, index, axis=0, mode="clip")

  for _ in range(maps.ndim - 3):
    read = jax.vmap(read)
  pixels = einops.rearrange(maps, "... h w c -> ... (h w) c")
  above = read(pixels, index) * (1 - x) + read(pixels, index + right) * x
  index = index + down
  below = read(pixels, index) * (1 - x) + read(pixels, index + right) * x
  return above * (1 - y) + below * y


def sample_hat(
  maps: Float[Array, "*b h w c"], positions: Float[Array, "*b s 2"]
) -> Float[Array, "*b s c"]:
  """Samples by a product with relu(1 - |x - j|) relu(1 - |y - i|)."""
  height, width = maps.shape[-3:-1]
  x, y = (
    jax.nn.relu(
      1
      - jnp.abs(
        positions[..., axis, None]
        - jnp.arange(side, dtype=positions.dtype).reshape(
          (1,) * (positions.ndim - 1) + (side,)
        )
      )
    )
    for axis, side in ((0, width), (1, height))
  )
  weights = (y[..., :, None] * x[..., None, :]).astype(maps.dtype)
  return jnp.einsum(
    "...sp,...pc->...sc",
    einops.rearrange(weights, "... s h w -> ... s (h w)"),
    einops.rearrange(maps, "... h w c -> ... (h w) c"),
  )


SAMPLERS: dict[str, Callable[[Array, Array], Array]] = {
  "gather": sample_gather,
  "hat": sample_hat,
}
