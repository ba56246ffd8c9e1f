"""Render folders without a renderer: every pixel says where it comes from.

Of object `o`, look `l`, view `v` the colour is (40 o, 100 l, 20 v) inside a
disc and the depth is 2 + 0.1 v. Views: two orbits of four, a cluster of four.
"""

import json
import pathlib

import numpy as np
from PIL import Image

from data_pipeline.renders import rendered_object
from mvjax import geometry

SIZE = 16
NAMES = ("Chair", "Lamp", "chair", "Table", "Chair", "Table")
LOOKS = (
  {"look": "simplified", "material": None},
  {"look": "retextured", "material": "wood"},
  {"look": "retextured", "material": "leather"},
)
# By their hashes; of these, the 2D model sees the wooden table.
HELD_OUT_PAIRS = {("lamp", "wood"), ("table", "wood")}


def rig() -> tuple[geometry.Camera, list[int]]:
  """Twelve cameras and their groups."""
  quarter = np.arange(4) * np.pi / 2
  azimuth = np.concatenate([0.3 + quarter, 1.0 + quarter, 0.1 * np.arange(4)])
  elevation = np.repeat([0.2, 0.5, 0.1], 4)
  camera = geometry.orbit(
    azimuth=azimuth,
    elevation=elevation,
    distance=3.0,
    field_of_view=np.radians(40),
    xnp=np,
  )
  return camera, [0] * 4 + [1] * 4 + [2] * 4


def write(root: pathlib.Path, names: tuple[str, ...] = NAMES) -> pathlib.Path:
  """Writes one folder for every name under `root`."""
  camera, group = rig()
  row, column = np.indices((SIZE, SIZE)) + 0.5 - SIZE / 2
  disc = row**2 + column**2 < 25
  views = [
    {
      "camera_to_world": np.asarray(pose).tolist(),
      "intrinsics": np.asarray(lens).tolist(),
      "group": number,
    }
    for pose, lens, number in zip(
      camera.camera_to_world, camera.intrinsics, group, strict=True
    )
  ]
  for o, name in enumerate(names):
    folder = root / f"object_{o}"
    folder.mkdir(parents=True)
    looks = []
    for l, look in enumerate(LOOKS):
      pixels = [
        np.dstack([disc * 40 * o, disc * 100 * l, disc * 20 * v, disc * 255])
        for v in range(len(views))
      ]
      Image.fromarray(tile(pixels).astype(np.uint8)).save(folder / f"{l}.png")
      captions = [f"{name} {look['material']} {n}" for n in range(2)]
      looks.append({**look, "file": f"{l}.png", "captions": captions})
    depths = [disc * (2 + 0.1 * v) * 8192 for v in range(len(views))]
    Image.fromarray(tile(depths).astype(np.uint16)).save(folder / "depth.png")
    meta = {
      "uid": f"object_{o}",
      "name": name,
      "noun": name.lower(),
      "category": "Furniture",
      "tags": [],
      "creator": "nobody",
      "licence": "CC0-1.0",
      "views": views,
      "tile_columns": 4,
      "image_size": SIZE,
      "looks": [{**look, "color": None} for look in looks],
    }
    (folder / "meta.json").write_text(json.dumps(meta))
  return root


def read(root: pathlib.Path) -> list[rendered_object.RenderedObject]:
  """The objects of all folders under `root`."""
  return [
    rendered_object.read_render_folder(meta.parent)
    for meta in sorted(root.glob("*/meta.json"))
  ]


def tile(images: list[np.ndarray], columns: int = 4) -> np.ndarray:
  """Row-major tiles."""
  rows = [images[i : i + columns] for i in range(0, len(images), columns)]
  return np.concatenate([np.concatenate(row, 1) for row in rows], 0)
