"""Small models with known geometry and colours, written as files."""

import pathlib

import numpy as np
import trimesh
from PIL import Image

from data_pipeline import objects

COLORS = np.array(
  [
    [230, 40, 40],
    [40, 200, 60],
    [50, 70, 220],
    [240, 220, 60],
    [200, 60, 200],
    [60, 210, 210],
  ],
  np.uint8,
)


def thing(model: pathlib.Path, **fields) -> objects.Object:
  fields = {"uid": model.name, "name": model.stem, **fields}
  return objects.Object(model=model, **fields)


def write_mesh(path: pathlib.Path, mesh: trimesh.Trimesh) -> pathlib.Path:
  path.parent.mkdir(parents=True, exist_ok=True)
  mesh.export(path)
  return path


def write_obj(path: pathlib.Path, obj: str, mtl: str = "") -> pathlib.Path:
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(f"mtllib {path.stem}.mtl\n{obj}")
  path.with_suffix(".mtl").write_text(mtl)
  return path


def write_painted_box(path: pathlib.Path) -> pathlib.Path:
  """A cube whose sides show a 2x2 checker of the side's colour and gray."""
  corners = [(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
  sides = ["1 2 4 3", "5 7 8 6", "1 5 6 2", "3 4 8 7", "1 3 7 5", "2 6 8 4"]
  lines = ["v {} {} {}".format(*corner) for corner in corners]
  lines.append("usemtl paint")
  atlas = np.full((64, 6 * 64, 3), 120, np.uint8)
  checker = np.add.outer(np.arange(64) // 32, np.arange(64) // 32) % 2 == 0
  for i, side in enumerate(sides):
    atlas[:, i * 64 : (i + 1) * 64][checker] = COLORS[i]
    left, right = (i + 0.02) / 6, (i + 0.98) / 6
    for u, v in ((left, 0), (right, 0), (right, 1), (left, 1)):
      lines.append(f"vt {u} {v}")
    refs = [f"{v}/{4 * i + k + 1}" for k, v in enumerate(side.split())]
    lines.append("f " + " ".join(refs))
  write_obj(path, "\n".join(lines), "newmtl paint\nKd 1 1 1\nmap_Kd paint.png")
  Image.fromarray(atlas).save(path.with_name("paint.png"))
  return path
