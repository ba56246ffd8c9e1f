"""Objects to multi-view images: colour, coverage and depth in several looks.

Rays are cast once per view and shared by all looks, so looks of one view agree
in every pixel's geometry. Light is fixed to the world (an ambient term and two
lamps, both sides of a surface lit alike, no highlights or shadows): a surface
point has the same colour in every view. An object's folder holds

  meta.json   uid, name, ..., views, looks; `tile_columns`, `image_size`
  *.png       one per look: RGBA, straight alpha, views in row-major tiles
  depth.png   16 bit, same tiles: z-depth times 8192, 0 where nothing is hit
"""

import concurrent.futures
import contextlib
import dataclasses
import json
import math
import multiprocessing
import pathlib
import shutil
import signal
from collections.abc import Iterable, Iterator

import numpy as np
import tqdm
from jaxtyping import Int

from data_pipeline import (
  files,
  looks,
  materials,
  meshes,
  objects,
  pixels,
  raycast,
)
from mvjax import geometry

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
    time_limit: Seconds of computing for one object (not of waiting for a
      processor); after that it is reported and skipped.
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
  time_limit: float = 120.0

  def __post_init__(self):
    low, high = self.elevation
    most = len(materials.MATERIALS)
    # Depths must fit into 16 bits.
    farthest = 65535 / pixels.DEPTH_SCALE - 1
    allowed = {
      "image_size": (self.image_size >= 1, "at least 1"),
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
      "time_limit": (self.time_limit > 0, "above 0"),
    }
    problems = [
      f"{field}={getattr(self, field)}: must be {remedy}"
      for field, (good, remedy) in allowed.items()
      if not good
    ]
    if problems:
      raise ValueError("; ".join(problems))


def render_all(
  things: Iterable[objects.Object],
  out: pathlib.Path,
  *,
  settings: RenderSettings,
  workers: int,
) -> dict[str, str]:
  """Renders every object into `out/<id>/`, in parallel processes.

  Objects that have a folder are skipped, so an interrupted run is resumed by
  repeating it. A broken object is reported and skipped. Only one run at a
  time may write to `out`: leftovers of a killed one are removed.

  Args:
    things: What to render.
    out: Folder to create or complete. It remembers its settings.
    settings: Cameras, looks, limits.
    workers: Number of processes.

  Returns:
    The uids of the objects that could not be rendered, with the reason.

  Raises:
    ValueError: `out` holds renders of other settings, or there is no worker.
  """
  if workers < 1:
    raise ValueError(f"workers={workers}: must be at least 1")
  out = pathlib.Path(out)
  out.mkdir(parents=True, exist_ok=True)
  _check_same_settings(out / "settings.json", settings)
  for partial in out.glob(".*/"):
    shutil.rmtree(partial)
  todo = [thing for thing in things if not (out / thing.id).is_dir()]
  failures = {}
  # Forking would copy the locks of jax's threads.
  context = multiprocessing.get_context("spawn")
  with (
    concurrent.futures.ProcessPoolExecutor(workers, context) as pool,
    tqdm.tqdm(total=len(todo), unit="object", smoothing=0.02) as progress,
  ):
    futures = {}
    for thing in todo:
      folder = out / thing.id
      future = pool.submit(render_object, thing, folder, settings=settings)
      futures[future] = thing
    for future in concurrent.futures.as_completed(futures):
      uid, error = futures[future].uid, future.exception()
      # A process that dies takes the pool with it; no object is to blame.
      if isinstance(error, concurrent.futures.BrokenExecutor):
        raise error
      if error is not None:
        failures[uid] = f"{type(error).__name__}: {error}"
        progress.write(f"skipped {uid}: {failures[uid]}")
      progress.update()
  return failures


def render_object(
  thing: objects.Object, folder: pathlib.Path, *, settings: RenderSettings
) -> None:
  """Renders all views and looks of one object into a new folder.

  Must run in the main thread of its process, because of the time limit.

  Raises:
    ValueError: The model is broken or nothing of it can be seen.
    TimeoutError: It needed more than `settings.time_limit`.
  """
  image = {
    "size": settings.image_size,
    "supersampling": settings.supersampling,
  }
  samples = settings.image_size * settings.supersampling
  width = 2 * settings.distance * _tan_half(settings.field_of_view)
  with _time_limit(settings.time_limit), files.replacing(folder) as partial:
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


def _check_same_settings(path, settings):
  """Writes the settings beside the renders, or compares them."""
  # Through JSON, which makes lists of tuples.
  wanted = json.loads(json.dumps(dataclasses.asdict(settings)))
  del wanted["time_limit"]
  if not path.exists():
    path.write_text(json.dumps(wanted, indent=1))
    return
  found = json.loads(path.read_text())
  for field in wanted:
    if found.get(field) != wanted[field]:
      raise ValueError(
        f"{field}={wanted[field]}: {path.parent} was rendered with "
        f"{found.get(field)}; use that, or another folder"
      )


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
  """Raises TimeoutError in the block after seconds of computing (Unix)."""

  def expire(signum, frame):
    del signum, frame
    raise TimeoutError(
      f"needs more than {seconds:g} s; raise time_limit or simplify the model"
    )

  previous = signal.signal(signal.SIGPROF, expire)
  signal.setitimer(signal.ITIMER_PROF, seconds)
  try:
    yield
  finally:
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, previous)
