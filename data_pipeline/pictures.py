"""Picture files of others: their sizes are known before they are decoded.

A file of a few kilobytes can hold more pixels than a machine has memory for.
"""

import contextlib
import math
import pathlib
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

MOST_PIXELS = 2**25
"""Of all views of an object together: 32 views of 1024 pixels on a side."""

MOST_VIEWS = 1024
"""Of an object."""

# Pillow would hand other formats to other programs.
_FORMATS = ("PNG", "JPEG", "WEBP")
DAMAGE = (
  ArithmeticError,
  AttributeError,
  EOFError,
  LookupError,
  OSError,
  SyntaxError,
  TypeError,
  ValueError,
  Image.DecompressionBombError,
  struct.error,
  zlib.error,
)
"""Pillow has no error of its own for most of what can be wrong."""


def read(
  files: Sequence[pathlib.Path], mode: str | None = None
) -> list[np.ndarray]:
  """The levels of pictures of one object.

  Args:
    files: PNG, JPEG or WebP.
    mode: of Pillow's, to convert to; 'I;16' is for files of 16-bit gray alone;
      None: as the files are.

  Raises:
    ValueError: a file is no picture or damaged, or they are too large together;
      nothing has been decoded then.
  """
  pixels = 0
  for file in files:
    with _opened(file) as picture:
      width, height = picture.size
    pixels += width * height
    check_pixels(pixels, f"{file}: a picture of {width}x{height} pixels")
  return [_decode(file, mode) for file in files]


def check_pixels(pixels: int, what: str) -> None:
  """Raises ValueError if an object's views have too many pixels."""
  if pixels > MOST_PIXELS:
    raise ValueError(
      f"{what} makes {pixels / 1e6:.0f} million in all; at most "
      f"{MOST_PIXELS / 1e6:.0f} million fit, make views smaller or fewer"
    )


def largest_side(views: int) -> int:
  """Of the square views of an object, in pixels."""
  return math.isqrt(MOST_PIXELS // max(1, views))


def check_views(count: int, what: str) -> None:
  """Raises ValueError if an object has too many views."""
  if count > MOST_VIEWS:
    raise ValueError(f"{what}: {count} views; at most {MOST_VIEWS} are allowed")


def _decode(file: pathlib.Path, mode: str | None) -> np.ndarray:
  with _opened(file) as picture:
    if mode == "I;16" and picture.mode != mode:
      raise ValueError(f"is {picture.mode}, must be 16-bit gray")
    return np.asarray(picture.convert(mode) if mode else picture)


@contextlib.contextmanager
def _opened(file: pathlib.Path) -> Iterator[Image.Image]:
  try:
    with warnings.catch_warnings():
      # What Pillow only warns of is too large here.
      warnings.simplefilter("ignore", Image.DecompressionBombWarning)
      with Image.open(file, formats=_FORMATS) as picture:
        yield picture
  except DAMAGE as error:
    raise ValueError(
      f"{file}: damaged picture ({error}); write it again or remove its folder"
    ) from error
