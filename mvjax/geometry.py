"""Cameras, rays and projection: pure functions on numpy or jax arrays.

Conventions, used everywhere inside the package:
  * world: right-handed, z up, the object inside the unit ball at the origin;
  * camera axes (OpenCV): x right, y down, z forward, so the columns of
    `camera_to_world` are right, down, forward and position;
  * intrinsics are normalised by image size: (fx, cx) in units of the width,
    (fy, cy) of the height, so one matrix serves every resolution;
  * pixel (i, j) has its centre at ((j + 0.5) / width, (i + 0.5) / height);
  * angles are radians; azimuth 0 is a camera on +x and grows counter-clockwise
    seen from above, elevation is measured from the equator.

`xnp` chooses the array library: `jnp` (default, traceable) or `np` (host code
such as rendering). Where a result is replaced near a singularity its argument
is replaced as well (double where), so gradients stay finite. Products with 3x3
matrices are sums of elementwise products: a TPU would otherwise round them to
bfloat16.
"""

import dataclasses
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float

AnyArray = jax.Array | np.ndarray

_EPSILON = 1e-6
_ROTATION_TOLERANCE = 1e-3
# A principal point this many image sizes away is surely given in pixels.
_FARTHEST_CENTRE = 8.0
# Nor is anything further from the origin meant.
_FARTHEST = 1e6


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Camera:
  """Pinhole cameras; the leading axes, for instance [batch, views], are free.

  Attributes:
    camera_to_world: [*b, 4, 4], OpenCV axes in the z-up world.
    intrinsics: [*b, 3, 3], upper triangular, normalised by image size.
  """

  # Not array types: jax rebuilds pytrees with leaves that are not arrays.
  camera_to_world: Any
  intrinsics: Any


def pinhole(
  field_of_view: Float[ArrayLike, "*b"], *, xnp: ModuleType = jnp
) -> Float[AnyArray, "*b 3 3"]:
  """Intrinsics of a square image with the given full opening angle."""
  focal = 0.5 / xnp.tan(0.5 * xnp.asarray(field_of_view))
  zero, one = xnp.zeros_like(focal), xnp.ones_like(focal)
  half = 0.5 * one
  rows = [[focal, zero, half], [zero, focal, half], [zero, zero, one]]
  return xnp.stack([xnp.stack(row, -1) for row in rows], -2)


def orbit(
  *,
  azimuth: ArrayLike,
  elevation: ArrayLike,
  distance: ArrayLike,
  field_of_view: ArrayLike,
  xnp: ModuleType = jnp,
) -> Camera:
  """Cameras on spheres around the origin, looking at it with z upwards.

  The arguments broadcast against each other. The poles are regular: there the
  azimuth turns the image.
  """
  angles = azimuth, elevation, distance, field_of_view
  azimuth, elevation, distance, field_of_view = xnp.broadcast_arrays(
    *(xnp.asarray(a, dtype=xnp.float32) for a in angles)
  )
  cos_a, sin_a = xnp.cos(azimuth), xnp.sin(azimuth)
  cos_e, sin_e = xnp.cos(elevation), xnp.sin(elevation)
  right = xnp.stack([-sin_a, cos_a, xnp.zeros_like(cos_a)], -1)
  down = xnp.stack([sin_e * cos_a, sin_e * sin_a, -cos_e], -1)
  outward = xnp.stack([cos_e * cos_a, cos_e * sin_a, sin_e], -1)
  return Camera(
    camera_to_world=_pose(
      right, down, -outward, distance[..., None] * outward, xnp=xnp
    ),
    intrinsics=pinhole(field_of_view, xnp=xnp),
  )


def look_at(
  position: Float[AnyArray, "*b 3"],
  target: Float[AnyArray, "*#b 3"] | None = None,
  *,
  xnp: ModuleType = jnp,
) -> Float[AnyArray, "*b 4 4"]:
  """`camera_to_world` at `position`, facing `target` (default: the origin).

  The image's up is the world's z. A camera that looks straight up or down has
  world +y to its right, as `orbit` has at azimuth 0. A target at the position
  gives a matrix that `check_camera` rejects.
  """
  position = xnp.asarray(position, dtype=xnp.float32)
  towards = -position if target is None else xnp.asarray(target) - position
  forward = _normalize(towards, xnp=xnp)
  x, y = forward[..., :1], forward[..., 1:2]
  vertical = x**2 + y**2 < _EPSILON**2
  right = _normalize(  # forward x (0, 0, 1)
    xnp.concatenate(
      [
        xnp.where(vertical, 0.0, y),
        xnp.where(vertical, 1.0, -x),
        xnp.zeros_like(x),
      ],
      -1,
    ),
    xnp=xnp,
  )
  return _pose(right, xnp.cross(forward, right), forward, position, xnp=xnp)


