"""SPAD: joint attention along epipolar lines, with rays at its input.

Its checkpoints are a Stable Diffusion 1.5 at 256 pixels whose transformers
take 6 more channels, the rays of the pixels. The two-view model is told the
cameras' angles relative to the first view, the four-view model the absolute
ones and the intrinsics. Training had the cameras at distance 3.5 with a field
of view of 40.27 degrees and captions that begin with "[tdv] ". Any number of
views can be sampled.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from mvjax import geometry
from mvjax.models import spad_geometry, stable_diffusion
from mvjax.nn import joint_views, unet
from mvjax.weights import checkpoint

# Width of the blob that sampling starts from, in half images.
BLOB_SIGMA = 0.5
# By how many numbers the network takes for a camera.
_NUMBERS = {
  4: spad_geometry.relative_numbers,
  8: spad_geometry.absolute_numbers,
}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SPAD(stable_diffusion.FlaxStableDiffusion):
  """All views of an object at once; tokens see along their epipolar lines.

  Attributes:
    mask_resize: how masks of lower levels are made, see
      `spad_geometry.epipolar_masks`.
  """

  mask_resize: str = "geometric"

  def __post_init__(self):
    if self.mask_resize not in spad_geometry.MASK_RESIZES:
      raise ValueError(
        f"mask_resize={self.mask_resize!r}: choose one of "
        f"{', '.join(spad_geometry.MASK_RESIZES)}"
      )
    if self.unet.camera_dim not in _NUMBERS:
      raise ValueError(
        f"{self.name}: projection_class_embeddings_input_dim="
        f"{self.unet.camera_dim}; must be 4 (relative cameras) or 8 (absolute "
        "cameras with intrinsics)"
      )

  @classmethod
  def from_checkpoint(
    cls,
    opened: checkpoint.Checkpoint,
    dtype: DTypeLike = jnp.float32,
    *,
    param_dtype: DTypeLike | None = None,
  ) -> "SPAD":
    """Builds the networks and reads their parameters.

    See `FlaxStableDiffusion.from_checkpoint`. The masks are the released ones
    unless `mask_resize` in the UNet's config says that it was trained with
    others.
    """
    config = opened.components["unet"].config
    model: Any = super().from_checkpoint(opened, dtype, param_dtype=param_dtype)
    return dataclasses.replace(
      model, mask_resize=config.get("mask_resize", "released")
    )

  def camera_conditioning(
    self, camera: geometry.Camera, height: int, width: int
  ) -> joint_views.JointViews:
    """Numbers, rays and masks of cameras [b, v]; on the host, not traceable.

    Assets with the same cameras share the work; one view needs no mask.
    """
    camera = jax.tree.map(np.asarray, camera)
    sizes = attention_sizes(self.unet, (height, width))
    rays = spad_geometry.plucker_maps(camera, (height, width))
    masks = None
    if camera.intrinsics.shape[1] > 1:
      masks = self._masks(camera, sizes)
    return joint_views.JointViews(
      camera_numbers=jnp.asarray(
        _NUMBERS[self.unet.camera_dim](camera), jnp.float32
      ),
      rays={
        size: jnp.asarray(spad_geometry.resize_maps(rays, size), jnp.float32)
        for size in sizes
      },
      masks=masks,
    )

  def _masks(
    self, camera: geometry.Camera, sizes: list[spad_geometry.Size]
  ) -> dict[spad_geometry.Size, Array]:
    """Masks by map size, drawn once for assets with the same cameras."""
    assets = len(camera.intrinsics)
    numbers = [leaf.reshape(assets, -1) for leaf in jax.tree.leaves(camera)]
    _, first, kind = np.unique(
      np.concatenate(numbers, 1),
      axis=0,
      return_index=True,
      return_inverse=True,
    )
    drawn = [
      spad_geometry.epipolar_masks(
        jax.tree.map(lambda leaf, asset=asset: leaf[asset], camera),
        sizes,
        mask_resize=self.mask_resize,
      )
      for asset in first
    ]
    return {
      size: jnp.asarray(np.stack([drawn[i][size] for i in kind]))
      for size in sizes
    }

  def start_latents(
    self, params: Any, shape: tuple[int, int, int, int]
  ) -> Float[Array, "v h w c"]:
    """The encoded blob: from there the white background is found."""
    factor = 2 ** (len(self.vae.block_out_channels) - 1)
    image = blob(factor * shape[1], factor * shape[2])
    image = jnp.broadcast_to(image[None, :, :, None], (1, *image.shape, 3))
    mean, _ = self.vae.apply({"params": params["vae"]}, image, method="encode")
    return jnp.broadcast_to(self.scaling_factor * mean, shape)


def blob(height: int, width: int) -> Float[np.ndarray, "h w"]:
  """A dark Gaussian blob on white, in [-1, 1]: the release's start image."""
  y, x = (
    np.linspace(-1.0, 1.0, side, dtype=np.float32) / BLOB_SIGMA
    for side in (height, width)
  )
  bump = np.exp(-0.5 * (y[:, None] ** 2 + x[None, :] ** 2))
  return 1.0 - 2.0 * (bump - bump.min()) / bump.max()


def attention_sizes(
  network: unet.UNet, size: spad_geometry.Size
) -> list[spad_geometry.Size]:
  """Sizes of the maps with transformers, for latents of a size."""
  attends = list(network.attention_levels)
  attends[-1] |= network.mid_attention
  return [
    (size[0] // 2**level, size[1] // 2**level)
    for level, has in enumerate(attends)
    if has
  ]
