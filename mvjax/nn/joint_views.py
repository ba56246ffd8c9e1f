"""What joint attention needs to know about the views of an asset.

In MVDream and SPAD the self-attention of every transformer runs over the
tokens of all views of an asset. MVDream tells the views apart by camera
numbers alone; SPAD also hides the tokens that are not on each other's epipolar
lines and appends the pixels' rays to the transformers' input.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import einops
import jax
from jaxtyping import Array, Bool, Float

Size = tuple[int, int]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class JointViews:
  """The v views of each of b assets, which see each other.

  Attributes:
    camera_numbers: [b v k], what the camera embedding reads.
    rays: by map size (height, width), Plücker maps [b v h w 6]; None for
      zeros.
    masks: by map size, [b n n] with n = v h w tokens ordered by view, row and
      column: True where a token (row) may see a token (column); None where
      every token sees all.
  """

  # Not array types: jax rebuilds pytrees with leaves that are not arrays.
  camera_numbers: Any
  rays: Mapping[Size, Any] | None = None
  masks: Mapping[Size, Any] | None = None

  @property
  def num_views(self) -> int:
    """Views of an asset."""
    return self.camera_numbers.shape[1]

  def rays_at(self, size: Size) -> Float[Array, "n h w 6"] | None:
    """Rays of all b v maps of a size, the view index fast."""
    rays = _at(self.rays, size, "rays")
    if rays is None:
      return None
    return einops.rearrange(rays, "b v h w c -> (b v) h w c")

  def mask_at(self, size: Size) -> Bool[Array, "b 1 n n"] | None:
    """Mask for maps of a size, with an axis for the heads to share."""
    mask = _at(self.masks, size, "masks")
    return None if mask is None else mask[:, None]

  def single_view(self) -> "JointViews":
    """Every view as an asset of its own, which sees all of itself."""

    def split(values: Array) -> Array:
      return einops.rearrange(values, "b v ... -> (b v) 1 ...")

    return JointViews(
      camera_numbers=split(self.camera_numbers),
      rays=jax.tree.map(split, self.rays),
    )


def _at(values: Mapping[Size, Any] | None, size: Size, name: str) -> Any:
  if values is None:
    return None
  if size not in values:
    raise ValueError(
      f"no {name} for maps of {size}, only for {sorted(values)}: add the size "
      "to the camera conditioning"
    )
  return values[size]
