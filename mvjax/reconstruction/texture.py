"""A texture for a surface, blended from the views.

Charts are laid out by xatlas. Every texel is a point of the surface: it takes
the colours of the views that see it, those that look straight at it most, and
the field's colour where none does.
"""

import dataclasses
from typing import Any

import embreex.mesh_construction as mesh_construction
import embreex.rtcore_scene as rtcore_scene
import numpy as np
import trimesh
import xatlas
from jaxtyping import Float, Int
from scipy import ndimage

from mvjax import geometry
from mvjax.reconstruction import assets, visibility
from mvjax.reconstruction import field as fields
from mvjax.views import asset_views

# A view's weight is this power of the cosine of its angle to the normal.
_SHARPNESS = 4
# Weight of the field's colour: only where no view has any.
_FIELD_WEIGHT = 1e-3
# Texels between charts, so that smaller versions of the image do not mix them.
_PADDING = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Texels:
  """Texels that lie on a chart, n of them."""

  row: Int[np.ndarray, " n"]
  column: Int[np.ndarray, " n"]
  points: Float[np.ndarray, "n 3"]
  normals: Float[np.ndarray, "n 3"]


def bake(
  surface: trimesh.Trimesh,
  views: asset_views.Views,
  field: fields.Field,
  *,
  size: int,
) -> assets.Asset:
  """The surface with a texture of about `size` texels on a side."""
  corners, faces, uv, (height, width) = _unwrap(surface, size)
  normals = unit_normals(surface)[corners]
  vertices = np.asarray(surface.vertices, np.float32)[corners]
  texels = _locate(vertices, normals, faces, uv, height=height, width=width)
  rgb = blend(surface, texels.points, texels.normals, views, field)
  texture = np.zeros((height, width, 3), np.uint8)
  texture[texels.row, texels.column] = np.rint((rgb + 1) * 127.5)
  return assets.Asset(
    vertices=vertices,
    faces=faces,
    normals=normals,
    uv=uv,
    texture=_spread(texture, texels),
  )


def blend(
  surface: trimesh.Trimesh,
  points: Float[np.ndarray, "n 3"],
  normals: Float[np.ndarray, "n 3"],
  views: asset_views.Views,
  field: fields.Field,
) -> Float[np.ndarray, "n 3"]:
  """Colours in [-1, 1] of points on the surface."""
  weights = visibility.cosines(surface, points, normals, views.camera)
  weights **= _SHARPNESS
  total = _FIELD_WEIGHT * field_colours(field, points)
  sum_of_weights = np.full((len(points), 1), _FIELD_WEIGHT)
  cross = ndimage.generate_binary_structure(2, 2)
  for view, weight in enumerate(weights):
    (seen,) = np.nonzero(weight)
    camera = geometry.Camera(
      camera_to_world=views.camera.camera_to_world[view],
      intrinsics=views.camera.intrinsics[view],
    )
    uv, _ = geometry.project(camera, points[seen], xnp=np)
    # Pixels on the outline are mixed with the background.
    inner = ndimage.binary_erosion(views.alpha[view] > 0.5, cross)
    share = weight[seen, None] * _sample(inner[..., None], uv)
    total[seen] += share * _sample(views.image[view], uv)
    sum_of_weights[seen] += share
  return np.clip(total / sum_of_weights, -1, 1)


def field_colours(
  field: fields.Field, points: Float[np.ndarray, "n 3"]
) -> Float[np.ndarray, "n 3"]:
  """The field's colours in [-1, 1] at world points.

  On the host: the number of points differs from asset to asset, and a jitted
  program would be compiled for each.
  """
  low, high = np.asarray(field.low), np.asarray(field.high)
  grid = np.asarray(field.values.shape[:3])
  places = ((points - low) / (high - low) * grid - 0.5).T
  raw = _channels(np.asarray(field.values)[..., 1:], places)
  return np.tanh(raw / 2)


def unit_normals(surface: trimesh.Trimesh) -> Float[np.ndarray, "n 3"]:
  """Vertex normals of length 1, whatever the triangles are like."""
  normals = np.array(surface.vertex_normals, np.float32)
  length = np.linalg.norm(normals, axis=-1, keepdims=True)
  good = np.isfinite(length) & (length > 0.5)
  up = np.array([0, 0, 1], np.float32)
  return np.where(good, normals / np.where(good, length, 1), up)


def _unwrap(surface, size):
  """Corner vertices, faces and uv of an atlas, and its height and width."""
  atlas = xatlas.Atlas()
  atlas.add_mesh(
    np.ascontiguousarray(surface.vertices, np.float32),
    np.ascontiguousarray(surface.faces, np.uint32),
  )
  options = xatlas.PackOptions()
  options.resolution, options.padding = size, _PADDING
  atlas.generate(pack_options=options)
  corners, faces, uv = atlas[0]
  uv = uv.astype(np.float32)
  return corners, faces.astype(np.int32), uv, (atlas.height, atlas.width)


def _locate(vertices, normals, faces, uv, *, height, width) -> _Texels:
  """Finds the surface point of each texel by rays onto the flat atlas."""
  flat = np.pad(uv, ((0, 0), (0, 1)))[faces].astype(np.float32)
  scene = rtcore_scene.EmbreeScene()
  mesh_construction.TriangleMesh(scene, flat)
  row, column = np.divmod(np.arange(height * width), width)
  origins = np.stack(
    [
      (column + 0.5) / width,
      1 - (row + 0.5) / height,
      np.ones(height * width),
    ],
    -1,
  ).astype(np.float32)
  down = np.tile(np.array([0, 0, -1], np.float32), (len(origins), 1))
  hit = scene.run(origins, down, output=1)
  (good,) = np.nonzero(hit["primID"] >= 0)
  corners = faces[hit["primID"][good]]
  u, v = hit["u"][good, None], hit["v"][good, None]
  weights = np.stack([1 - u - v, u, v], 1)
  normal = (weights * normals[corners]).sum(1)
  normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-6)
  return _Texels(
    row=row[good],
    column=column[good],
    points=(weights * vertices[corners]).sum(1),
    normals=normal,
  )


def _spread(texture: Any, texels: _Texels) -> Any:
  """Texels off the charts take the colour of the nearest one on a chart."""
  empty = np.ones(texture.shape[:2], bool)
  empty[texels.row, texels.column] = False
  rows, columns = ndimage.distance_transform_edt(
    empty, return_distances=False, return_indices=True
  )
  return texture[rows, columns]


def _sample(image: Any, uv: Any) -> Float[np.ndarray, "n c"]:
  """Bilinear values of an [h w c] image at uv in [0, 1]."""
  height, width = image.shape[:2]
  places = np.stack([uv[:, 1] * height, uv[:, 0] * width]) - 0.5
  return _channels(image.astype(np.float32), places)


def _channels(values: Any, places: Any) -> Float[np.ndarray, "n c"]:
  """Linear interpolation of every channel at fractional indices [d n]."""
  return np.stack(
    [
      ndimage.map_coordinates(channel, places, order=1, mode="nearest")
      for channel in np.moveaxis(values, -1, 0)
    ],
    -1,
  )
