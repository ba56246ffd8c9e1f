"""SPAD's masks, rays and camera vectors, bit for bit where they are bits."""

import jax
import ldm_goldens
import numpy as np
import pytest

from mvjax import geometry
from mvjax.models import spad_geometry

SIZES = [(16, 16), (8, 8), (4, 4), (2, 2)]


@pytest.fixture(scope="module")
def golden():
  return ldm_goldens.LdmGolden("spad")


def cameras(polar, azimuth, *, distance=3.5, field_of_view=0.702769935131073):
  return geometry.orbit(
    azimuth=np.deg2rad(azimuth),
    elevation=np.deg2rad(90.0 - np.asarray(polar)),
    distance=distance,
    field_of_view=field_of_view,
    xnp=np,
  )


@pytest.fixture(scope="module")
def camera(golden):
  """The cameras of the geometry golden."""
  config = golden.config
  return cameras(config["geometry_polar_deg"], config["geometry_azimuth_deg"])


def test_the_released_cameras_are_ours(golden, camera):
  np.testing.assert_allclose(
    geometry.to_opengl(camera.camera_to_world, xnp=np),
    golden["out.geo_c2w"],
    atol=1e-6,
  )


def test_every_bit_of_the_mask_matches(golden, camera):
  mask = spad_geometry.epipolar_mask(camera, (32, 32))
  np.testing.assert_array_equal(mask, golden.bits("out.geo_mask_bits"))


@pytest.mark.parametrize("asset", [0, 1])
def test_every_bit_of_the_resized_masks_matches(golden, asset):
  config = golden.config
  one = cameras(config["polar_deg"][asset], config["azimuth_deg"][asset])
  masks = spad_geometry.epipolar_masks(one, SIZES, mask_resize="released")
  for size, name in zip(
    SIZES, ("mask", "mask_level2", "mask_level4", "mask_level8"), strict=True
  ):
    expected = golden.bits(f"out.{name}_bits")[asset]
    np.testing.assert_array_equal(masks[size], expected)


def test_rays_match(golden, camera):
  maps = spad_geometry.plucker_maps(camera, (32, 32))
  np.testing.assert_allclose(maps, golden["out.geo_plucker"], atol=1e-5)


def test_camera_vectors_match(golden, camera):
  np.testing.assert_allclose(
    spad_geometry.relative_numbers(camera),
    golden["out.geo_cam_relative"],
    atol=1e-6,
  )
  expected = [golden["out.geo_cam_absolute"], golden["out.geo_intrinsics"]]
  np.testing.assert_allclose(
    spad_geometry.absolute_numbers(camera),
    np.concatenate(expected, -1),
    atol=1e-6,
  )
  config = golden.config
  both = cameras(config["polar_deg"], config["azimuth_deg"])
  np.testing.assert_allclose(
    spad_geometry.absolute_numbers(both), golden["out.cam8"], atol=1e-6
  )


RANDOM = np.random.default_rng(0)
# Level ones, opposite ones, and some that see each other.
POSES = {
  "level": cameras([90.0] * 4, np.arange(4) * 90.0),
  "mixed": cameras(
    RANDOM.uniform(20, 160, 4), RANDOM.uniform(0, 360, 4), distance=2.0
  ),
  "wide": cameras([80.0, 70.0, 95.0], [0.0, 150.0, 200.0], field_of_view=1.6),
}


@pytest.mark.parametrize("pose", POSES)
@pytest.mark.parametrize("size", [(16, 16), (6, 9)])
def test_points_on_a_ray_are_seen_along_its_line(pose, size):
  """All but a few: the released lines are up to a pixel off, and 3 wide."""
  camera = POSES[pose]
  views, (height, width) = len(camera.intrinsics), size
  mask = spad_geometry.epipolar_mask(camera, size)
  mask = mask.reshape(views, height * width, views, height, width)
  distance = np.random.default_rng(1).uniform(1.0, 5.0, (height, width, 20, 1))
  origins, directions = geometry.rays(camera, height, width, xnp=np)
  hits = []
  for source in range(views):
    points = origins[source, ..., None, :] + (
      distance * directions[source, ..., None, :]
    )
    uv, depth = geometry.project(camera, points.reshape(1, -1, 3), xnp=np)
    inside = (depth > 0) & ((uv > 0) & (uv < 1)).all(-1)
    token = np.repeat(np.arange(height * width), 20)
    for target in set(range(views)) - {source}:
      seen = inside[target]
      column, row = (uv[target, seen] * (width, height)).astype(int).T
      hits.append(mask[source, token[seen], target, row, column])
  hits = np.concatenate(hits)
  assert hits.size > 5000
  assert hits.mean() > 0.97


def test_masks_hide_most_of_the_other_views_and_nothing_of_the_own():
  mask = spad_geometry.epipolar_mask(POSES["level"], (16, 16))
  pairs = mask.reshape(4, 256, 4, 256).mean((1, 3))
  np.testing.assert_array_equal(np.diag(pairs), 1.0)
  others = pairs[~np.eye(4, dtype=bool)]
  assert 0.05 < others.min() and others.max() < 0.35


def test_geometric_masks_of_lower_levels_follow_the_lines():
  """A coarse token sees what one of its four fine tokens sees, and little
  more; the released resize reads the rows of other pixels.
  """
  camera = POSES["mixed"]
  fine = spad_geometry.epipolar_mask(camera, (16, 16))
  parts = fine.reshape(4, 8, 2, 8, 2, 4, 8, 2, 8, 2)
  pooled = parts.any((2, 4, 7, 9)).reshape(256, 256)
  overlap = {}
  for choice in spad_geometry.MASK_RESIZES:
    masks = spad_geometry.epipolar_masks(
      camera, [(16, 16), (8, 8)], mask_resize=choice
    )
    np.testing.assert_array_equal(masks[16, 16], fine)
    other = np.kron(1 - np.eye(4), np.ones((64, 64))).astype(bool)
    overlap[choice] = np.corrcoef(masks[8, 8][other], pooled[other])[0, 1]
  assert overlap["geometric"] > 0.7 > 0.5 > overlap["released"]


def test_maps_are_resized_at_pixel_centres():
  """A linear ramp stays one, whatever the sizes."""
  y, x = np.meshgrid(
    (np.arange(12) + 0.5) / 12, (np.arange(8) + 0.5) / 8, indexing="ij"
  )
  maps = np.stack([x, y], -1)
  small = spad_geometry.resize_maps(maps, (4, 2))
  np.testing.assert_allclose(small[..., 0], [[0.25, 0.75]] * 4)
  np.testing.assert_allclose(
    small[..., 1], np.repeat([[0.125], [0.375], [0.625], [0.875]], 2, 1)
  )
  np.testing.assert_array_equal(spad_geometry.resize_maps(maps, (12, 8)), maps)


def test_vectors_are_relative_to_the_first_view():
  numbers = spad_geometry.relative_numbers(POSES["mixed"])
  np.testing.assert_allclose(numbers[0], [0.0, 0.0, 1.0, 0.0], atol=1e-6)
  turned = cameras([90.0, 60.0], [30.0, 120.0], distance=np.array([3.5, 2.0]))
  np.testing.assert_allclose(
    spad_geometry.relative_numbers(turned)[1],
    [np.pi / 6, -1.0, 0.0, 1.5],
    atol=1e-6,
  )
  batched = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), turned)
  np.testing.assert_array_equal(
    spad_geometry.relative_numbers(batched)[1],
    spad_geometry.relative_numbers(turned),
  )
