"""The finished asset: a textured surface, its files and its pictures.

In memory the asset is in the world's frame (z up, front along +x). GLB is y-up
with the front on +z, so world (x, y, z) is written as (y, z, x), the inverse
of how model files enter the world. PLY has no such rule and keeps the world's
frame.
"""

import dataclasses
import pathlib

import numpy as np
import trimesh
from jaxtyping import Float32, Int32, UInt8
from PIL import Image
from scipy import spatial
from trimesh import visual
from trimesh.visual import material

from data_pipeline import meshes, raycast
from mvjax import geometry


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asset:
  """A surface whose charts share one texture.

  Attributes:
    vertices: world positions; repeated along the edges of charts.
    faces: counter-clockwise from outside.
    normals: unit normals of the vertices.
    uv: texture coordinates in [0, 1].
    texture: sRGB; row 0 is v = 1.
  """

  vertices: Float32[np.ndarray, "n 3"]
  faces: Int32[np.ndarray, "m 3"]
  normals: Float32[np.ndarray, "n 3"]
  uv: Float32[np.ndarray, "n 2"]
  texture: UInt8[np.ndarray, "h w 3"]


def write_glb(path: pathlib.Path, asset: Asset) -> None:
  """Writes a binary glTF 2.0 file with the texture inside."""
  turn = meshes.WORLD_FROM_FILE
  surface = trimesh.Trimesh(
    asset.vertices @ turn,
    asset.faces,
    vertex_normals=asset.normals @ turn,
    visual=visual.TextureVisuals(
      uv=asset.uv,
      material=material.PBRMaterial(
        baseColorTexture=Image.fromarray(asset.texture),
        metallicFactor=0.0,
        roughnessFactor=1.0,
      ),
    ),
    process=False,
  )
  data = surface.export(file_type="glb", include_normals=True)
  path.write_bytes(data)


def write_ply(
  path: pathlib.Path,
  surface: trimesh.Trimesh,
  colors: UInt8[np.ndarray, "n 3"],
) -> None:
  """Writes a binary PLY file with a colour for every vertex."""
  coloured = trimesh.Trimesh(
    surface.vertices, surface.faces, vertex_colors=colors, process=False
  )
  path.write_bytes(coloured.export(file_type="ply"))


def vertex_colours(
  asset: Asset, surface: trimesh.Trimesh
) -> UInt8[np.ndarray, "n 3"]:
  """The texture's colours at the vertices of the mesh without seams."""
  height, width = asset.texture.shape[:2]
  column = np.clip((asset.uv[:, 0] * width).astype(int), 0, width - 1)
  row = np.clip(((1 - asset.uv[:, 1]) * height).astype(int), 0, height - 1)
  _, nearest = spatial.cKDTree(asset.vertices).query(surface.vertices)
  return asset.texture[row, column][nearest]


def render(
  asset: Asset,
  camera: geometry.Camera,
  *,
  size: int,
  supersampling: int = 2,
) -> UInt8[np.ndarray, "v h w 3"]:
  """Pictures of the texture as it is, without light, on white.

  Args:
    asset: what to look at.
    camera: cameras [v] that share their intrinsics.
    size: pixels on a side.
    supersampling: rays on a side of each pixel.
  """
  rgba = np.pad(asset.texture, ((0, 0), (0, 0), (0, 1)), constant_values=255)
  part = meshes.Part(name="", color=np.ones(3), opacity=1.0, texture=rgba)
  mesh = meshes.Mesh(
    vertices=asset.vertices,
    faces=asset.faces,
    normals=asset.normals[asset.faces],
    uv=asset.uv,
    part=np.zeros(len(asset.faces), np.int32),
    parts=(part,),
  )
  side = size * supersampling
  images = np.ones((len(camera.camera_to_world), side * side, 3), np.float32)
  for image, hits in zip(
    images, raycast.cast(mesh, camera, size=side), strict=True
  ):
    image[hits.sample] = hits.albedo
  blocks = images.reshape(-1, size, supersampling, size, supersampling, 3)
  return np.rint(255 * blocks.mean((2, 4))).astype(np.uint8)
