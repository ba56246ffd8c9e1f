"""Assets of pictures: folders with cameras or without, and single pictures.

16-bit `depth_*.png` in the units of `rendered_object.DEPTH_SCALE` may lie
beside `view_*.png`. The views may also lie side by side in one picture.
"""

import pathlib
from collections.abc import Sequence

import numpy as np

from data_pipeline import pictures
from data_pipeline.renders import rendered_object
from mvjax import geometry
from mvjax.views import asset_views, sample_record, view_files, viewpoints


def open_folder(folder: pathlib.Path) -> asset_views.Asset:
  """The asset of a folder of views.

  Raises:
    ValueError: its sample.json or transforms.json is damaged, or its pictures
      are not those of the cameras.
  """
  camera, content, poses = None, [b""], folder / view_files.POSES
  if poses.is_file():
    camera, content = viewpoints.read(poses), [poses]
  files, sample = (
    view_files.of_asset(folder),
    sample_record.read(folder),
  )
  depths = [
    file.with_name(file.name.replace("view_", "depth_"))
    for file in files
    if file.name.startswith("view_")
  ]
  if len(depths) < len(files) or not all(file.is_file() for file in depths):
    depths = []
  content += [*files, *depths]
  return asset_views.Asset(
    name=folder.name,
    source=str(folder.parent),
    prompt=sample.get("prompt") or _as_text(folder.name),
    digest=asset_views.digest(content),
    num_views=len(files),
    has_cameras=camera is not None,
    record=sample,
    read=lambda: _decode_files(files, camera=camera, depths=depths),
  )


def open_picture(file: pathlib.Path) -> asset_views.Asset:
  """A picture as an asset of one view."""
  return asset_views.Asset(
    name=file.name,
    source=str(file.parent),
    prompt=_as_text(file.stem),
    digest=asset_views.digest([file]),
    num_views=1,
    has_cameras=False,
    read=lambda: _decode_files([file], camera=None, depths=[]),
  )


def _as_text(name: str) -> str:
  return name.replace("_", " ").replace("-", " ").strip()


def _decode_files(
  files: Sequence[pathlib.Path],
  *,
  camera: geometry.Camera | None,
  depths: Sequence[pathlib.Path],
) -> asset_views.Views:
  levels = _decode_views(files, "RGBA")
  sizes = {view.shape[:2] for view in levels}
  if len(sizes) > 1:
    raise ValueError(
      f"{files[0].parent}: views of different sizes {sorted(sizes)}; an "
      "asset's views must have one"
    )
  rgba = np.stack(levels)
  alpha = rgba[..., 3] / np.float32(255)
  depth = None
  if depths:
    scaled = _decode_views(depths)
    if {one.shape for one in scaled} != sizes:
      raise ValueError(
        f"{depths[0].parent}: depth_*.png and view_*.png differ in size; "
        "write them alike, or remove the depth"
      )
    depth = np.stack(scaled).astype(np.float32) / rendered_object.DEPTH_SCALE
  # Rounded, as the picture would be if its file were opaque.
  colour = rgba[..., :3] * alpha[..., None] + 255 * (1 - alpha[..., None])
  return asset_views.Views(
    image=np.round(colour) / 127.5 - 1,
    alpha=None if (alpha == 1).all() else alpha,
    depth=depth,
    camera=camera,
  )


def _decode_views(
  files: Sequence[pathlib.Path], mode: str | None = None
) -> list[np.ndarray]:
  """The levels of all views, each in a file of its own or all in a strip."""
  levels = pictures.read(list(dict.fromkeys(files)), mode)
  return levels if len(levels) == len(files) else _split(levels, files)


def _split(
  levels: Sequence[np.ndarray], files: Sequence[pathlib.Path]
) -> list[np.ndarray]:
  """The views of a strip: one picture, named by all frames, left to right."""
  width = levels[0].shape[1]
  if len(levels) > 1 or width % len(files):
    raise ValueError(
      f"{files[0].parent}/{view_files.POSES}: {len(files)} frames name "
      f"{len(levels)} pictures; give each frame its own, or all of them one "
      "strip of views of equal width"
    )
  return np.split(levels[0], len(files), axis=1)