def rays(
  camera: Camera, height: int, width: int, *, xnp: ModuleType = jnp
) -> tuple[Float[AnyArray, "*b h w 3"], Float[AnyArray, "*b h w 3"]]:
  """World origins and unit directions through all pixel centres."""
  v, u = xnp.meshgrid(
    (xnp.arange(height, dtype=xnp.float32) + 0.5) / height,
    (xnp.arange(width, dtype=xnp.float32) + 0.5) / width,
    indexing="ij",
  )
  intrinsics = xnp.asarray(camera.intrinsics)[..., None, None, :, :]
  batch = (1,) * (intrinsics.ndim - 4)
  u, v = u.reshape(*batch, height, width), v.reshape(*batch, height, width)
  y = (v - intrinsics[..., 1, 2]) / intrinsics[..., 1, 1]
  x = u - intrinsics[..., 0, 2] - intrinsics[..., 0, 1] * y
  x = x / intrinsics[..., 0, 0]
  to_world = xnp.asarray(camera.camera_to_world)[..., None, None, :, :]
  directions = _apply(
    to_world[..., :3, :3], xnp.stack([x, y, xnp.ones_like(x)], -1)
  )
  directions = _normalize(directions, xnp=xnp)
  origins = xnp.broadcast_to(to_world[..., :3, 3], directions.shape)
  return origins, directions


def plucker(
  origins: Float[AnyArray, "*b 3"],
  directions: Float[AnyArray, "*b 3"],
  *,
  xnp: ModuleType = jnp,
) -> Float[AnyArray, "*b 6"]:
  """Plücker coordinates [d, o x d]: the same for every origin on the line."""
  return xnp.concatenate([directions, xnp.cross(origins, directions)], -1)


def project(
  camera: Camera,
  points: Float[AnyArray, "*#b n 3"],
  *,
  xnp: ModuleType = jnp,
) -> tuple[Float[AnyArray, "*b n 2"], Float[AnyArray, "*b n"]]:
  """Image coordinates and depths of world points.

  The camera's axes and the leading axes of `points` broadcast (same rank).

  Returns:
    uv: [*b, n, 2], (across, down) in [0, 1] inside the image. Finite, but
      without meaning where the depth is not positive: mask it by depth.
    depth: [*b, n], along the camera's z axis, in world units.
  """
  to_world = xnp.asarray(camera.camera_to_world)[..., None, :, :]
  intrinsics = xnp.asarray(camera.intrinsics)[..., None, :, :]
  world_to_camera = xnp.swapaxes(to_world[..., :3, :3], -1, -2)
  local = _apply(world_to_camera, points - to_world[..., :3, 3])
  depth = local[..., 2]
  safe = xnp.where(depth > _EPSILON, depth, 1.0)
  uv = _apply(intrinsics[..., :2, :2], local[..., :2] / safe[..., None])
  return uv + intrinsics[..., :2, 2], depth


def ray_sphere(
  origins: Float[AnyArray, "*b 3"],
  directions: Float[AnyArray, "*b 3"],
  radius: float,
  *,
  xnp: ModuleType = jnp,
) -> tuple[Float[AnyArray, "*b"], Float[AnyArray, "*b"]]:
  """Distances at which unit rays enter and leave a sphere at the origin.

  A ray that misses gets its point of closest approach for both. Nothing
  behind the ray's origin is returned: such distances become 0.
  """
  closest = -xnp.sum(origins * directions, -1)
  nearest_point = origins + closest[..., None] * directions
  # |p|^2 rather than |o|^2 - closest^2, which cancels for distant cameras.
  square = radius**2 - xnp.sum(nearest_point**2, -1)
  hit = square > 0
  half = xnp.where(hit, xnp.sqrt(xnp.where(hit, square, 1.0)), 0.0)
  return xnp.maximum(closest - half, 0.0), xnp.maximum(closest + half, 0.0)


def to_opengl(
  camera_to_world: Float[AnyArray, "*b 4 4"], *, xnp: ModuleType = jnp
) -> Float[AnyArray, "*b 4 4"]:
  """OpenCV camera axes to OpenGL or Blender ones (y up, looking along -z)."""
  columns = xnp.asarray([1.0, -1.0, -1.0, 1.0], dtype=camera_to_world.dtype)
  return camera_to_world * columns.reshape(
    (1,) * (camera_to_world.ndim - 1) + (4,)
  )


