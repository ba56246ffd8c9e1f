"""Pictures of one turn around an object as an animation."""

import pathlib

import numpy as np
from jaxtyping import UInt8
from PIL import Image


def write(
  path: pathlib.Path,
  images: UInt8[np.ndarray, "v h w 3"],
  *,
  milliseconds: int,
) -> None:
  """An endless GIF; `milliseconds` is the time of a turn."""
  frames = [Image.fromarray(image) for image in images]
  frames[0].save(
    path,
    save_all=True,
    append_images=frames[1:],
    duration=milliseconds // len(frames),
    loop=0,
  )
