"""Cameras of a sample: an orbit or a file in, transforms.json out.

Two kinds of files are read. Ours is `{"views": [{"camera_to_world": 4x4,
"intrinsics": 3x3}, ...]}` with the axes and units of `geometry` (the
meta.json of a render folder is one). NeRF's transforms.json holds `frames`
with OpenGL camera-to-world matrices, and a focal length for all frames or
one for each: `fl_x` in pixels with the image's `w`, or `camera_angle_x`, the
full horizontal angle in radians. The world is z-up in both.
"""

import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from data_pipeline import views as view_groups
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
  try:
    content = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
  except (OSError, ValueError) as error:
    raise ValueError(f"cameras={path}: cannot be read: {error}") from error
  try:
    if content.get("frames"):
      camera = _from_nerf(content)
    elif content.get("views"):
      camera = _stack(
        [view["camera_to_world"] for view in content["views"]],
        intrinsics=[view["intrinsics"] for view in content["views"]],
      )
    else:
      raise ValueError('has no "views" (ours) and no "frames" (NeRF)')
    geometry.check_camera(camera)
  except KeyError as error:
    raise ValueError(f"cameras={path}: a view lacks {error}") from error
  except (ArithmeticError, AttributeError, TypeError, ValueError) as error:
    raise ValueError(f"cameras={path}: {error}") from error
  return camera


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


def _stack(poses: Any, *, intrinsics: Any) -> geometry.Camera:
  return geometry.Camera(
    camera_to_world=np.asarray(poses, np.float32),
    intrinsics=np.asarray(intrinsics, np.float32),
  )


def _from_nerf(content: Mapping[str, Any]) -> geometry.Camera:
  frames = [{**content, **frame} for frame in content["frames"]]
  poses = np.asarray([f["transform_matrix"] for f in frames], np.float32)
  if poses.shape[1:] != (4, 4):
    raise ValueError("transform_matrix: expected 4 rows of 4 numbers")
  return _stack(
    geometry.from_opengl(poses, xnp=np),
    intrinsics=[_nerf_intrinsics(frame) for frame in frames],
  )


def _nerf_intrinsics(
  frame: Mapping[str, Any],
) -> Float[np.ndarray, "3 3"]:
  """Normalised intrinsics; an image without w and h is taken as square."""
  width, height = frame.get("w", 1.0), frame.get("h", frame.get("w", 1.0))
  if "fl_x" in frame:
    if "w" not in frame:
      raise ValueError("fl_x needs the image's width w in pixels")
    focal_x = frame["fl_x"]
  elif "camera_angle_x" in frame:
    focal_x = 0.5 * width / math.tan(0.5 * frame["camera_angle_x"])
  else:
    raise ValueError("has no focal length: give camera_angle_x, or fl_x and w")
  focal_y = frame.get("fl_y", focal_x)
  centre_x = frame.get("cx", 0.5 * width)
  centre_y = frame.get("cy", 0.5 * height)
  return np.array(
    [
      [focal_x / width, 0.0, centre_x / width],
      [0.0, focal_y / height, centre_y / height],
      [0.0, 0.0, 1.0],
    ],
    np.float32,
  )


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
