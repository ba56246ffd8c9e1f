"""Neighbouring views carried into each other along a surface.

With the depth of view i every pixel of it becomes a point of the world, which
view j sees somewhere: `warp` fetches its colour there. A pixel counts if it
has depth, lands inside view j, and is what j sees there (the depths of the
four pixels of j around that place are those of the point). Over all neighbours
around the object, both ways:

* warp error: mean absolute colour difference of the pixels that count, in
  [0, 1]; with true depths it measures the views alone. It is the warping error
  of videos (Lai et al. 2018, arXiv:1808.00449: over pixels that are not
  occluded) with depth in the place of flow and L1 in that of squares;
* reprojection LPIPS: LPIPS between view i and view i with the pixels that count
  replaced, divided by the share of pixels that were: differences of texture
  that a mean of colours forgives. LPIPS is that of Zhang et al. 2018
  (arXiv:1801.03924); the division, so that views with little overlap do not
  seem better, is ours. Interpolation alone makes it positive, so it is read
  against ground-truth renders.

Depths are those of true surfaces where they exist, else those of the field
that was fitted to the views (`refit`), which the report says.
"""

from collections.abc import Callable

import einops
import numpy as np
from jaxtyping import Bool, Float

from mvjax import geometry
from mvjax.views import asset_views

# How far depths of one surface may differ, relative to themselves.
_TOLERANCE = 0.03

Depth = Float[np.ndarray, "v h w"]
PairDistance = Callable[[np.ndarray, np.ndarray], np.ndarray]


def warp(
  given: asset_views.Views, depth: Depth, *, source: int, target: int
) -> tuple[Float[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
  """The colours that view `source` has for the pixels of view `target`.

  Inverse warping (Hartley & Zisserman 2004, chapter 6: back-projection to
  depth, projection into the other view) with a test for occlusion.

  Args:
    given: views with cameras.
    depth: z-depth of every view, 0 where there is no surface.
    source: number of the view that is looked up.
    target: number of the view that is looked from.

  Returns:
    The colours, and which pixels count.
  """
  height, width = depth.shape[1:]
  to_world = np.asarray(given.camera.camera_to_world, np.float64)
  lens = np.asarray(given.camera.intrinsics, np.float64)
  one = geometry.Camera(
    camera_to_world=to_world[target], intrinsics=lens[target]
  )
  origins, directions = geometry.rays(one, height, width, xnp=np)
  # z-depth along the axis to distance along the ray.
  slant = directions @ to_world[target][:3, 2]
  distance = depth[target] / slant
  points = origins + distance[..., None] * directions
  other = geometry.Camera(
    camera_to_world=to_world[source], intrinsics=lens[source]
  )
  points = einops.rearrange(points, "h w x -> (h w) x")
  uv, reached = geometry.project(other, points, xnp=np)
  uv = einops.rearrange(uv, "(h w) xy -> h w xy", h=height)
  reached = einops.rearrange(reached, "(h w) -> h w", h=height)
  inside = ((uv > 0) & (uv < 1)).all(-1) & (reached > 0)
  counts = (depth[target] > 0) & inside
  around, shares = _corners(uv, height, width)
  for rows, columns in around:
    seen = depth[source][rows, columns]
    counts &= np.abs(seen - reached) <= _TOLERANCE * reached
  colours = sum(
    share[..., None] * given.image[source][rows, columns]
    for (rows, columns), share in zip(around, shares, strict=True)
  )
  return np.asarray(colours), counts


def warp_error(given: asset_views.Views, depth: Depth) -> dict[str, float]:
  """Warp error, and the share of surface pixels that count.

  Args:
    given: views with cameras.
    depth: z-depth of every view, 0 where there is no surface.

  Returns:
    'warp_error', in [0, 1], NaN if no pixel counts (Lai et al. 2018, see
    above), and 'warp_coverage', in [0, 1].
  """
  total, counted, surface = 0.0, 0, 0
  for source, target in _both_ways(given):
    colours, counts = warp(given, depth, source=source, target=target)
    difference = np.abs(colours - given.image[target]).mean(-1) / 2
    total += difference[counts].sum()
    counted += counts.sum()
    surface += (depth[target] > 0).sum()
  return {
    "warp_error": float(total / counted) if counted else float("nan"),
    "warp_coverage": float(counted / max(1, surface)),
  }


def reprojection_lpips(
  given: asset_views.Views, depth: Depth, distance_fn: PairDistance
) -> dict[str, float]:
  """LPIPS between views and themselves with carried pixels put in.

  Args:
    given: views with cameras.
    depth: z-depth of every view, 0 where there is no surface.
    distance_fn: from two batches of images to the LPIPS (Zhang et al. 2018)
      of each pair.

  Returns:
    'reprojection_lpips', divided by the share of replaced pixels; NaN if
    there is none.
  """
  originals, replaced, shares = [], [], []
  for source, target in _both_ways(given):
    colours, counts = warp(given, depth, source=source, target=target)
    original = given.image[target]
    originals.append(original)
    replaced.append(np.where(counts[..., None], colours, original))
    shares.append(counts.mean())
  distances = np.asarray(
    distance_fn(
      np.stack(originals).astype(np.float32),
      np.stack(replaced).astype(np.float32),
    )
  )
  total = float(np.sum(shares))
  value = float(distances.sum() / total) if total else float("nan")
  return {"reprojection_lpips": value}


def _both_ways(given: asset_views.Views) -> list[tuple[int, int]]:
  pairs = asset_views.ring_pairs(given.camera)
  return [*pairs, *((j, i) for i, j in pairs)]


def _corners(uv: Float[np.ndarray, "i j 2"], height: int, width: int):
  """The four pixels around each place, and their bilinear shares.

  Outside the picture the border goes on.
  """
  x = np.clip(uv[..., 0] * width - 0.5, 0, width - 1)
  y = np.clip(uv[..., 1] * height - 0.5, 0, height - 1)
  left, top = x.astype(int), y.astype(int)
  right, bottom = (
    np.minimum(left + 1, width - 1),
    np.minimum(top + 1, height - 1),
  )
  dx, dy = x - left, y - top
  around = [(top, left), (top, right), (bottom, left), (bottom, right)]
  shares = [(1 - dy) * (1 - dx), (1 - dy) * dx, dy * (1 - dx), dy * dx]
  return around, shares