def from_opengl(
  camera_to_world: Float[AnyArray, "*b 4 4"], *, xnp: ModuleType = jnp
) -> Float[AnyArray, "*b 4 4"]:
  """Inverse of `to_opengl`, which is its own inverse."""
  return to_opengl(camera_to_world, xnp=xnp)


def check_camera(camera: Camera) -> None:
  """Checks concrete cameras on the host, before anything is compiled.

  Raises:
    ValueError: One line with the view's index, the field, what is wrong with
      it and what is expected.
  """
  pose = np.asarray(camera.camera_to_world, dtype=np.float64)
  intrinsics = np.asarray(camera.intrinsics, dtype=np.float64)
  for name, value, side in (
    ("camera_to_world", pose, 4),
    ("intrinsics", intrinsics, 3),
  ):
    if value.shape[-2:] != (side, side):
      raise ValueError(
        f"camera {name}: shape {value.shape}; expected [..., {side}, {side}]"
      )
  if pose.shape[:-2] != intrinsics.shape[:-2]:
    raise ValueError(
      f"camera intrinsics: for views {intrinsics.shape[:-2]}, but "
      f"camera_to_world is for {pose.shape[:-2]}; give one of each per view"
    )

  finite = (np.abs(pose) < _FARTHEST).all((-1, -2))  # NaN is not
  known = (np.abs(intrinsics) < _FARTHEST).all((-1, -2))
  rotation = np.where(finite[..., None, None], pose[..., :3, :3], 0.0)
  gram = np.swapaxes(rotation, -1, -2) @ rotation
  determinant = np.linalg.det(rotation)
  focal = np.stack([intrinsics[..., 0, 0], intrinsics[..., 1, 1]], -1)
  lower = intrinsics[..., [1, 2, 2, 2], [0, 0, 1, 2]] - [0, 0, 0, 1]
  bottom = pose[..., 3, :] - [0, 0, 0, 1]
  # Most fundamental first: a broken matrix fails the later tests as well.
  for field, wrong, problem in (
    (
      "camera_to_world",
      ~finite,
      f"has a value that is not finite or beyond {_FARTHEST:g}; expected a "
      "rotation and a position",
    ),
    (
      "camera_to_world",
      np.abs(determinant) < _EPSILON,
      "is singular; expected a rotation and a position",
    ),
    (
      "camera_to_world",
      (np.abs(gram - np.eye(3)) > _ROTATION_TOLERANCE).any((-1, -2)),
      "is not a rotation (columns must be orthogonal, of length 1: no scale)",
    ),
    (
      "camera_to_world",
      determinant < 0,
      "mirrors space (determinant -1); flip the sign of one axis",
    ),
    (
      "camera_to_world",
      (np.abs(bottom) > _ROTATION_TOLERANCE).any(-1),
      "has a last row other than 0 0 0 1; is it transposed?",
    ),
    (
      "intrinsics",
      ~known,
      f"has a value that is not finite or beyond {_FARTHEST:g}",
    ),
    (
      "intrinsics",
      (focal <= 0).any(-1),
      "has a focal length that is not positive",
    ),
    (
      "intrinsics",
      (np.abs(lower) > _ROTATION_TOLERANCE).any(-1),
      "is not upper triangular with a last row 0 0 1",
    ),
    (
      "intrinsics",
      (np.abs(intrinsics[..., :2, 2]) > _FARTHEST_CENTRE).any(-1),
      "looks like pixels; divide its first row by the image's width and its "
      "second by the height",
    ),
  ):
    if np.any(wrong):
      where = tuple(int(i) for i in np.argwhere(wrong)[0])
      view = where[0] if len(where) == 1 else where
      name = f"camera of view {view}" if where else "camera"
      raise ValueError(f"{name}: {field} {problem}")


def _pose(right, down, forward, position, *, xnp):
  """Columns to a homogeneous [*b, 4, 4] matrix."""
  top = xnp.stack([right, down, forward, position], -1)
  last = xnp.asarray([0.0, 0.0, 0.0, 1.0], dtype=top.dtype)
  last = last.reshape((1,) * (top.ndim - 1) + (4,))
  last = xnp.broadcast_to(last, top.shape[:-2] + (1, 4))
  return xnp.concatenate([top, last], -2)


def _apply(matrix, vectors):
  """[*b, n, m] times [*b, m], elementwise."""
  return (matrix * vectors[..., None, :]).sum(-1)


def _normalize(vectors, *, xnp):
  """Unit vectors; a zero vector stays zero."""
  square = xnp.sum(vectors**2, -1, keepdims=True)
  positive = square > _EPSILON**2
  return xnp.where(
    positive, vectors / xnp.sqrt(xnp.where(positive, square, 1.0)), 0.0
  )
