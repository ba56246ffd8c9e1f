"""Rays against meshes: the first visible surface in each view.

Rays go through the centres of a square grid of samples. Both sides of every
triangle count, and surfaces that are nearly transparent are passed through.
"""

import dataclasses

import embreex.mesh_construction as mesh_construction
import embreex.rtcore_scene as rtcore_scene
import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

from data_pipeline import meshes
from mvjax import geometry

# Hits on surfaces more transparent than this are passed through.
_VISIBLE_ALPHA = 0.3
_MAX_LAYERS = 12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hits:
  """First visible surface along the rays of one view; n of them hit.

  Attributes:
    sample: Number of the ray, row-major in the supersampled image.
    depth: Along the camera's z axis.
    points: World positions.
    normals: Unit normals, turned to the camera.
    part: Part of the mesh.
    albedo: sRGB in [0, 1] of the object's own material.
  """

  sample: Int[np.ndarray, " n"]
  depth: Float32[np.ndarray, " n"]
  points: Float32[np.ndarray, "n 3"]
  normals: Float32[np.ndarray, "n 3"]
  part: Int[np.ndarray, " n"]
  albedo: Float32[np.ndarray, "n 3"]


def cast(
  mesh: meshes.Mesh, cameras: geometry.Camera, *, size: int
) -> list[Hits]:
  """First visible surfaces in square images of `size` rays on a side.

  Args:
    mesh: What to look at.
    cameras: [v] views that share their intrinsics.
    size: Rays on a side, through the centres of as many pixels.
  """
  scene = rtcore_scene.EmbreeScene()
  triangles = mesh.vertices[mesh.faces]
  mesh_construction.TriangleMesh(scene, triangles)
  at_origin = geometry.Camera(
    camera_to_world=np.eye(4, dtype=np.float32),
    intrinsics=cameras.intrinsics[0],
  )
  _, local = geometry.rays(at_origin, size, size, xnp=np)
  local = local.reshape(-1, 3).astype(np.float32)
  first, last = _extent(cameras, triangles.reshape(-1, 3), size=size)
  grid = np.arange(size * size).reshape(size, size)
  return [
    _cast_view(
      scene,
      mesh,
      local,
      pose=pose.astype(np.float32),
      alive=grid[low[1] : high[1], low[0] : high[0]].reshape(-1),
    )
    for pose, low, high in zip(
      cameras.camera_to_world, first, last, strict=True
    )
  ]


def _extent(cameras, points, *, size):
  """First and last (column, row) [v, 2] of samples that may see the points."""
  ends = np.stack([points.min(0), points.max(0)])
  corners = ends[np.array(list(np.ndindex(2, 2, 2))), np.arange(3)]
  uv, depth = geometry.project(cameras, corners[None], xnp=np)
  # A corner behind the camera has no place in the image.
  in_front = np.all(depth > 0, axis=1, keepdims=True)
  first = np.where(in_front, np.floor(uv.min(1) * size), 0)
  last = np.where(in_front, np.ceil(uv.max(1) * size), size)
  return (np.clip(end, 0, size).astype(int) for end in (first, last))


def _cast_view(scene, mesh, local, *, pose, alive):
  """Rays `alive` of one view, past surfaces that are transparent."""
  directions = np.ascontiguousarray(local[alive] @ pose[:3, :3].T)
  origins = np.broadcast_to(pose[:3, 3], directions.shape).copy()
  found = []
  for _ in range(_MAX_LAYERS):
    hit = scene.run(origins, directions, output=1)
    good = hit["primID"] >= 0
    face = hit["primID"][good]
    weights = np.stack([hit["u"][good], hit["v"][good]], -1)
    distance = hit["tfar"][good]
    points = origins[good] + distance[:, None] * directions[good]
    alive, origins, directions = alive[good], origins[good], directions[good]
    albedo, alpha = _surface(mesh, face, weights)
    seen = alpha >= _VISIBLE_ALPHA
    found.append(
      (
        alive[seen],
        (points[seen] - pose[:3, 3]) @ pose[:3, 2],
        points[seen],
        _facing(mesh, face[seen], weights[seen], directions[seen]),
        mesh.part[face[seen]],
        albedo[seen],
      )
    )
    if seen.all():
      break
    # Start again just behind the surface that was passed through.
    alive, directions = alive[~seen], directions[~seen]
    origins = points[~seen] + 1e-4 * directions
  columns = [np.concatenate(column) for column in zip(*found, strict=True)]
  return Hits(
    sample=columns[0],
    depth=columns[1].astype(np.float32),
    points=columns[2].astype(np.float32),
    normals=columns[3].astype(np.float32),
    part=columns[4],
    albedo=columns[5].astype(np.float32),
  )


def _facing(mesh, face, weights, directions):
  """Interpolated unit normals, on the camera's side of the surface."""
  u, v = weights[:, :1], weights[:, 1:]
  corners = mesh.normals[face]
  normal = corners[:, 0] * (1 - u - v) + corners[:, 1] * u + corners[:, 2] * v
  normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-6)
  away = (normal * directions).sum(-1, keepdims=True) > 0
  return np.where(away, -normal, normal)


def _surface(mesh, face, weights):
  """Colours [n, 3] and alphas [n] of the object's own materials."""
  part = mesh.part[face]
  color = np.array([p.color for p in mesh.parts], np.float32)[part]
  alpha = np.array([p.opacity for p in mesh.parts], np.float32)[part]
  u, v = weights[:, :1], weights[:, 1:]
  corner = mesh.uv[mesh.faces[face]]
  uv = corner[:, 0] * (1 - u - v) + corner[:, 1] * u + corner[:, 2] * v
  for number in np.unique(part):
    texture = mesh.parts[number].texture
    if texture is not None:
      here = part == number
      texel = _bilinear(texture, uv[here])
      color[here] = texel[:, :3]
      alpha[here] *= texel[:, 3]
  return color, alpha


def _bilinear(
  texture: UInt8[np.ndarray, "h w 4"], uv: Float[np.ndarray, "n 2"]
) -> Float[np.ndarray, "n 4"]:
  """Repeating texture in [0, 1] at uv; row 0 is v = 1."""
  height, width = texture.shape[:2]
  x = (uv[:, 0] % 1) * width - 0.5
  y = (1 - uv[:, 1] % 1) * height - 0.5
  left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
  fx, fy = (x - left)[:, None], (y - top)[:, None]

  def row(y):
    here, next_to_it = texture[y, left % width], texture[y, (left + 1) % width]
    return here * (1 - fx) + next_to_it * fx

  rows = row(top % height) * (1 - fy) + row((top + 1) % height) * fy
  return rows / 255.0
