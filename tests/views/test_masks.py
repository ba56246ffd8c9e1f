import numpy as np
import pytest

from mvjax.views import masks


def _noisy(background, rng):
  image = np.full((2, 40, 40, 3), background, np.float32)
  return image + rng.uniform(-0.03, 0.03, image.shape).astype(np.float32)


@pytest.mark.parametrize("background", [1.0, -0.2])
def test_the_object_is_what_differs_from_the_border(background):
  image = _noisy(background, np.random.default_rng(0))
  expected = np.zeros((2, 40, 40), bool)
  expected[0, 10:30, 12:25] = True
  expected[1, 5:20, 20:] = True  # Cut off by the border.
  image[expected] = [0.4, -0.6, 0.3]
  found, colour = masks.find_masks(image)
  np.testing.assert_array_equal(found, expected)
  np.testing.assert_allclose(colour, np.full((2, 3), background), atol=0.02)


def test_specks_are_dropped_and_highlights_filled():
  image = _noisy(1.0, np.random.default_rng(1))
  image[:, 10:30, 10:30] = -0.5
  image[:, 20, 20] = 1.0  # A highlight: one white pixel.
  image[:, 14:18, 14:18] = 1.0  # A hole one sees through.
  image[:, 3, 3] = -1.0  # A speck.
  found, _ = masks.find_masks(image)
  expected = np.zeros((40, 40), bool)
  expected[10:30, 10:30] = True
  expected[14:18, 14:18] = False
  np.testing.assert_array_equal(found, np.stack([expected] * 2))


def test_an_empty_view_is_named():
  image = _noisy(1.0, np.random.default_rng(2))
  image[0, 10:20, 10:20] = -1
  with pytest.raises(ValueError, match="view 1 shows nothing"):
    masks.find_masks(image)
