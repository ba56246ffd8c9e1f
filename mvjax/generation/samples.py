"""Sample folders on disk: one per prompt and seed, whole or not there.

A folder `<slug>-<seed>/` holds view_00.png and up, grid.png, transforms.json,
sample.json and, for six views or more of one orbit, turntable.gif. It is
written under a temporary name and renamed, so a folder that exists is
finished. A finished folder is kept; if it was made with other settings that
is an error, never a silent overwrite.
"""

import dataclasses
import hashlib
import pathlib
import re
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mvjax import animation, geometry, records
from mvjax.views import viewpoints

# Fewer views make a slide show, not a turntable.
TURNTABLE_VIEWS = 6
_TURN_MILLISECONDS = 2000
_GRID_COLUMNS = 4
_SLUG_LENGTH = 60


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
  """One unit of work.

  Attributes:
    prompt: the text.
    seed: of the noise.
  """

  prompt: str
  seed: int

  @property
  def name(self) -> str:
    """Folder name; a hash is added where the slug loses letters."""
    slug = re.sub("[^a-z0-9]+", "-", self.prompt.lower()).strip("-")
    slug = slug[:_SLUG_LENGTH].strip("-")
    if slug.replace("-", " ") != self.prompt:
      digest = hashlib.sha256(self.prompt.encode()).hexdigest()[:6]
      slug = f"{slug}-{digest}".strip("-")
    return f"{slug}-{self.seed}"


def is_finished(
  out: pathlib.Path, sample: Sample, *, settings: Mapping[str, Any]
) -> bool:
  """Whether the sample exists, made with these very settings.

  Args:
    out: folder of the sample folders.
    sample: the unit of work.
    settings: all that decides the images besides prompt and seed, as JSON.

  Raises:
    ValueError: the folder is there but holds something else.
  """
  folder = out / sample.name
  if not folder.exists():
    return False
  records.check_same(
    folder / "sample.json",
    {**settings, "prompt": sample.prompt, "seed": sample.seed},
    made_of=lambda record: {
      **record["settings"],
      "prompt": record["prompt"],
      "seed": record["seed"],
    },
    remedy="choose another --out, or remove that folder",
  )
  return True


def write(
  out: pathlib.Path,
  sample: Sample,
  *,
  images: UInt8[np.ndarray, "v h w 3"],
  camera: geometry.Camera,
  record: Mapping[str, Any],
) -> pathlib.Path:
  """Writes a sample's folder and returns it.

  Args:
    out: folder of the sample folders.
    sample: the unit of work.
    images: square views.
    camera: their cameras [v].
    record: content of sample.json beside prompt and seed.
  """
  partial = out / f".{sample.name}.partial"
  shutil.rmtree(partial, ignore_errors=True)
  partial.mkdir()
  for i, image in enumerate(images):
    Image.fromarray(image).save(partial / f"view_{i:02d}.png")
  Image.fromarray(grid(images)).save(partial / "grid.png")
  order = viewpoints.orbit_order(camera)
  if order is not None and len(order) >= TURNTABLE_VIEWS:
    animation.write(
      partial / "turntable.gif",
      images[order],
      milliseconds=_TURN_MILLISECONDS,
    )
  records.write(
    partial / "transforms.json", viewpoints.transforms(camera, images.shape[1])
  )
  content = {"prompt": sample.prompt, "seed": sample.seed, **record}
  records.write(partial / "sample.json", content)
  return partial.rename(out / sample.name)


def grid(
  images: UInt8[np.ndarray, "v h w 3"], *, columns: int = _GRID_COLUMNS
) -> UInt8[np.ndarray, "i j 3"]:
  """Tiles views row by row on white."""
  count, height, width, _ = images.shape
  columns = min(columns, count)
  rows = -(-count // columns)
  tiles = np.full((rows * columns, height, width, 3), 255, np.uint8)
  tiles[:count] = images
  tiles = tiles.reshape(rows, columns, height, width, 3)
  return tiles.swapaxes(1, 2).reshape(rows * height, columns * width, 3)
