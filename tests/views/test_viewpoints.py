"""Cameras from orbits and files, and transforms.json back."""

import json

import numpy as np
import pytest

from mvjax import geometry
from mvjax.views import viewpoints


def orbit(views=4, **changes):
  settings = dict(azimuth=0.0, elevation=20.0, distance=3.0, field_of_view=40.0)
  return viewpoints.orbit(views, **(settings | changes))


def write(path, content):
  path.write_text(json.dumps(content))
  return path


def test_orbit_starts_in_front_and_turns_counter_clockwise():
  position = orbit().camera_to_world[:, :3, 3]
  height, radius = 3 * np.sin(np.deg2rad(20)), 3 * np.cos(np.deg2rad(20))
  expected = [[1, 0], [0, 1], [-1, 0], [0, -1]]
  np.testing.assert_allclose(
    position[:, :2], radius * np.array(expected), atol=1e-5
  )
  np.testing.assert_allclose(position[:, 2], height, atol=1e-5)
  assert viewpoints.view_words(orbit()) == [
    "front view",
    "side view",
    "back view",
    "side view",
  ]


@pytest.mark.parametrize("zoom", [1.0, 1.5])
def test_transforms_are_read_back(tmp_path, zoom):
  camera = orbit(3, azimuth=10.0)
  # With another lens for one view every frame has its own focal length.
  camera.intrinsics[1, :2, :2] *= zoom
  content = viewpoints.transforms(camera, 128)
  assert ("fl_x" in content) == (zoom == 1)
  again = viewpoints.read(write(tmp_path / "transforms.json", content))
  np.testing.assert_allclose(
    again.camera_to_world, camera.camera_to_world, atol=1e-6
  )
  np.testing.assert_allclose(again.intrinsics, camera.intrinsics, atol=1e-6)


def test_transforms_speak_nerf():
  """A camera on +x looking at the origin, in OpenGL axes, by hand."""
  content = viewpoints.transforms(orbit(1, elevation=0.0), 100)
  expected = [[0, 0, 1, 3], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
  np.testing.assert_allclose(
    content["frames"][0]["transform_matrix"], expected, atol=1e-6
  )
  assert content["frames"][0]["file_path"] == "view_00.png"
  assert content["camera_angle_x"] == pytest.approx(np.deg2rad(40))
  assert content["fl_x"] == pytest.approx(50 / np.tan(np.deg2rad(20)))
  assert (content["cx"], content["cy"]) == (50, 50)
  assert (content["w"], content["h"]) == (100, 100)


def test_camera_angle_alone_means_a_square_image(tmp_path):
  frame = {"transform_matrix": np.eye(4).tolist()}
  content = {"camera_angle_x": np.pi / 2, "frames": [frame]}
  camera = viewpoints.read(write(tmp_path / "t.json", content))
  expected = [[0.5, 0, 0.5], [0, 0.5, 0.5], [0, 0, 1]]
  np.testing.assert_allclose(camera.intrinsics[0], expected, atol=1e-6)
  # OpenGL looks along -z, OpenCV along +z.
  np.testing.assert_allclose(camera.camera_to_world[0, :3, 2], [0, 0, -1])


def test_pixels_are_normalised_by_width_and_height(tmp_path):
  frame = {"transform_matrix": np.eye(4).tolist()}
  content = {"fl_x": 100, "w": 200, "h": 100, "cx": 90, "frames": [frame]}
  camera = viewpoints.read(write(tmp_path / "t.json", content))
  expected = [[0.5, 0, 0.45], [0, 1.0, 0.5], [0, 0, 1]]
  np.testing.assert_allclose(camera.intrinsics[0], expected, atol=1e-6)


def test_our_own_cameras_are_read(tmp_path):
  camera = orbit(2)
  views = [
    {"camera_to_world": pose.tolist(), "intrinsics": lens.tolist(), "group": 0}
    for pose, lens in zip(
      camera.camera_to_world, camera.intrinsics, strict=True
    )
  ]
  again = viewpoints.read(write(tmp_path / "cameras.json", {"views": views}))
  np.testing.assert_array_equal(again.camera_to_world, camera.camera_to_world)


SINGULAR = np.diag([1.0, 1.0, 0.0, 1.0]).tolist()


@pytest.mark.parametrize(
  "content, message",
  [
    ({"frames": [{"transform_matrix": SINGULAR}]}, "no focal length"),
    (
      {"camera_angle_x": 0.7, "frames": [{"transform_matrix": SINGULAR}]},
      "camera of view 0: camera_to_world is singular",
    ),
    (
      {"views": [{"camera_to_world": SINGULAR, "intrinsics": [[1]]}]},
      "camera intrinsics",
    ),
    ({"views": [{"camera_to_world": SINGULAR}]}, "lacks 'intrinsics'"),
    ({"camera_angle_x": 0.7, "frames": [{}]}, "lacks 'transform_matrix'"),
    ({"fl_x": 9, "frames": [{"transform_matrix": SINGULAR}]}, "fl_x needs"),
    (
      {"camera_angle_x": 0.7, "frames": [{"transform_matrix": [[1, 2]]}]},
      "transform_matrix: expected 4 rows",
    ),
    (
      {"camera_angle_x": 0, "frames": [{"transform_matrix": SINGULAR}]},
      "zero",
    ),
    (
      {"fl_x": 9, "w": 0, "frames": [{"transform_matrix": SINGULAR}]},
      "zero",
    ),
    ({"frames": []}, 'no "views"'),
    ([1, 2], "cameras="),
  ],
)
def test_files_that_are_no_cameras(tmp_path, content, message):
  path = write(tmp_path / "cameras.json", content)
  with pytest.raises(ValueError, match=message) as error:
    viewpoints.read(path)
  assert str(error.value).startswith(f"cameras={path}")
  assert "\n" not in str(error.value)


def test_orbit_order_follows_the_azimuth_from_the_first_view():
  camera = orbit(6, azimuth=200.0)
  shuffled = [0, 4, 1, 5, 3, 2]
  mixed = geometry.Camera(
    camera_to_world=camera.camera_to_world[shuffled],
    intrinsics=camera.intrinsics[shuffled],
  )
  order = viewpoints.orbit_order(mixed)
  assert [shuffled[i] for i in order] == list(range(6))


def test_no_orbit_no_order():
  camera = orbit(4)
  camera.camera_to_world[2, 2, 3] += 0.5
  assert viewpoints.orbit_order(camera) is None
