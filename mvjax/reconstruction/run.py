"""`launch.py reconstruct`: views of objects to assets one can open."""

import dataclasses
import os
import pathlib
import time
from typing import Any

import jax
import numpy as np
import tqdm
import trimesh

import mvjax
from mvjax import animation, geometry, pixel_metrics
from mvjax.reconstruction import (
  asset_folder,
  assets,
  cameras,
  field,
  mesh,
  texture,
  visibility,
)
from mvjax.views import asset_views, render_sets, view_sets

# Of mesh and texture. Raise it when they change: an asset of another version is
# then not taken for the same.
_VERSION = 1
_FEWEST_VIEWS = 4
# With fewer, outlines bound the object from too few sides.
_MANY_VIEWS = 6
_TURNTABLE_FRAMES = 24
# What graphics cards take everywhere.
_LARGEST_TEXTURE = 4096
_TURN_MILLISECONDS = 3000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """How assets are made.

  Attributes:
    fit: of the radiance field.
    surface: of the mesh.
    texture_size: texels on a side, about.
    search_cameras: look for the field of view instead of believing
      transforms.json, see `cameras`; None: where sample.json says that the
      cameras are nominal (`asset_views.Asset.metric_cameras`).
  """

  fit: field.Settings = field.Settings()
  surface: mesh.Settings = mesh.Settings()
  texture_size: int = 512
  search_cameras: bool | None = None

  def __post_init__(self):
    if not 1 <= self.texture_size <= _LARGEST_TEXTURE:
      raise ValueError(
        f"texture_size={self.texture_size}: must be 1 to {_LARGEST_TEXTURE}"
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
  """A reconstructed object.

  Attributes:
    field: the fitted field.
    camera: the cameras of the views, as given or as found.
    surface: the mesh without the seams of the texture.
    asset: the textured mesh.
    record: figures, as JSON values.
  """

  field: field.Field
  camera: geometry.Camera
  surface: trimesh.Trimesh
  asset: assets.Asset
  record: dict[str, Any]


def reconstruct(
  views: str | os.PathLike,
  *,
  out: str | os.PathLike | None = None,
  settings: Settings,
) -> list[pathlib.Path]:
  """Makes every asset that is not there yet, see `asset_folder`.

  Objects with the same number of views and image size share the compiled
  programs. One that cannot be made does not stop the others.

  Args:
    views: folder of views and transforms.json, or a folder of such folders.
    out: where the assets' folders go; None: into the folders of the views.
    settings: how they are made.

  Returns:
    The folders of all assets.

  Raises:
    ValueError: one line about the input, or about the objects that failed.
    FileNotFoundError: there is no such folder.
  """
  source = pathlib.Path(views)
  if render_sets.is_data_set(source):
    raise ValueError(f"views={source}: is a data set; give a folder of views")
  found = view_sets.open_set(source)
  alone = (source / "transforms.json").is_file()
  target = pathlib.Path(out) if out else source.parent if alone else source
  folders = {thing.name: target / thing.name for thing in found}
  chosen = {thing.name: _decide(thing, settings) for thing in found}
  made_of = {
    thing.name: {"views": thing.digest, **as_json(chosen[thing.name])}
    for thing in found
  }
  missing = [
    thing
    for thing in found
    if not asset_folder.is_finished(folders[thing.name], made_of[thing.name])
  ]
  failures, compiled = {}, set()
  with tqdm.tqdm(missing, unit="asset") as progress:
    for thing in progress:
      try:
        result = make(_read(thing), chosen[thing.name])
      except (ValueError, FileNotFoundError) as error:
        failures[thing.name] = str(error)
        progress.write(f"skipped {thing.name}: {error}")
        continue
      # Those of one kind share the programs, see above.
      kind = (
        result.record["num_views"],
        result.record["image_size"],
        chosen[thing.name].search_cameras,
      )
      record = {
        "made_of": made_of[thing.name],
        **result.record,
        "includes_compilation": kind not in compiled,
      }
      compiled.add(kind)
      save(folders[thing.name], result, record)
      if "cameras_found" in record:
        progress.write(_lens(thing.name, record["cameras_found"]))
  if failures:
    name, reason = next(iter(failures.items()))
    raise ValueError(
      f"views={source}: {len(failures)} of {len(found)} failed; {name}: "
      f"{reason}"
    )
  print(
    f"{len(found)} assets in {target} "
    f"({len(found) - len(missing)} were there before)"
  )
  return list(folders.values())


def make(views: asset_views.Views, settings: Settings) -> Result:
  """One object, from views with cameras to a textured mesh.

  Raises:
    ValueError: one line: fewer than four views, an empty one, or views that
      do not belong together.
  """
  start = time.perf_counter()
  views = _checked(views)
  inside, found = np.asarray(views.alpha) > 0.5, None
  if settings.search_cameras:
    found = cameras.search(inside, views.camera)
    views = dataclasses.replace(views, camera=found.camera)
  fitted = field.fit(
    views.image,
    views.alpha,
    views.camera,
    settings.fit,
    background=views.background,
  )
  shown = field.render(
    fitted, views.camera, views.image.shape[1], background=views.background
  )
  surface = mesh.extract(fitted, shown, views.camera, settings.surface)
  asset = texture.bake(surface, views, fitted, size=settings.texture_size)
  covered = visibility.coverage(surface, views.camera)
  seconds = time.perf_counter() - start
  rgb, alpha = np.asarray(shown.rgb), np.asarray(shown.alpha)
  union = inside | (alpha > 0.5)
  record = {
    "num_views": len(views.image),
    "image_size": views.image.shape[1],
    "psnr_input_views": pixel_metrics.mean_psnr(rgb, views.image),
    "psnr_input_views_object": pixel_metrics.mean_psnr(rgb, views.image, union),
    "undetermined": {
      **{f"surface_{name}": share for name, share in covered.items()},
      "note": _note(len(views.image), covered),
    },
    "faces": len(asset.faces),
    "texture": list(asset.texture.shape[:2]),
    "seconds": seconds,
    "device": jax.devices()[0].device_kind,
    "mvjax": mvjax.__version__,
  }
  if found:
    record["cameras_found"] = {
      "field_of_view": found.field_of_view,
      "near_best": list(found.near_best),
      "distance": found.distance,
      "agreement": {f"{k:g}": v for k, v in found.agreement.items()},
    }
  return Result(
    field=fitted,
    camera=views.camera,
    surface=surface,
    asset=asset,
    record=record,
  )


def save(folder: pathlib.Path, result: Result, record: dict[str, Any]) -> None:
  """Writes the asset, a turntable and the record; see `asset_folder`."""
  size = record["image_size"]
  images = assets.render(result.asset, turntable(result.camera), size=size)
  colours = assets.vertex_colours(result.asset, result.surface)
  asset_folder.write(
    folder,
    writers={
      asset_folder.GLB: lambda path: assets.write_glb(path, result.asset),
      asset_folder.PLY: lambda path: assets.write_ply(
        path, result.surface, colours
      ),
      asset_folder.TURNTABLE: lambda path: animation.write(
        path, images, milliseconds=_TURN_MILLISECONDS
      ),
    },
    record=record,
  )


def turntable(camera: geometry.Camera) -> geometry.Camera:
  """Cameras once around the object, between and above the given ones' rings.

  Their height and distance are the mean of the given cameras'.
  """
  position = np.asarray(camera.camera_to_world)[:, :3, 3]
  distance = np.linalg.norm(position, axis=-1)
  elevation = np.arcsin(position[:, 2] / distance).mean()
  azimuth = np.arctan2(position[0, 1], position[0, 0])
  # Half a step off the first view.
  turn = (np.arange(_TURNTABLE_FRAMES) + 0.5) * 2 * np.pi / _TURNTABLE_FRAMES
  focal = np.asarray(camera.intrinsics)[:, 0, 0].mean()
  return geometry.orbit(
    azimuth=azimuth + turn,
    elevation=elevation,
    distance=distance.mean(),
    field_of_view=2 * np.arctan(0.5 / focal),
    xnp=np,
  )


def check_number(views: int) -> None:
  """Raises ValueError if there are too few views for an asset."""
  if views < _FEWEST_VIEWS:
    raise ValueError(f"{views} views: reconstruction needs {_FEWEST_VIEWS}")


def as_json(settings: Settings) -> dict[str, Any]:
  """All that decides an asset besides its views, as JSON values.

  Settings of a part are named `part.name`.
  """
  chosen: dict[str, Any] = {
    "version": [_VERSION, field.VERSION, cameras.VERSION]
  }
  for name, value in dataclasses.asdict(settings).items():
    inner = value if isinstance(value, dict) else {"": value}
    chosen |= {f"{name}.{key}".rstrip("."): v for key, v in inner.items()}
  return chosen


def _decide(thing: asset_views.Asset, settings: Settings) -> Settings:
  """The settings for one object."""
  if settings.search_cameras is not None:
    return settings
  return dataclasses.replace(settings, search_cameras=not thing.metric_cameras)


def _lens(name: str, found: dict[str, Any]) -> str:
  """What a search found, in one line."""
  low, high = found["near_best"]
  return (
    f"{name}: field of view {found['field_of_view']:.0f} degrees; "
    f"{low:.0f} to {high:.0f} explain the masks nearly as well"
  )


def _read(thing: asset_views.Asset) -> asset_views.Views:
  if not thing.has_cameras:
    raise ValueError(
      "has no transforms.json; write one with the camera of every view"
    )
  return thing.read()


def _checked(views: asset_views.Views) -> asset_views.Views:
  """Square views with masks and a background."""
  number, height, width, _ = views.image.shape
  check_number(number)
  if height != width:
    raise ValueError(f"views of {width}x{height} pixels: must be square")
  views = asset_views.with_masks(views)
  if views.background is None:
    white = np.ones((number, 3), np.float32)
    views = dataclasses.replace(views, background=white)
  return views


def _note(number: int, covered: dict[str, float]) -> str:
  """What the views leave open, in words."""
  few = covered["seen_by_none"] + covered["seen_by_one"]
  note = (
    f"{few:.0%} of the surface is seen by fewer than two views: there its "
    "place is bounded by outlines only, and what no view sees is guessed from "
    "its surroundings."
  )
  if number < _MANY_VIEWS:
    note += (
      f" {number} views fix outlines, not dents: hollows that no outline "
      "shows are filled or misplaced. Sample 8 views or more to fix them."
    )
  return note
