"""One object seen from fixed cameras, read from its render folder.

Cameras follow the project's convention: camera_to_world with OpenCV axes in
a z-up world, intrinsics normalised by the image size. Colours are straight
(not premultiplied) RGBA; depths are z-depths times 8192 in 16 bits, 0 where
there is no surface.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int, UInt8, UInt16
from PIL import Image

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
    ValueError: if meta.json lacks a field, an image file is absent, a camera
      is not finite, or there is no view or look.
  """
  path = folder / "meta.json"
  text = path.read_text()
  try:
    meta = json.loads(text)
    views = meta["views"]
    looks = tuple(
      Look(
        look=look["look"],
        material=look["material"],
        captions=tuple(look["captions"]),
      )
      for look in meta["looks"]
    )
    files = [folder / look["file"] for look in meta["looks"]]
    cameras = np.array([view["camera_to_world"] for view in views], np.float32)
    lenses = np.array([view["intrinsics"] for view in views], np.float32)
    group = np.array([view["group"] for view in views], np.int32)
    tiles = (len(views), meta["tile_columns"], meta["image_size"])
    identity = {
      key: meta[key] or "" for key in ("uid", "name", "noun", "category")
    }
  except (KeyError, json.JSONDecodeError) as error:
    raise ValueError(
      f"{path}: not a render folder's metadata ({error!r}); "
      "delete the folder and render the object again"
    ) from error
  if not views or not looks or not all(look.captions for look in looks):
    raise ValueError(f"{path}: needs views, looks and captions in every look")
  if not (np.isfinite(cameras).all() and np.isfinite(lenses).all()):
    raise ValueError(f"{path}: a camera is not finite; render it again")
  depth = folder / "depth.png"
  digest = digest_files([*files, depth], text)
  return RenderedObject(
    **identity,
    camera_to_world=cameras,
    intrinsics=lenses,
    group=group,
    looks=looks,
    digest=digest,
    read_images=lambda look: _read_tiles(files[look], *tiles),
    read_depths=functools.partial(_read_tiles, depth, *tiles),
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
  file: pathlib.Path, count: int, columns: int, size: int
) -> np.ndarray:
  """Cuts a tiled image into its views, row by row."""
  with Image.open(file) as image:
    tiled = np.asarray(image)
  rows = -(-count // columns)
  if tiled.shape[:2] != (rows * size, columns * size):
    raise ValueError(
      f"{file}: is {tiled.shape[1]}x{tiled.shape[0]} pixels, meta.json says "
      f"{columns}x{rows} tiles of {size}; render the object again"
    )
  tiles = tiled.reshape(rows, size, columns, size, *tiled.shape[2:])
  tiles = np.moveaxis(tiles, 1, 2)
  return tiles.reshape(rows * columns, size, size, *tiled.shape[2:])[:count]
