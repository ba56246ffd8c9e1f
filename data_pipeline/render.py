"""Objects to multi-view images: colour, coverage and depth in several looks.

Rays are cast once per view and shared by all looks, so looks of one view agree
in every pixel's geometry. Light is fixed to the world (an ambient term and two
lamps, both sides of a surface lit alike, no highlights or shadows): a surface
point has the same colour in every view. An object's folder holds

  meta.json   uid, name, noun, ..., views, looks; `tile_columns`, `image_size`
  *.png       one per look: RGBA, straight alpha, views in row-major tiles
  depth.png   16 bit, same tiles: z-depth times 8192, 0 where nothing is hit
"""

import dataclasses
import json
import math
import pathlib

import numpy as np
from jaxtyping import Int

from data_pipeline import (
  captions,
  looks,
  materials,
  meshes,
  objects,
  pictures,
  pixels,
  raycast,
)
from mvjax import atomic, geometry

# Little slower than the fastest, and half the size.
_PNG_LEVEL = 4
_VIEWS_IN_GROUP = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class RenderSettings:
  """What is rendered of every object.

  Attributes:
    image_size: Pixels on a side.
    orbits: Groups of four views at orthogonal azimuths and one elevation.
    clusters: Groups of four nearby views.
    cluster_spread: Half width of a cluster in azimuth, degrees; elevations
      spread by half of it.
    elevation: Lowest and highest elevation, degrees.
    field_of_view: Full opening angle, degrees.
    distance: From the camera to the origin; the object fills the unit ball.
    supersampling: Rays on a side of each pixel.
    variants: Material variants per object.
    seed: Changes cameras and materials.
  """

  image_size: int = 128
  orbits: int = 6
  clusters: int = 2
  cluster_spread: float = 30.0
  elevation: tuple[float, float] = (-5.0, 40.0)
  field_of_view: float = 40.0
  distance: float = 3.0
  supersampling: int = 2
  variants: int = 3
  seed: int = 0

  def __post_init__(self):
    low, high = self.elevation
    most = len(materials.MATERIALS)
    views = _VIEWS_IN_GROUP * (self.orbits + self.clusters)
    # Depths must fit into 16 bits.
    farthest = 65535 / pixels.DEPTH_SCALE - 1
    allowed = {
      "image_size": (
        1 <= self.image_size
        and self.image_size**2 * views <= pictures.MOST_PIXELS,
        f"at least 1, and at most {pictures.largest_side(views)} with {views} "
        "views",
      ),
      "supersampling": (self.supersampling >= 1, "at least 1"),
      "orbits": (self.orbits >= 0, "at least 0"),
      "clusters": (
        self.clusters >= 0 and self.orbits + self.clusters > 0,
        "at least 0, and at least 1 where orbits=0",
      ),
      "cluster_spread": (0 <= self.cluster_spread <= 180, "0 to 180 degrees"),
      "variants": (0 <= self.variants <= most, f"0 to {most}"),
      "elevation": (
        -90 <= low <= high <= 90,
        "(low, high) within -90 to 90 degrees",
      ),
      "field_of_view": (0 < self.field_of_view < 180, "0 to 180 degrees"),
      "distance": (
        1 < self.distance < farthest,
        f"above 1 and below {farthest:.2f}",
      ),
    }
    problems = [
      f"{field}={getattr(self, field)}: must be {remedy}"
      for field, (good, remedy) in allowed.items()
      if not good
    ]
    if problems:
      raise ValueError("; ".join(problems))


def render_object(
  thing: objects.Object, folder: pathlib.Path, *, settings: RenderSettings
) -> None:
  """Renders all views and looks of one object into a new folder.

  Raises:
    ValueError: The model is broken or nothing of it can be seen.
  """
  image = {
    "size": settings.image_size,
    "supersampling": settings.supersampling,
  }
  samples = settings.image_size * settings.supersampling
  width = 2 * settings.distance * _tan_half(settings.field_of_view)
  with atomic.replaced(folder) as partial:
    partial.mkdir()
    groups, cameras = make_cameras(thing.uid, settings=settings)
    mesh = meshes.load(
      thing.model,
      rotation=thing.model_rotation,
      sample_size=width / samples,
    )
    views = raycast.cast(mesh, cameras, size=samples)
    if not sum(len(view.sample) for view in views):
      raise ValueError(f"{thing.model}: nothing of it can be seen")

    entries = []
    for look in looks.looks(
      thing, views, variants=settings.variants, seed=settings.seed
    ):
      entry = _look_entry(look)
      tiles = [
        pixels.color_image(view, rgb, **image)
        for view, rgb in zip(views, look.colors, strict=True)
      ]
      pixels.tile(tiles).save(
        partial / entry["file"], compress_level=_PNG_LEVEL
      )
      entries.append(entry)
    depths = [pixels.depth_image(view, **image) for view in views]
    pixels.tile(depths).save(partial / "depth.png", compress_level=_PNG_LEVEL)
    meta = {
      **{field: getattr(thing, field) for field in _DESCRIPTION},
      "noun": captions.bare_noun(thing),
      "image_size": settings.image_size,
      "tile_columns": pixels.columns(len(views)),
      "views": _view_entries(groups, cameras),
      "looks": entries,
    }
    (partial / "meta.json").write_text(json.dumps(meta, indent=1))


def make_cameras(
  uid: str, *, settings: RenderSettings
) -> tuple[Int[np.ndarray, " v"], geometry.Camera]:
  """Group of each view, and the [v] cameras; a function of uid and seed."""
  rng = looks.generator(uid, seed=settings.seed, purpose="cameras")
  low, high = np.radians(settings.elevation)
  spread = math.radians(settings.cluster_spread)
  number = _VIEWS_IN_GROUP
  azimuth, elevation = [], []
  for _ in range(settings.orbits):
    turn = np.arange(number) * 2 * np.pi / number
    azimuth.append(rng.uniform(0, 2 * np.pi) + turn)
    elevation.append(np.full(number, rng.uniform(low, high)))
  for _ in range(settings.clusters):
    start = rng.uniform(0, 2 * np.pi)
    azimuth.append(start + rng.uniform(-spread, spread, number))
    near = rng.uniform(low, high) + rng.uniform(-spread / 2, spread / 2, number)
    elevation.append(np.clip(near, low, high))
  cameras = geometry.orbit(
    azimuth=np.concatenate(azimuth),
    elevation=np.concatenate(elevation),
    distance=settings.distance,
    field_of_view=math.radians(settings.field_of_view),
    xnp=np,
  )
  return np.repeat(np.arange(len(azimuth)), number), cameras


_DESCRIPTION = (
  "uid",
  "name",
  "tags",
  "category",
  "creator",
  "licence",
  "library",
)


def _view_entries(groups, cameras):
  """`views` of meta.json."""
  return [
    {
      "camera_to_world": cameras.camera_to_world[i].tolist(),
      "intrinsics": cameras.intrinsics[i].tolist(),
      "group": int(group),
    }
    for i, group in enumerate(groups)
  ]


def _look_entry(look):
  """One of `looks` of meta.json."""
  variant = look.variant
  words = [look.look]
  if variant is not None:
    words += [variant.color, variant.material.replace(" ", "-")]
  return {
    "file": "-".join(words) + ".png",
    "look": look.look,
    "material": variant and variant.material,
    "color": variant and variant.color,
    "captions": look.captions,
  }


def _tan_half(degrees):
  """Tangent of half an angle."""
  return math.tan(math.radians(degrees) / 2)
