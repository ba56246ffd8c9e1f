"""Mesh files to flat triangle arrays in the world frame.

Files are y-up with their front on +z (OBJ by custom, glTF by definition); the
world is z-up with fronts on +x, so file (x, y, z) becomes world (z, x, y).
"""

import dataclasses
import io
import pathlib
import re

import numpy as np
import trimesh
from jaxtyping import Float, Float32, Int32, UInt8
from PIL import Image
from trimesh import resolvers, visual
from trimesh.visual import material

# (x, y, z) of the file to (z, x, y) of the world.
WORLD_FROM_FILE = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]], np.float64)
# A vertex normal further from its face than this (cosine) is a crease, or
# broken; the face's own normal is used instead.
_SMOOTH_COSINE = 0.8
# Nothing real is quite black, and shading would not show on it.
_DARKEST = 0.07
# Gray of surfaces whose material is absent.
_UNKNOWN = 0.7


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
  """All surfaces of one material.

  Attributes:
    name: Name of the material in the file.
    color: sRGB in [0, 1]; what a part without texture shows.
    opacity: 0 for invisible, 1 for solid.
    texture: RGBA image whose row 0 is v = 1, or None.
  """

  name: str
  color: Float[np.ndarray, "3"]
  opacity: float
  texture: UInt8[np.ndarray, "h w 4"] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mesh:
  """Triangles inside the unit ball.

  Attributes:
    vertices: World positions.
    faces: Vertex indices, counter-clockwise seen from outside if the file is
      right, which is not guaranteed.
    normals: Unit normal of each corner of each face.
    uv: Texture coordinates; the image repeats with period 1.
    part: Index into `parts` for each face.
    parts: Materials.
  """

  vertices: Float32[np.ndarray, "n 3"]
  faces: Int32[np.ndarray, "m 3"]
  normals: Float32[np.ndarray, "m 3 3"]
  uv: Float32[np.ndarray, "n 2"]
  part: Int32[np.ndarray, " m"]
  parts: tuple[Part, ...]


def load(
  path: pathlib.Path,
  *,
  rotation: tuple[float, ...] | None = None,
  sample_size: float | None = None,
) -> Mesh:
  """Reads an OBJ or GLB file, centred and scaled into the unit ball.

  Polygons become triangle fans. A texture that is absent leaves the part with
  its plain colour; names are matched in the model's own folder without
  regard to case. Vertex colours are averaged over their part.

  Args:
    path: The file.
    rotation: Row-major 3x3 matrix applied to the file's vertices before
      anything else.
    sample_size: Distance in world units between neighbouring samples of the
      renderer. Textures finer than that are averaged down, so that they do
      not flicker between views. None keeps them.

  Raises:
    ValueError: The file holds no triangles, or positions that are not finite.
  """
  data = path.read_bytes()
  kind = path.suffix[1:].lower()
  if kind == "obj":
    data = _absolute_indices(data)
  scene = trimesh.load_scene(
    io.BytesIO(data),
    file_type=kind,
    resolver=_Folder(str(path)),
    process=False,
  )
  pieces, parts, count = [], [], 0
  for node in scene.graph.nodes_geometry:
    transform, name = scene.graph[node]
    geometry = scene.geometry[name]
    if not isinstance(geometry, trimesh.Trimesh) or not len(geometry.faces):
      continue
    if not np.allclose(transform, np.eye(4)):
      geometry = geometry.copy().apply_transform(transform)
    uv = getattr(geometry.visual, "uv", None)
    if uv is None or np.shape(uv) != (len(geometry.vertices), 2):
      uv = None
    pieces.append(
      (
        np.asarray(geometry.vertices),
        np.asarray(geometry.vertex_normals),
        np.zeros((len(geometry.vertices), 2)) if uv is None else uv,
        np.asarray(geometry.faces) + count,
        np.full(len(geometry.faces), len(parts), np.int32),
      )
    )
    parts.append(_part(name, geometry.visual, has_uv=uv is not None))
    count += len(geometry.vertices)
  if not pieces:
    raise ValueError(f"{path}: holds no triangles; is the file complete?")
  # An object all of glass would be invisible: the most solid part is solid.
  most = max(p.opacity for p in parts)
  parts = [
    dataclasses.replace(p, opacity=p.opacity / most if most else 1.0)
    for p in parts
  ]

  vertices, normals, uv, faces, part = map(
    np.concatenate, zip(*pieces, strict=True)
  )
  turn = WORLD_FROM_FILE
  if rotation is not None:
    turn = turn @ np.reshape(rotation, (3, 3))
  vertices = _into_unit_ball(vertices @ turn.T, faces, path)
  corners = _corner_normals(vertices, normals @ turn.T, faces)
  uv = np.nan_to_num(np.asarray(uv, np.float32))
  if sample_size is not None:
    parts = [
      _averaged_down(p, vertices, uv, faces[part == i], sample_size)
      for i, p in enumerate(parts)
    ]
  return Mesh(
    vertices=vertices.astype(np.float32),
    faces=faces.astype(np.int32),
    normals=corners.astype(np.float32),
    uv=uv,
    part=part,
    parts=tuple(parts),
  )


