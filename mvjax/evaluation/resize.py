"""The two ways in which FID programs bring pictures to the network's size.

They give different distances, so a figure must say which was used:

* `clean`: antialiased bicubic on floats, channel by channel (Parmar et al.
  2022, arXiv:2104.11222, clean-fid); PIL does it;
* `torch`: bilinear between the four nearest pixels without antialiasing,
  centres at half pixels (pytorch-fid).
"""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float
from PIL import Image


def clean(
  image: Float[np.ndarray, "h w c"], size: int
) -> Float[np.ndarray, "s s c"]:
  """Antialiased bicubic, of any range of values; overshoots are kept."""
  channels = [
    Image.fromarray(np.ascontiguousarray(image[..., c], np.float32)).resize(
      (size, size), Image.Resampling.BICUBIC
    )
    for c in range(image.shape[-1])
  ]
  return np.stack([np.asarray(channel) for channel in channels], -1)


def bilinear(
  image: Float[np.ndarray, "h w c"], size: int
) -> Float[np.ndarray, "s s c"]:
  """Bilinear without antialiasing, pixel centres at half pixels."""
  height, width, _ = image.shape
  down, across = _weights(height, size), _weights(width, size)
  out = np.einsum("ih,hwc,jw->ijc", down, image, across, optimize=True)
  return out.astype(np.float32)


def _weights(old: int, new: int) -> Float[np.ndarray, "n o"]:
  """Row i: how much each old pixel gives to new pixel i."""
  centre = np.maximum((np.arange(new) + 0.5) * old / new - 0.5, 0)
  first = np.minimum(centre.astype(int), old - 1)
  second = np.minimum(first + 1, old - 1)
  rows, part = np.arange(new), centre - first
  weights = np.zeros((new, old))
  np.add.at(weights, (rows, first), 1 - part)
  np.add.at(weights, (rows, second), part)
  return weights


def _clean_input(image: Float[np.ndarray, "h w 3"], size: int) -> np.ndarray:
  levels = np.clip(clean((image + 1) * 127.5, size), 0, 255)
  return ((levels - 128) / 128).astype(np.float32)


INCEPTION_INPUT: Mapping[str, Callable[..., np.ndarray]] = {
  "clean": _clean_input,
  "torch": bilinear,
}
"""From a picture in [-1, 1] and a size to Inception's input, by convention.

clean-fid feeds (level - 128) / 128, pytorch-fid 2 (level / 255) - 1.
"""
