"""What SPAD is told about cameras: vectors, Plücker maps, epipolar masks.

All of it is computed on the host, once for a set of cameras, in float64. SPAD
measures the polar angle from +z (the equator is at pi/2) where we measure
elevation from the equator; world, azimuth and units are ours.

A token of view s may attend to a token of view u if its epipolar line in view
u runs through it. Lines are drawn as the published code draws them, because
its weights were trained on those pixels: from border to border of the image,
or from the epipole on where that lies in the image, with Bresenham's
algorithm, nine times with both ends moved by one pixel or less.
"""

import itertools
from collections.abc import Sequence

import einops
import numpy as np
from jaxtyping import Bool, Float, Int

from mvjax import geometry

# How the masks of lower levels come about, see `epipolar_masks`.
MASK_RESIZES = ("released", "geometric")
# Along the camera's axis. It matters only where the epipole is in the image:
# it decides which of the two half lines is taken.
_POINT_DEPTH = 3.5

Size = tuple[int, int]


def absolute_numbers(camera: geometry.Camera) -> Float[np.ndarray, "*b v 8"]:
  """Polar angle, sine and cosine of the azimuth, distance; intrinsics.

  The intrinsics fx, fy, cx, cy are in half image sizes from the centre.
  """
  polar, azimuth, distance = _spherical(camera)
  intrinsics = 2.0 * np.asarray(camera.intrinsics, np.float64)
  return np.stack(
    [
      polar,
      np.sin(azimuth),
      np.cos(azimuth),
      distance,
      intrinsics[..., 0, 0],
      intrinsics[..., 1, 1],
      intrinsics[..., 0, 2] - 1.0,
      intrinsics[..., 1, 2] - 1.0,
    ],
    -1,
  )


def relative_numbers(camera: geometry.Camera) -> Float[np.ndarray, "*b v 4"]:
  """First view minus each view: polar angle, sin and cos of azimuth, distance.

  Zero123, whose vectors look alike, has the opposite sign.
  """
  polar, azimuth, distance = (
    values[..., :1] - values for values in _spherical(camera)
  )
  return np.stack([polar, np.sin(azimuth), np.cos(azimuth), distance], -1)


def plucker_maps(
  camera: geometry.Camera, size: Size
) -> Float[np.ndarray, "*b v h w 6"]:
  """Rays [d, o x d] through the pixel centres, d of unit length."""
  origins, directions = geometry.rays(_double(camera), *size, xnp=np)
  return np.asarray(geometry.plucker(origins, directions, xnp=np))


def resize_maps(
  maps: Float[np.ndarray, "*b h w c"], size: Size
) -> Float[np.ndarray, "*b i j c"]:
  """Bilinear samples at the new pixel centres, without anti-aliasing."""
  rows, columns = (
    _hat_weights(old, new)
    for old, new in zip(maps.shape[-3:-1], size, strict=True)
  )
  return np.einsum("ih,jw,...hwc->...ijc", rows, columns, maps, optimize=True)


def epipolar_masks(
  camera: geometry.Camera, sizes: Sequence[Size], *, mask_resize: str
) -> dict[Size, Bool[np.ndarray, "n n"]]:
  """Masks of views that see each other, by map size; n = views h w tokens.

  Args:
    camera: [v].
    sizes: of the maps, the largest first.
    mask_resize: 'geometric' draws the lines anew at every size. 'released'
      resizes the largest mask as if its n x n entries were pixels of one
      image, as the published code does; that takes the entries of wrong
      pixels, and a published checkpoint was trained with them.
  """
  if mask_resize == "geometric":
    return {size: epipolar_mask(camera, size) for size in sizes}
  largest = epipolar_mask(camera, sizes[0])
  views, length = len(camera.intrinsics), len(largest)
  masks = {}
  for height, width in sizes:
    tokens = views * height * width
    kept = np.arange(tokens) * length // tokens
    masks[height, width] = largest[np.ix_(kept, kept)]
  return masks


def epipolar_mask(
  camera: geometry.Camera, size: Size
) -> Bool[np.ndarray, "n n"]:
  """Which tokens (columns) each token (row) may attend to.

  Tokens are ordered by view, row and column. All of the own view is visible;
  of another view nothing, where the epipolar line misses its image.

  Args:
    camera: [v].
    size: height and width of the maps.
  """
  height, width = size
  camera = _double(camera)
  views, pixels = len(camera.intrinsics), height * width
  origins, directions = geometry.rays(camera, height, width, xnp=np)
  forward = camera.camera_to_world[:, None, None, :3, 2]
  depth = np.sum(directions * forward, -1, keepdims=True)
  points = origins + _POINT_DEPTH * directions / depth
  mask = np.zeros((views, pixels, views, pixels), bool)
  for source, target in itertools.permutations(range(views), 2):
    to_image = _projection(camera, target, size)
    epipole = to_image(origins[source, 0, :1])
    first, second, hit = _clip(
      epipole, to_image(points[source].reshape(-1, 3)), size
    )
    # The published code does not draw in the first pixel alone.
    hit &= (first + second).any(-1)
    mask[source, hit, target] = _draw(first[hit], second[hit], size)
  mask[np.arange(views), :, np.arange(views)] = True
  return einops.rearrange(mask, "v p u q -> (v p) (u q)")


