"""What is asked for is decoded, and nothing else."""

import fake_assets
import numpy as np
import pytest

from data_pipeline import decoding

SIZE = 4


@pytest.fixture
def record():
  """Three views, of which only the last is a picture: half of it black."""
  rgba = np.zeros((SIZE, SIZE, 4), np.uint8)
  rgba[: SIZE // 2, :, 3] = 255
  depth = np.full((SIZE, SIZE), 3 * 8192, np.uint16)
  broken = [b"not an image"] * 2
  return {
    "images": [*broken, fake_assets.png(rgba)],
    "depths": [*broken, fake_assets.png(depth)],
    "intrinsics": np.arange(3, dtype=np.float32)[:, None, None] * np.eye(3),
  }


def test_only_the_chosen_views_are_decoded(record):
  found = decoding.pixels(record, [2])
  black, white = np.split(found.image[0], 2)
  np.testing.assert_array_equal(black, -1)
  np.testing.assert_array_equal(white, 1)
  np.testing.assert_array_equal(found.alpha[0, :, 0], [1, 1, 0, 0])
  np.testing.assert_array_equal(found.depth, 3)
  np.testing.assert_array_equal(found.intrinsics, [2 * np.eye(3)])


def test_views_without_depth_have_none(record):
  record["depths"] = [b""] * 3
  assert not decoding.pixels(record, [2]).depth.any()
