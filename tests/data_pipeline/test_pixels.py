import numpy as np
import pytest

from data_pipeline import pixels, raycast


def _hits(samples, depth):
  n = len(samples)
  return raycast.Hits(
    sample=np.asarray(samples),
    depth=np.asarray(depth, np.float32),
    points=np.zeros((n, 3), np.float32),
    normals=np.tile(np.float32([0, 0, -1]), (n, 1)),
    part=np.zeros(n, np.int32),
    albedo=np.ones((n, 3), np.float32),
  )


# Four pixels of 2x2 samples; samples 0, 1, 4 and 5 are the first pixel.
_GRID = {"size": 2, "supersampling": 2}


def test_alpha_is_coverage_and_colour_is_straight():
  hits = _hits([0, 1, 4, 5, 2], [3] * 5)
  rgb = np.full((5, 3), 0.5, np.float32)
  image = pixels.color_image(hits, rgb, **_GRID)
  np.testing.assert_array_equal(image[..., 3], [[255, 64], [0, 0]])
  np.testing.assert_array_equal(image[0, 0, :3], image[0, 1, :3])
  assert (image[1] == 0).all()


def test_depth_is_of_one_surface():
  hits = _hits([0, 1, 4, 5, 15], [2.0, 2.02, 3.5, 3.5, 2.5])
  depth = pixels.depth_image(hits, **_GRID) / pixels.DEPTH_SCALE
  np.testing.assert_allclose(depth, [[2.01, 0], [0, 2.5]], atol=1e-3)


def test_light_is_positive_and_turns_with_the_normal():
  normals = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
  normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
  light = pixels.light(normals)
  assert light.min() > 0.4
  assert light.max() < 1.05
  assert np.ptp(light) > 0.3


@pytest.mark.parametrize("count", [1, 3, 8, 12, 32, 33])
def test_tiles_are_row_major(count):
  images = [np.full((3, 5), i + 1, np.uint8) for i in range(count)]
  across = pixels.columns(count)
  tiled = np.asarray(pixels.tile(images))
  for i in range(count):
    row, column = divmod(i, across)
    tile = tiled[row * 3 : row * 3 + 3, column * 5 : column * 5 + 5]
    assert (tile == i + 1).all()
  assert (tiled > 0).sum() == count * 15
