"""Which views see which points of a surface."""

import embreex.mesh_construction as mesh_construction
import embreex.rtcore_scene as rtcore_scene
import numpy as np
import trimesh
from jaxtyping import Float

from mvjax import geometry

# Share of the surface's size by which rays start above it, lest they hit the
# triangle they start from.
_OFFSET = 2e-3
# More slanting than this (cosine) and a surface counts as not seen.
_SLANTING = 0.1


def cosines(
  surface: trimesh.Trimesh,
  points: Float[np.ndarray, "n 3"],
  normals: Float[np.ndarray, "n 3"],
  camera: geometry.Camera,
) -> Float[np.ndarray, "v n"]:
  """Cosine between normal and direction to each camera; 0 where hidden.

  Args:
    surface: what hides points.
    points: on the surface.
    normals: unit normals there, outward.
    camera: cameras [v].
  """
  scene = rtcore_scene.EmbreeScene()
  triangles = np.asarray(surface.triangles, np.float32)
  mesh_construction.TriangleMesh(scene, triangles)
  start = points + _OFFSET * surface.scale * normals
  result = np.zeros((len(camera.camera_to_world), len(points)), np.float32)
  for row, pose in zip(result, np.asarray(camera.camera_to_world), strict=True):
    towards = pose[:3, 3] - points
    towards /= np.linalg.norm(towards, axis=-1, keepdims=True)
    cosine = (normals * towards).sum(-1)
    facing = np.flatnonzero(cosine > _SLANTING)
    hit = scene.run(
      np.ascontiguousarray(start[facing], np.float32),
      np.ascontiguousarray(towards[facing], np.float32),
      query="OCCLUDED",
    )
    free = facing[hit < 0]
    row[free] = cosine[free]
  return result


def coverage(
  surface: trimesh.Trimesh, camera: geometry.Camera
) -> dict[str, float]:
  """Shares of the surface's area that no, one, or more views see."""
  seen = cosines(
    surface,
    np.asarray(surface.triangles_center),
    np.asarray(surface.face_normals),
    camera,
  )
  count = (seen > 0).sum(0)
  area = surface.area_faces / surface.area
  return {
    "seen_by_none": float(area[count == 0].sum()),
    "seen_by_one": float(area[count == 1].sum()),
    "seen_by_more": float(area[count > 1].sum()),
  }