def _absolute_indices(data):
  """OBJ data without indices that count backwards from where they stand.

  Trimesh 5.2 counts them from the end of the file (November 2026).
  """
  if re.search(rb"^f[^\n]*[ /]-\d", data, re.MULTILINE) is None:
    return data
  counts = {b"v": 0, b"vt": 0, b"vn": 0}
  lines = []
  for line in data.splitlines():
    words = line.split()
    if words and words[0] in counts:
      counts[words[0]] += 1
    elif words and words[0] == b"f":
      # A reference is position/texture/normal, the last two optional.
      references = [
        b"/".join(
          b"%d" % (count + 1 + int(index)) if index[:1] == b"-" else index
          for index, count in zip(
            word.split(b"/"), counts.values(), strict=False
          )
        )
        for word in words[1:]
      ]
      line = b" ".join([b"f", *references])
    lines.append(line)
  return b"\n".join(lines)


class _Folder(resolvers.FilePathResolver):
  """Finds what a model names by base name, in the model's own folder only."""

  def get(self, name):
    wanted = name.replace("\\", "/").strip().rsplit("/", 1)[-1].lower()
    for candidate in sorted(pathlib.Path(self.parent).iterdir()):
      if candidate.name.lower() == wanted:
        return candidate.read_bytes()
    raise FileNotFoundError(f"{name}: not in {self.parent}")


def _part(name, look, *, has_uv):
  """Part from what trimesh knows of a surface."""
  surface = getattr(look, "material", None)
  image = None
  if isinstance(surface, material.PBRMaterial):
    color, opacity, image = _gltf(surface)
  elif isinstance(surface, material.SimpleMaterial):
    color = np.maximum(np.asarray(surface.diffuse[:3]) / 255.0, _DARKEST)
    opacity = _mtl_opacity(surface.kwargs)
    if surface.image is not None:
      image = np.array(surface.image.convert("RGBA"))
  elif isinstance(look, visual.ColorVisuals) and look.defined:
    color, opacity = np.mean(look.face_colors[:, :3], 0) / 255.0, 1.0
  else:
    color, opacity = np.full(3, _UNKNOWN), 1.0
  texture = image if has_uv else None
  return Part(name=name, color=color, opacity=opacity, texture=texture)


def _gltf(surface):
  """Colour, opacity and RGBA image or None of a glTF material."""
  factor = np.ones(4)
  if surface.baseColorFactor is not None:
    factor = np.asarray(surface.baseColorFactor, np.float64)
    # Floats if set by hand, bytes if read from a file.
    factor = factor / 255.0 if factor.max() > 1 else factor
  # Factors are linear light; images and our colours are sRGB.
  color, opacity = factor[:3] ** (1 / 2.2), float(factor[3])
  opaque = surface.alphaMode in (None, "OPAQUE")
  image = None
  if surface.baseColorTexture is not None:
    image = np.array(surface.baseColorTexture.convert("RGBA"))
    image = np.rint(image * np.append(color, 1.0)).astype(np.uint8)
    if opaque:
      image[..., 3] = 255
  return color, 1.0 if opaque else opacity, image


def _mtl_opacity(fields):
  """`d`, or one minus `Tr`; solid if neither can be read."""
  for key, solid in (("d", False), ("tr", True)):
    try:
      value = float(fields[key][0])
    except (KeyError, IndexError, ValueError):
      continue
    return float(np.clip(1.0 - value if solid else value, 0.0, 1.0))
  return 1.0


def _into_unit_ball(vertices, faces, path):
  """Bounding box centred at the origin, farthest used vertex at radius 1."""
  used = vertices[np.unique(faces)]
  if not np.isfinite(used).all():
    raise ValueError(f"{path}: has vertices that are not finite; repair it")
  centre = 0.5 * (used.min(0) + used.max(0))
  radius = np.linalg.norm(used - centre, axis=-1).max()
  if radius == 0:
    raise ValueError(f"{path}: all vertices coincide; repair it")
  return (vertices - centre) / radius


def _corner_normals(vertices, normals, faces):
  """[m, 3, 3]: vertex normals where smooth, face normals at creases."""
  a, b, c = (vertices[faces[:, i]] for i in range(3))
  flat = np.cross(b - a, c - a)
  flat /= np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), 1e-30)
  smooth = normals[faces]
  smooth = smooth / np.maximum(
    np.linalg.norm(smooth, axis=-1, keepdims=True), 1e-30
  )
  cosine = np.einsum("mkd,md->mk", smooth, flat)[..., None]
  # The sign follows the winding; the renderer turns both to the camera.
  smooth = np.where(cosine < 0, -smooth, smooth)
  return np.where(np.abs(cosine) > _SMOOTH_COSINE, smooth, flat[:, None])


def _averaged_down(part, vertices, uv, faces, sample_size):
  """The part with its texture shrunk to about one texel per sample."""
  if part.texture is None:
    return part
  height, width = part.texture.shape[:2]
  flat_uv = np.pad(uv * np.array([width, height]), ((0, 0), (0, 1)))
  world, texels = _area(vertices, faces), _area(flat_uv, faces)
  if world == 0:
    return part
  factor = int(np.sqrt(texels / world) * sample_size)
  factor = min(factor, height, width)
  if factor <= 1:
    return part
  image = Image.fromarray(part.texture).reduce(factor)
  return dataclasses.replace(part, texture=np.array(image))


def _area(points, faces):
  """Area of all triangles."""
  a, b, c = (points[faces[:, i]] for i in range(3))
  return 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=-1).sum()
