"""Resizing and cropping views together with their cameras."""

import dataclasses

import numpy as np
from jaxtyping import Float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pixels:
  """Decoded views, and the part of their cameras that resizing changes.

  Attributes:
    image: in [-1, 1], on white.
    alpha: coverage in [0, 1].
    depth: z-depth; 0 where there is no surface.
    intrinsics: normalised by the image size.
  """

  image: Float[np.ndarray, "v h w 3"]
  alpha: Float[np.ndarray, "v h w"]
  depth: Float[np.ndarray, "v h w"]
  intrinsics: Float[np.ndarray, "v 3 3"]


def shrink(pixels: Pixels, size: int) -> Pixels:
  """Averages blocks of pixels; depth becomes the nearest surface of a block.

  Raises:
    ValueError: unless `size` divides the image size.
  """
  views, height, width = pixels.alpha.shape
  if size < 1 or height % size or width % size:
    raise ValueError(
      f"image_size={size}: must divide the stored size {height}x{width}"
    )
  blocks = (views, size, height // size, size, width // size)
  depth = np.where(pixels.depth > 0, pixels.depth, np.inf).reshape(blocks)
  nearest = depth.min((2, 4))
  return Pixels(
    image=pixels.image.reshape(*blocks, 3).mean((2, 4)),
    alpha=pixels.alpha.reshape(blocks).mean((2, 4)),
    depth=np.where(np.isfinite(nearest), nearest, 0).astype(np.float32),
    intrinsics=pixels.intrinsics,
  )


def crop(pixels: Pixels, size: int, *, rng: np.random.Generator) -> Pixels:
  """A square of every view that holds a random pixel of the object.

  The pixel's place in the square is random too, but the square stays inside
  the image. Where nothing is seen, any pixel of the image serves.

  Raises:
    ValueError: if the image is smaller than `size`.
  """
  views, height, width = pixels.alpha.shape
  if not 0 < size <= min(height, width):
    raise ValueError(f"crop={size}: images are {height}x{width} pixels")
  corners = np.stack([_corner(mask, size, rng) for mask in pixels.alpha > 0.5])

  def cut(images: np.ndarray) -> np.ndarray:
    return np.stack(
      [
        image[row : row + size, column : column + size]
        for image, (row, column) in zip(images, corners, strict=True)
      ]
    )

  # With u in [0, 1] over the image: u' = (u * width - column) / size.
  change = np.tile(np.eye(3, dtype=np.float32), (views, 1, 1))
  change[:, 0, 0] = width / size
  change[:, 1, 1] = height / size
  change[:, :2, 2] = -corners[:, ::-1] / size
  return Pixels(
    image=cut(pixels.image),
    alpha=cut(pixels.alpha),
    depth=cut(pixels.depth),
    intrinsics=change @ pixels.intrinsics,
  )


def _corner(
  mask: np.ndarray, size: int, rng: np.random.Generator
) -> tuple[int, int]:
  """Row and column of the top left pixel of a crop."""
  seen = np.flatnonzero(mask)
  place = (
    seen[rng.integers(len(seen))] if len(seen) else rng.integers(mask.size)
  )
  pixel = np.array(np.unravel_index(place, mask.shape))
  limit = np.array(mask.shape) - size
  row, column = np.clip(pixel - rng.integers(size, size=2), 0, limit)
  return int(row), int(column)
