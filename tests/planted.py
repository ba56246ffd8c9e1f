"""Objects whose shape and colours are known, and views of them."""

import numpy as np
import trimesh

from data_pipeline import meshes, raycast
from mvjax import geometry
from mvjax.reconstruction import assets, field
from mvjax.views import asset_views

RED, BLUE = (220, 30, 30), (30, 60, 200)

# Quick, and enough for 48 pixels.
SMALL = field.Settings(grid=32, samples=16, rays=512, steps=120)


def two_boxes() -> assets.Asset:
  """A red box on a wider blue one; the red one sits towards the front (+x)."""
  blue = trimesh.creation.box((0.9, 0.8, 0.4))
  blue.apply_translation((0, 0, -0.2))
  red = trimesh.creation.box((0.4, 0.4, 0.5))
  red.apply_translation((0.2, 0, 0.25))
  both = [_apart(blue), _apart(red)]
  sizes = [len(box.vertices) for box in both]
  whole = trimesh.util.concatenate(both)
  u = np.repeat([0.75, 0.25], sizes)
  return assets.Asset(
    vertices=np.asarray(whole.vertices, np.float32),
    faces=np.asarray(whole.faces, np.int32),
    normals=np.repeat(whole.face_normals, 3, 0).astype(np.float32),
    uv=np.stack([u, np.full(len(u), 0.5)], -1).astype(np.float32),
    texture=np.repeat(np.array([[RED, BLUE]], np.uint8), 8, 1),
  )


def orbits(
  number: int,
  *,
  elevations=(0.15, 0.6),
  start: float = 0.2,
  distance: float = 3.0,
  field_of_view: float = 40.0,
) -> geometry.Camera:
  """Cameras around the origin, in turns at these elevations (radians)."""
  return geometry.orbit(
    azimuth=start + np.arange(number) * 2 * np.pi / number,
    elevation=np.resize(elevations, number),
    distance=distance,
    field_of_view=np.deg2rad(field_of_view),
    xnp=np,
  )


def views(
  asset: assets.Asset, camera: geometry.Camera, *, size: int = 48
) -> asset_views.Views:
  """True views with alpha and depth."""
  hits = raycast.cast(_mesh(asset), camera, size=size)
  alpha = np.zeros((len(hits), size * size), np.float32)
  depth = np.zeros_like(alpha)
  for view, hit in enumerate(hits):
    alpha[view, hit.sample] = 1
    depth[view, hit.sample] = hit.depth
  image = assets.render(asset, camera, size=size, supersampling=1)
  return asset_views.Views(
    image=image.astype(np.float32) / 127.5 - 1,
    alpha=alpha.reshape(-1, size, size),
    background=np.ones((len(hits), 3), np.float32),
    depth=depth.reshape(-1, size, size),
    camera=camera,
  )


def _apart(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
  """Without shared vertices."""
  corners = np.asarray(mesh.vertices)[mesh.faces].reshape(-1, 3)
  faces = np.arange(len(corners)).reshape(-1, 3)
  return trimesh.Trimesh(corners, faces, process=False)


def _mesh(asset: assets.Asset) -> meshes.Mesh:
  part = meshes.Part(name="", color=np.ones(3), opacity=1.0, texture=None)
  return meshes.Mesh(
    vertices=asset.vertices,
    faces=asset.faces,
    normals=asset.normals[asset.faces],
    uv=asset.uv,
    part=np.zeros(len(asset.faces), np.int32),
    parts=(part,),
  )