def _double(camera: geometry.Camera) -> geometry.Camera:
  return geometry.Camera(
    camera_to_world=np.asarray(camera.camera_to_world, np.float64),
    intrinsics=np.asarray(camera.intrinsics, np.float64),
  )


def _spherical(camera: geometry.Camera):
  """Polar angle, azimuth and distance of the cameras' positions."""
  position = np.asarray(camera.camera_to_world, np.float64)[..., :3, 3]
  x, y, z = np.moveaxis(position, -1, 0)
  across = np.hypot(x, y)
  return np.arctan2(across, z), np.arctan2(y, x), np.hypot(across, z)


def _hat_weights(old: int, new: int) -> Float[np.ndarray, "new old"]:
  """Bilinear weights of the old pixels, for each new one."""
  position = (np.arange(new) + 0.5) * (old / new) - 0.5
  position = np.clip(position, 0.0, old - 1.0)
  return np.maximum(1.0 - np.abs(position[:, None] - np.arange(old)), 0.0)


def _projection(camera: geometry.Camera, view: int, size: Size):
  """Function from points to homogeneous (x, y, 1) z in pixels of a view."""
  pose, intrinsics = camera.camera_to_world[view], camera.intrinsics[view]
  scale = np.diag([size[1], size[0], 1.0])
  matrix = scale @ intrinsics @ pose[:3, :3].T
  return lambda points: (points - pose[:3, 3]) @ matrix.T


def _clip(
  epipole: Float[np.ndarray, "1 3"],
  points: Float[np.ndarray, "p 3"],
  size: Size,
) -> tuple[
  Int[np.ndarray, "p 2"], Int[np.ndarray, "p 2"], Bool[np.ndarray, "p"]
]:
  """Pixels (x, y) where lines enter and leave the image, and if they do."""
  height, width = size
  a, b, c = np.cross(epipole, points).T
  zero = np.zeros_like(a)
  # A line along a side divides by zero; that is no crossing.
  with np.errstate(divide="ignore", invalid="ignore"):
    crossings = np.stack(
      [
        np.stack([-c / a, zero], -1),
        np.stack([-(b * height + c) / a, zero + height], -1),
        np.stack([zero + width, -(a * width + c) / b], -1),
        np.stack([zero, -c / b], -1),
      ]
    )
    within = ((crossings >= 0) & (crossings <= (width, height))).all(-1)
    centre = epipole[0, :2] / epipole[0, 2]
    towards = points[:, :2] / points[:, 2:] > centre
  each = np.arange(len(points))
  first = crossings[within.argmax(0), each]
  second = crossings[3 - within[::-1].argmax(0), each]
  if ((centre >= 0) & (centre <= (width, height))).all():
    ahead = ((first > centre) == towards).all(-1, keepdims=True)
    first = np.where(ahead, first, second)
    second = np.broadcast_to(centre, first.shape)
  hit = np.asarray(within.any(0))
  first, second = (
    np.trunc(np.where(hit[:, None], end, 0.5) - 0.5).astype(int)
    for end in (first, second)
  )
  return first, second, hit


def _draw(
  first: Int[np.ndarray, "p 2"], second: Int[np.ndarray, "p 2"], size: Size
) -> Bool[np.ndarray, "p n"]:
  """Thick lines between pixels (x, y), each on a map of its own."""
  height, width = size
  maps = np.zeros((len(first), height * width), bool)
  last = np.array([width - 1, height - 1])
  for offset in itertools.product((-1, 0, 1), repeat=2):
    start, end = (np.clip(pixel + offset, 0, last) for pixel in (first, second))
    length = np.abs(end - start)
    longest = length.max(-1)[:, None, None]
    step = np.minimum(np.arange(max(size))[None, :, None], longest)
    # Bresenham's walk in closed form: along the longer axis by one, along the
    # other by the rounded share, halves away from the start.
    moved = (2 * length[:, None] * step + longest) // np.maximum(2 * longest, 1)
    x, y = np.moveaxis(
      start[:, None] + np.sign(end - start)[:, None] * moved, -1, 0
    )
    maps[np.arange(len(maps))[:, None], y * width + x] = True
  return maps
