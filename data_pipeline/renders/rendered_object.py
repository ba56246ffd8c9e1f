"""One object seen from fixed cameras, read from its render folder.

Cameras follow the project's convention: camera_to_world with OpenCV axes in
a z-up world, intrinsics normalised by the image size. Colours are straight
(not premultiplied) RGBA; depths are z-depths times 8192 in 16 bits, 0 where
there is no surface.
"""

import dataclasses
import hashlib
import math
import pathlib
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int, UInt8, UInt16

from data_pipeline import fields, files, pictures
from mvjax import geometry

DEPTH_SCALE = 8192.0
"""Depth PNG units per unit of length; the largest depth is just under 8."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
  """One appearance of an object and the sentences that describe it.

  Attributes:
    look: 'simplified', 'full', 'retextured' or 'source' (public layouts).
    material: the material word of the captions, or None.
    captions: at least one.
  """

  look: str
  material: str | None
  captions: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RenderedObject:
  """Metadata in memory, pixels read on demand.

  Attributes:
    uid: unique in a data set.
    name: what the object is called; objects may share a name.
    noun: what captions in another material call it, see `captions.bare_noun`;
      objects of several names may share it.
    category: may be empty.
    group: views with the same number belong together (an orbit, a cluster).
    looks: at least one.
    digest: changes when the files behind the object change.
    read_images: from the number of a look to its views.
    read_depths: the depths of all views, or None if there are none.
  """

  uid: str
  name: str
  noun: str
  category: str
  camera_to_world: Float[np.ndarray, "v 4 4"]
  intrinsics: Float[np.ndarray, "v 3 3"]
  group: Int[np.ndarray, " v"]
  looks: tuple[Look, ...]
  digest: str
  read_images: Callable[[int], UInt8[np.ndarray, "v h w 4"]]
  read_depths: Callable[[], UInt16[np.ndarray, "v h w"] | None]


def read_render_folder(folder: pathlib.Path) -> RenderedObject:
  """Reads the metadata of one folder written by the renderer.

  Raises:
    ValueError: if a field of meta.json is not what it should be, an image file
      is absent, a camera is none, or there is no view or look.
  """
  path = folder / "meta.json"
  meta = fields.Fields.read(path)
  views, looks = meta.objects("views"), meta.objects("looks")
  if not views or not looks:
    raise ValueError(f"{path}: needs views and looks; render the object again")
  pictures.check_views(len(views), str(path))
  camera = check_cameras(
    str(path),
    np.stack([view.matrix("camera_to_world", 4, 4) for view in views]),
    intrinsics=np.stack([view.matrix("intrinsics", 3, 3) for view in views]),
  )
  images = [files.picture(folder, look, "file") for look in looks]
  depth = folder / "depth.png"
  side = math.isqrt(pictures.MOST_PIXELS)
  tiles = {
    "count": len(views),
    "columns": meta.number("tile_columns", low=1, high=side),
    "size": meta.number("image_size", low=1, high=side),
  }
  return RenderedObject(
    uid=meta.words("uid"),
    name=meta.words("name"),
    noun=meta.words("noun"),
    category=meta.get("category", str, default=""),
    camera_to_world=camera.camera_to_world,
    intrinsics=camera.intrinsics,
    group=np.array([group_of(view) for view in views], np.int32),
    looks=tuple(
      Look(
        look=look.words("look"),
        material=look.get("material", str, default=None),
        captions=look.texts("captions"),
      )
      for look in looks
    ),
    digest=digest_files([*images, depth], path.read_text("utf-8")),
    read_images=lambda look: _read_tiles(images[look], mode="RGBA", **tiles),
    read_depths=lambda: _read_tiles(depth, mode="I;16", **tiles),
  )


def group_of(view: fields.Fields, **default: int) -> int:
  """The number of the group that a view is in, which has 32 bits."""
  return view.number("group", low=-(2**31), high=2**31 - 1, **default)


def check_cameras(
  where: str,
  camera_to_world: Float[np.ndarray, "v 4 4"],
  *,
  intrinsics: Float[np.ndarray, "v 3 3"],
) -> geometry.Camera:
  """Cameras in single precision.

  Raises:
    ValueError: one is none; `where` stands first.
  """
  try:
    # Before the numbers are narrowed, which some would not survive.
    geometry.check_camera(
      geometry.Camera(camera_to_world=camera_to_world, intrinsics=intrinsics)
    )
  except ValueError as error:
    raise ValueError(f"{where}: {error}") from error
  return geometry.Camera(
    camera_to_world=camera_to_world.astype(np.float32),
    intrinsics=intrinsics.astype(np.float32),
  )


def digest_files(files: list[pathlib.Path], text: str) -> str:
  """Hash of a text and of the names and sizes of files (not their bytes).

  Raises:
    ValueError: if one of the files does not exist.
  """
  missing = [str(file) for file in files if not file.is_file()]
  if missing:
    raise ValueError(f"missing files: {', '.join(missing)}; render again")
  sizes = [(file.name, file.stat().st_size) for file in files]
  return hashlib.sha256(f"{text}{sizes}".encode()).hexdigest()


def _read_tiles(
  file: pathlib.Path, *, mode: str, count: int, columns: int, size: int
) -> np.ndarray:
  """Cuts a tiled image into its views, row by row."""
  (tiled,) = pictures.read([file], mode)
  rows = -(-count // columns)
  if tiled.shape[:2] != (rows * size, columns * size):
    raise ValueError(
      f"{file}: is {tiled.shape[1]}x{tiled.shape[0]} pixels, meta.json says "
      f"{columns}x{rows} tiles of {size}; render the object again"
    )
  tiles = tiled.reshape(rows, size, columns, size, *tiled.shape[2:])
  tiles = np.moveaxis(tiles, 1, 2)
  return tiles.reshape(rows * columns, size, size, *tiled.shape[2:])[:count]
