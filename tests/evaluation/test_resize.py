"""Each convention against another program that has it."""

import jax
import numpy as np
import pytest
from PIL import Image

from mvjax.evaluation import resize


@pytest.fixture
def image():
  return np.random.default_rng(0).uniform(-1, 1, (20, 14, 3)).astype(np.float32)


def bilinear_by_hand(image, size):
  """Every output pixel from its four neighbours, clamped at the border."""
  height, width, _ = image.shape
  out = np.zeros((size, size, 3))
  for i in range(size):
    for j in range(size):
      y = max((i + 0.5) * height / size - 0.5, 0)
      x = max((j + 0.5) * width / size - 0.5, 0)
      top, left = int(y), int(x)
      for row, share in ((top, 1 - y + top), (top + 1, y - top)):
        for column, part in ((left, 1 - x + left), (left + 1, x - left)):
          out[i, j] += (
            share * part * image[min(row, height - 1), min(column, width - 1)]
          )
  return out


@pytest.mark.parametrize("size", [5, 14, 33])
def test_bilinear(image, size):
  out = resize.bilinear(image, size)
  np.testing.assert_allclose(out, bilinear_by_hand(image, size), atol=1e-6)
  other = jax.image.resize(
    image, (size, size, 3), method="bilinear", antialias=False
  )
  np.testing.assert_allclose(out, other, atol=1e-5)


@pytest.mark.parametrize("size", [5, 33])
def test_clean_is_pils_antialiased_bicubic(image, size):
  """On bytes PIL rounds after each axis; floats agree to that rounding.

  The bytes stay away from their limits, where PIL cuts overshoots.
  """
  levels = np.round(image * 30 + 128)
  out = np.clip(resize.clean(levels, size), 0, 255)
  picture = Image.fromarray(levels.astype(np.uint8))
  rounded = picture.resize((size, size), Image.Resampling.BICUBIC)
  assert np.abs(out - np.asarray(rounded, np.float32)).max() < 1.5


def test_shrinking_a_checkerboard_tells_them_apart():
  """Antialiasing gives grey; without it single squares are picked."""
  board = 2.0 * ((np.indices((299 * 3, 299 * 3)).sum(0) % 2) == 0) - 1
  board = np.repeat(board[..., None], 3, -1)
  grey = resize.INCEPTION_INPUT["clean"](board, 299)
  picked = resize.INCEPTION_INPUT["torch"](board, 299)
  assert np.abs(grey[2:-2, 2:-2]).max() < 0.3
  assert np.abs(picked).min() > 0.9


def test_input_ranges():
  white, black = np.ones((8, 8, 3)), -np.ones((8, 8, 3))
  clean, torch = (resize.INCEPTION_INPUT[k] for k in ("clean", "torch"))
  np.testing.assert_allclose(clean(white, 4), 127 / 128, atol=1e-5)
  np.testing.assert_allclose(clean(black, 4), -1, atol=1e-5)
  np.testing.assert_allclose(torch(white, 4), 1, atol=1e-6)
  np.testing.assert_allclose(torch(black, 4), -1, atol=1e-6)
