"""NeRF's transforms.json: `frames`, each with a camera.

`transform_matrix` is camera to world with OpenGL axes. The focal length stands
at the top or with each frame: `fl_x` in pixels with the image's `w`, or
`camera_angle_x`, the full horizontal angle in radians; `fl_y`, `cx`, `cy`, `h`
may be given.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Float

from data_pipeline import fields, pictures

# Of lengths in pixels: nothing is that large, and quotients stay finite.
_LEAST, _MOST = 1e-3, 1e9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frames:
  """What the file holds, frame by frame.

  Attributes:
    poses: camera to world, OpenGL axes; neither finite nor a rotation for sure.
    intrinsics: normalised by the image size.
    records: the frames, with what stands at the top.
  """

  poses: Float[np.ndarray, "v 4 4"]
  intrinsics: Float[np.ndarray, "v 3 3"]
  records: list[fields.Fields]


def read(content: fields.Fields) -> Frames:
  """The frames of a file, one or more.

  Raises:
    ValueError: one line with the file, the field and what is wrong with it.
  """
  records = [frame.over(content) for frame in content.objects("frames")]
  if not records:
    raise content.error("frames", "must have a camera for every view")
  pictures.check_views(len(records), f"{content.where}: frames")
  return Frames(
    poses=np.stack([r.matrix("transform_matrix", 4, 4) for r in records]),
    intrinsics=np.stack([_intrinsics(record) for record in records]),
    records=records,
  )


def _intrinsics(frame: fields.Fields) -> Float[np.ndarray, "3 3"]:
  """An image without w and h is taken as square."""
  length = {"low": _LEAST, "high": _MOST}
  width = frame.number("w", **length, default=1.0)
  height = frame.number("h", **length, default=width)
  if "fl_x" in frame.content:
    if "w" not in frame.content:
      raise frame.error("fl_x", "needs the image's width w in pixels")
    focal_x = frame.number("fl_x", **length)
  elif "camera_angle_x" in frame.content:
    angle = frame.number("camera_angle_x", low=1e-3, high=math.pi - 1e-3)
    focal_x = 0.5 * width / math.tan(0.5 * angle)
  else:
    raise frame.error("camera_angle_x", "or fl_x and w must tell the lens")
  focal_y = frame.number("fl_y", **length, default=focal_x)
  centre_x = frame.get("cx", float, default=0.5 * width)
  centre_y = frame.get("cy", float, default=0.5 * height)
  return np.array(
    [
      [focal_x / width, 0.0, centre_x / width],
      [0.0, focal_y / height, centre_y / height],
      [0.0, 0.0, 1.0],
    ]
  )
