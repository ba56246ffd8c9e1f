"""Samples to pixels: light, averaging, depth, and tiled images."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int, UInt8, UInt16
from PIL import Image

from data_pipeline import raycast

DEPTH_SCALE = 8192.0
_AMBIENT = 0.52
# Directions towards the lamps and their strengths.
_LAMPS = (((0.75, 0.35, 0.75), 0.42), ((-0.5, -0.8, 0.3), 0.2))
# Hits of one pixel further apart than this are different surfaces.
_SAME_SURFACE = 0.05


def color_image(
  hits: raycast.Hits,
  rgb: Float32[np.ndarray, "n 3"],
  *,
  size: int,
  supersampling: int,
) -> UInt8[np.ndarray, "h w 4"]:
  """Lit and averaged samples of one view, straight alpha.

  Args:
    hits: Of a grid of size * supersampling samples on a side.
    rgb: sRGB of each hit before lighting.
    size: Pixels on a side.
    supersampling: Samples on a side of each pixel.
  """
  pixel = _pixel(hits, size=size, supersampling=supersampling)
  lit = rgb * light(hits.normals)[:, None]
  total = np.stack(
    [np.bincount(pixel, channel, size**2) for channel in lit.T], -1
  )
  count = np.bincount(pixel, minlength=size**2)[:, None]
  mean = np.clip(total / np.maximum(count, 1), 0, 1)
  image = np.concatenate([mean, count / supersampling**2], -1)
  return np.rint(255 * image).astype(np.uint8).reshape(size, size, 4)


def depth_image(
  hits: raycast.Hits, *, size: int, supersampling: int
) -> UInt16[np.ndarray, "h w"]:
  """Z-depth times `DEPTH_SCALE`; 0 where nothing is hit.

  A pixel on an edge gets the depth of its nearest surface, never a mean of
  two surfaces. Arguments as in `color_image`.
  """
  pixel = _pixel(hits, size=size, supersampling=supersampling)
  nearest = np.full(size**2, np.inf, np.float32)
  np.minimum.at(nearest, pixel, hits.depth)
  near = hits.depth < nearest[pixel] + _SAME_SURFACE
  count = np.bincount(pixel[near], minlength=size**2)
  total = np.bincount(pixel[near], hits.depth[near], size**2)
  depth = total / np.maximum(count, 1) * DEPTH_SCALE
  return np.rint(depth).astype(np.uint16).reshape(size, size)


def light(normals: Float32[np.ndarray, "n 3"]) -> Float32[np.ndarray, " n"]:
  """Factor on a surface's colour: ambient and two lamps, fixed to the world."""
  total = np.full(len(normals), _AMBIENT, np.float32)
  for direction, strength in _LAMPS:
    lamp = np.asarray(direction, np.float32) / np.linalg.norm(direction)
    total += strength * np.maximum(normals @ lamp, 0)
  return total


def columns(count: int) -> int:
  """Tiles in a row: a multiple of four, about twice the number of rows."""
  return min(count, 4 * math.ceil(math.sqrt(2 * count) / 4))


def tile(images: Sequence[np.ndarray]) -> Image.Image:
  """Views of equal size in row-major tiles; tiles left over are zero."""
  across = columns(len(images))
  rows = -(-len(images) // across)
  height, width, *channels = images[0].shape
  tiles = np.zeros((rows * across, *images[0].shape), images[0].dtype)
  tiles[: len(images)] = images
  tiles = tiles.reshape(rows, across, height, width, *channels).swapaxes(1, 2)
  return Image.fromarray(
    tiles.reshape(rows * height, across * width, *channels)
  )


def _pixel(
  hits: raycast.Hits, *, size: int, supersampling: int
) -> Int[np.ndarray, " n"]:
  """Number of the pixel that each hit belongs to."""
  row, column = np.divmod(hits.sample, size * supersampling)
  return row // supersampling * size + column // supersampling
