import numpy as np
import pytest

from data_pipeline import image_ops
from mvjax import geometry


def pixels(views=1, size=8):
  """Images that show the direction of each pixel's ray; a random mask."""
  camera = geometry.orbit(
    azimuth=np.linspace(0, 3, views),
    elevation=0.3,
    distance=3.0,
    field_of_view=0.7,
    xnp=np,
  )
  rng = np.random.default_rng(0)
  alpha = (rng.random((views, size, size)) < 0.1).astype(np.float32)
  made = image_ops.Pixels(
    image=geometry.rays(camera, size, size, xnp=np)[1].astype(np.float32),
    alpha=alpha,
    depth=alpha * rng.uniform(2, 4, alpha.shape).astype(np.float32),
    intrinsics=np.asarray(camera.intrinsics, np.float32),
  )
  return camera, made


def test_crops_keep_every_pixel_on_its_ray():
  camera, made = pixels(views=3, size=12)
  cropped = image_ops.crop(made, 5, rng=np.random.default_rng(1))
  part = geometry.Camera(
    camera_to_world=camera.camera_to_world, intrinsics=cropped.intrinsics
  )
  _, directions = geometry.rays(part, 5, 5, xnp=np)
  np.testing.assert_allclose(cropped.image, directions, atol=1e-5)


def test_crops_contain_the_object_and_reach_every_place():
  rng = np.random.default_rng(0)
  _, made = pixels(size=12)
  alpha = np.zeros((1, 12, 12), np.float32)
  alpha[0, 6, 6] = 1
  made = image_ops.Pixels(
    image=made.image, alpha=alpha, depth=alpha, intrinsics=made.intrinsics
  )
  places = set()
  for _ in range(200):
    cropped = image_ops.crop(made, 4, rng=rng)
    assert cropped.alpha.sum() == 1
    places.add(int(cropped.alpha[0].argmax()))
  assert places == set(range(16))


def test_an_empty_view_is_cropped_anywhere_and_too_large_a_crop_refused():
  _, made = pixels()
  empty = image_ops.Pixels(
    image=made.image,
    alpha=made.alpha * 0,
    depth=made.depth * 0,
    intrinsics=made.intrinsics,
  )
  cut = image_ops.crop(empty, 8, rng=np.random.default_rng(0))
  np.testing.assert_array_equal(cut.image, made.image)
  with pytest.raises(ValueError, match="crop=9: images are 8x8"):
    image_ops.crop(empty, 9, rng=np.random.default_rng(0))


def test_shrinking_averages_colours_and_keeps_the_nearest_surface():
  _, made = pixels()
  small = image_ops.shrink(made, 4)
  np.testing.assert_allclose(small.alpha.mean(), made.alpha.mean(), rtol=1e-5)
  np.testing.assert_allclose(
    small.image.mean((1, 2)), made.image.mean((1, 2)), atol=1e-6
  )
  for row, column in np.ndindex(4, 4):
    block = made.depth[0, 2 * row :, 2 * column :][:2, :2]
    hits = block[block > 0]
    assert small.depth[0, row, column] == (hits.min() if len(hits) else 0)
  with pytest.raises(ValueError, match="image_size=3"):
    image_ops.shrink(made, 3)
