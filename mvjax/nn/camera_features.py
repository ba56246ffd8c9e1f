"""What the epipolar blocks need to know about the cameras, and nothing else.

All of it depends on cameras only, so it is computed once per camera set: before
the sampling scan, and shared by the branches of classifier-free guidance. Rays
are Plücker coordinates [d, o x d] in world axes; depths are along a camera's z
axis, in world units. Their harmonics, 13 times larger, are made where they are
used (`harmonics`).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import einops
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mvjax import geometry
from mvjax.nn import bilinear
from mvjax.parallel import logical

# The object lies inside the ball of this radius at the origin.
_RADIUS = 1.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class LevelFeatures:
  """Epipolar geometry of maps with p = height * width pixels, row by row.

  View v looks at m points on the ray of each of its pixels; each point is
  projected into every view u of the same asset, v itself included.

  Attributes:
    positions: [b v p m u 2], where point m falls in the map of view u; map
      units, clamped to the map (`bilinear.map_position`).
    visible: [b v p m u] bool: in front of camera u and inside its image. The
      own view (u = v) always is.
    rays: [b v p 6], the ray of the pixel.
    depths: [b v p m], of the point in view v.
    view_rays: [b v p m u 7], the ray from camera u to the point and the
      point's depth in view u.
  """

  # Not array types: jax rebuilds pytrees with leaves that are not arrays.
  positions: Any
  visible: Any
  rays: Any
  depths: Any
  view_rays: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class CameraFeatures:
  """Camera-only inputs of a multi-view network.

  Attributes:
    camera_numbers: [b v 16], rotation (row by row, camera to world),
      position, fx, fy, cx, cy.
    levels: `LevelFeatures` by map size (height, width).
  """

  camera_numbers: Any
  levels: Mapping[tuple[int, int], Any]

  def single_view(self) -> "CameraFeatures":
    """Features of b * v assets with one view each, out of b with v views.

    The network's result is that of `cut_views`, for 1 / v of the samples.
    """

    def own(values: Array) -> Array:
      values = jnp.diagonal(values, axis1=1, axis2=4)
      return einops.rearrange(values, "b p m ... v -> (b v) 1 p m 1 ...")

    levels = {
      size: LevelFeatures(
        positions=own(level.positions),
        visible=own(level.visible),
        rays=_split(level.rays),
        depths=_split(level.depths),
        view_rays=own(level.view_rays),
      )
      for size, level in self.levels.items()
    }
    return CameraFeatures(
      camera_numbers=_split(self.camera_numbers), levels=levels
    )


def camera_features(
  camera: geometry.Camera,
  sizes: Sequence[tuple[int, int]],
  *,
  points: Sequence[int],
  offsets: Sequence[Float[Array, "b v _ _ _"]] | None = None,
) -> CameraFeatures:
  """Features of cameras `[b, v]` for maps of the given sizes.

  Points divide the part of a ray inside the unit ball into equal pieces, one
  point in each. All points of a ray that misses the ball are its point of
  closest approach: continuous at the ball's rim, and only background there.

  Args:
    camera: views that see each other, `[b, v]`.
    sizes: (height, width) of each map with an epipolar block.
    points: number of points on a ray, for each size.
    offsets: for each size, places of the points within their pieces, in
      [0, 1]; the middles if not given. Draw them at random in training.

  Raises:
    ValueError: a size has no or contradictory numbers of points.
  """
  if len(set(sizes)) != len(points) or len(sizes) != len(points):
    raise ValueError(
      f"points={tuple(points)} for sizes={tuple(sizes)}: give each map size "
      "once, with one number of points"
    )
  pose, intrinsics = camera.camera_to_world, camera.intrinsics
  numbers = [
    einops.rearrange(pose[..., :3, :3], "b v i j -> b v (i j)"),
    pose[..., :3, 3],
    intrinsics[..., 0, 0, None],
    intrinsics[..., 1, 1, None],
    intrinsics[..., :2, 2],
  ]
  return CameraFeatures(
    camera_numbers=jnp.concatenate(numbers, -1),
    levels={
      size: _level(
        camera,
        size,
        num_points=num_points,
        offsets=None if offsets is None else offsets[index],
      )
      for index, (size, num_points) in enumerate(
        zip(sizes, points, strict=True)
      )
    },
  )


def cut_views(
  features: CameraFeatures, cut: Bool[Array, "b"]
) -> CameraFeatures:
  """Hides all other views from every view of the assets where `cut` is True.

  Training on a share of such assets makes the network's single-view score,
  which consistency guidance subtracts, one that it has learnt.
  """

  def level(level: LevelFeatures) -> LevelFeatures:
    kept = ~cut[:, None, None, None, None] | _own(level.visible.shape[1])
    return dataclasses.replace(level, visible=level.visible & kept)

  levels = {size: level(value) for size, value in features.levels.items()}
  return dataclasses.replace(features, levels=levels)


def harmonics(
  x: Float[Array, "*b c"], num_frequencies: int
) -> Float[Array, "*b e"]:
  """Appends the sines and cosines of 2^i x, i < num_frequencies, to x.

  Doubling the angle from frequency to frequency replaces most of the dear
  sines; it also doubles their rounding error, to about 4e-6 for i = 5.
  """
  parts = [x]
  sin, cos = jnp.sin(x), jnp.cos(x)
  for _ in range(num_frequencies):
    parts += [sin, cos]
    sin, cos = 2 * sin * cos, 1 - 2 * sin * sin
  return jnp.concatenate(parts, -1)


def _split(values: Array) -> Array:
  """[b v ..] to [b*v 1 ..]."""
  return einops.rearrange(values, "b v ... -> (b v) 1 ...")


def _own(views: int) -> Bool[Array, "1 v 1 1 u"]:
  """True where the seen view is the asking one."""
  return jnp.eye(views, dtype=bool)[None, :, None, None, :]


def _level(camera, size, *, num_points, offsets):
  """`LevelFeatures` of maps of one size."""
  height, width = size
  origins, directions = geometry.rays(camera, height, width)
  b, v = origins.shape[:2]
  pixels = height * width
  origins, directions = (
    einops.rearrange(x, "b v h w x -> b v (h w) x")
    for x in (origins, directions)
  )

  near, far = geometry.ray_sphere(origins, directions, _RADIUS)
  if offsets is None:
    offsets = jnp.full((b, v, pixels, num_points), 0.5)
  pieces = jnp.arange(num_points, dtype=jnp.float32)[None, None, None, :]
  fractions = (pieces + offsets.reshape(b, v, pixels, num_points)) / num_points
  distances = near[..., None] + (far - near)[..., None] * fractions
  points = (
    origins[..., None, :] + distances[..., None] * directions[..., None, :]
  )

  # [b v u n]: into every view u of the asset.
  seen_by = jax.tree.map(lambda values: values[:, None], camera)
  points = einops.rearrange(points, "b v p m x -> b v 1 (p m) x")
  uv, depth = geometry.project(seen_by, points)
  in_image = ((uv >= 0) & (uv <= 1)).all(-1)
  positions = bilinear.map_position(uv, height, width)
  towards = points - seen_by.camera_to_world[..., None, :3, 3]
  centres = jnp.broadcast_to(
    seen_by.camera_to_world[..., None, :3, 3], towards.shape
  )
  view_rays = jnp.concatenate(
    [geometry.plucker(centres, _unit(towards)), depth[..., None]], -1
  )

  def by_point(values: Array) -> Array:
    return einops.rearrange(
      values, "b v u (p m) ... -> b v p m u ...", m=num_points
    )

  own = _own(v)
  # By construction, whatever the rounding, a view sees its points at p.
  grid = jnp.stack(jnp.meshgrid(jnp.arange(width), jnp.arange(height)), -1)
  grid = einops.rearrange(grid, "h w xy -> 1 1 (h w) 1 1 xy")
  forward = camera.camera_to_world[..., None, :3, 2]
  level = LevelFeatures(
    positions=jnp.where(
      own[..., None], grid.astype(jnp.float32), by_point(positions)
    ),
    visible=own | by_point((depth > 0) & in_image),
    rays=geometry.plucker(origins, directions),
    depths=distances * (directions * forward).sum(-1, keepdims=True),
    view_rays=by_point(view_rays),
  )
  return jax.tree.map(lambda x: logical.constrain(x, "batch", "view"), level)


def _unit(vectors: Float[Array, "*b 3"]) -> Float[Array, "*b 3"]:
  """Unit vectors; zero, with a finite gradient, for a zero vector."""
  square = (vectors**2).sum(-1, keepdims=True)
  positive = square > 0
  return jnp.where(
    positive, vectors * jax.lax.rsqrt(jnp.where(positive, square, 1.0)), 0.0
  )
