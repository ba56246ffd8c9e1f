"""Cameras of a sample: an orbit or a file in, transforms.json out.

Two kinds of files are read. Ours is `{"views": [{"camera_to_world": 4x4,
"intrinsics": 3x3}, ...]}` with the axes and units of `geometry` (the
meta.json of a render folder is one). The other is NeRF's, see
`data_pipeline.nerf`. The world is z-up in both.
"""

import math
import os
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Float

from data_pipeline import fields, nerf, pictures
from data_pipeline import views as view_groups
from data_pipeline.renders import rendered_object
from mvjax import geometry


def orbit(
  views: int,
  *,
  azimuth: float,
  elevation: float,
  distance: float,
  field_of_view: float,
) -> geometry.Camera:
  """Evenly spread cameras [v] around the object; angles in degrees."""
  turn = np.arange(views) * (360.0 / views)
  return geometry.orbit(
    azimuth=np.deg2rad(azimuth + turn),
    elevation=np.deg2rad(elevation),
    distance=distance,
    field_of_view=np.deg2rad(field_of_view),
    xnp=np,
  )


def read(path: str | os.PathLike) -> geometry.Camera:
  """Cameras of our cameras.json or of a NeRF transforms.json.

  Raises:
    ValueError: one line with the file and what is wrong in it.
  """
  content = fields.Fields.read(pathlib.Path(path), f"cameras={path}")
  if content.content.get("frames"):
    frames = nerf.read(content)
    poses = geometry.from_opengl(frames.poses, xnp=np)
    intrinsics = frames.intrinsics
  elif content.content.get("views"):
    views = content.objects("views")
    pictures.check_views(len(views), content.where)
    poses = np.stack([view.matrix("camera_to_world", 4, 4) for view in views])
    intrinsics = np.stack([view.matrix("intrinsics", 3, 3) for view in views])
  else:
    raise ValueError(
      f'{content.where}: has no "views" (ours) and no "frames" (NeRF)'
    )
  return rendered_object.check_cameras(
    content.where, poses, intrinsics=intrinsics
  )


def transforms(camera: geometry.Camera, size: int) -> dict[str, Any]:
  """transforms.json of square images of `size` pixels, view_00.png and up.

  The focal length stands at the top if it is the same in all views, and with
  each frame otherwise.
  """
  poses = geometry.to_opengl(np.asarray(camera.camera_to_world), xnp=np)
  lenses = [_lens(k, size) for k in np.asarray(camera.intrinsics)]
  frames = [
    {"file_path": f"view_{i:02d}.png", "transform_matrix": pose.tolist()}
    for i, pose in enumerate(poses)
  ]
  if all(lens == lenses[0] for lens in lenses):
    return {**lenses[0], "frames": frames}
  return {
    "frames": [frame | lens for frame, lens in zip(frames, lenses, strict=True)]
  }


def view_words(camera: geometry.Camera) -> list[str]:
  """What each view is called in the 2D model's training captions."""
  poses = np.asarray(camera.camera_to_world)
  return [f"{view_groups.view_word(pose)} view" for pose in poses]


def directions(camera: geometry.Camera) -> list[tuple[float, float]]:
  """Azimuth in [0, 360) and elevation of every camera's place, in degrees."""
  x, y, z = np.asarray(camera.camera_to_world, np.float64)[:, :3, 3].T
  azimuth = np.round(np.rad2deg(np.arctan2(y, x)), 3) % 360
  elevation = np.rad2deg(np.arctan2(z, np.hypot(x, y)))
  return [(float(a), float(e)) for a, e in zip(azimuth, elevation, strict=True)]


def orbit_order(camera: geometry.Camera) -> list[int] | None:
  """Views of one orbit in order of azimuth; None if they are none."""
  poses = np.asarray(camera.camera_to_world)
  orbits, _ = view_groups.split_groups(poses, np.zeros(len(poses), np.int32))
  if not orbits:
    return None
  azimuth = np.arctan2(poses[:, 1, 3], poses[:, 0, 3])
  # From the first view on, so that a turntable starts where the user did;
  # rounding keeps the first view itself from wrapping around to the end.
  turned = np.round((azimuth - azimuth[0]) % (2 * np.pi), 4) % 6.2832
  return [int(i) for i in np.argsort(turned, kind="stable")]


def _lens(
  intrinsics: Float[np.ndarray, "3 3"], size: int
) -> dict[str, float | int]:
  """NeRF's names for the intrinsics of a square image, in pixels."""
  focal_x, focal_y = float(intrinsics[0, 0]), float(intrinsics[1, 1])
  return {
    "camera_angle_x": 2 * math.atan(0.5 / focal_x),
    "camera_angle_y": 2 * math.atan(0.5 / focal_y),
    "fl_x": focal_x * size,
    "fl_y": focal_y * size,
    "cx": float(intrinsics[0, 2]) * size,
    "cy": float(intrinsics[1, 2]) * size,
    "w": size,
    "h": size,
  }
