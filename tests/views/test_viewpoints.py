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
    (
      {"frames": [{"transform_matrix": SINGULAR}]},
      r"frames\[0\].camera_angle_x is missing; it or fl_x",
    ),
    (
      {"camera_angle_x": 0.7, "frames": [{"transform_matrix": SINGULAR}]},
      "camera of view 0: camera_to_world is singular",
    ),
    (
      {"views": [{"camera_to_world": SINGULAR, "intrinsics": [[1]]}]},
      r"views\[0\].intrinsics is \[\[1\]\]; it must be 3 rows of 3 numbers",
    ),
    (
      {"views": [{"camera_to_world": SINGULAR}]},
      r"views\[0\].intrinsics is missing",
    ),
    (
      {"camera_angle_x": 0.7, "frames": [{}]},
      r"frames\[0\].transform_matrix is missing",
    ),
    ({"fl_x": 9, "frames": [{"transform_matrix": SINGULAR}]}, "fl_x .* needs"),
    ({"frames": []}, 'no "views"'),
    ([1, 2], r"is \[1, 2\]; must be an object"),
    (None, "is None; must be an object"),
    ({"frames": "all"}, "frames is 'all'; it must be a list"),
    ({"frames": {"0": {}}}, "frames is .*; it must be a list"),
    ({"frames": [{}, 3]}, r"frames\[1\]: is 3; must be an object"),
    ({"views": 4}, "views is 4; it must be a list"),
    ({"views": [None]}, r"views\[0\]: is None; must be an object"),
    (
      {"frames": [{}] * 1025, "camera_angle_x": 0.7},
      "frames: 1025 views; at most 1024",
    ),
    ({"views": [{}] * 1025}, "1025 views; at most 1024"),
  ],
)
def test_files_that_are_no_cameras(tmp_path, content, message):
  path = write(tmp_path / "cameras.json", content)
  with pytest.raises(ValueError, match=message) as error:
    viewpoints.read(path)
  assert str(error.value).startswith(f"cameras={path}")
  assert "\n" not in str(error.value)


@pytest.mark.parametrize(
  "field, value, message",
  [
    ("transform_matrix", [[1, 2]], "must be 4 rows of 4 numbers"),
    ("transform_matrix", [[1, 2], [3]], "must be 4 rows of 4 numbers"),
    ("transform_matrix", [["1"] * 4] * 4, "must be 4 rows of 4 numbers"),
    ("transform_matrix", [[None] * 4] * 4, "must be 4 rows of 4 numbers"),
    ("transform_matrix", [[10**400] * 4] * 4, "must be 4 rows of 4 numbers"),
    ("transform_matrix", "identity", "must be a list"),
    ("transform_matrix", None, "is None; it must be a list"),
    ("camera_angle_x", 0, "is 0; it must be 0.001 to"),
    ("camera_angle_x", -0.7, "must be 0.001 to"),
    ("camera_angle_x", 3.15, "must be 0.001 to 3.14"),
    ("camera_angle_x", "wide", "is 'wide'; it must be a finite number"),
    ("camera_angle_x", [0.7], "must be a finite number"),
    ("camera_angle_x", True, "must be a finite number"),
    ("camera_angle_x", float("nan"), "must be a finite number"),
    ("camera_angle_x", 10**400, "must be a finite number"),
    ("w", 0, "must be 0.001 to"),
    ("h", -4, "must be 0.001 to"),
    ("fl_y", float("inf"), "must be a finite number"),
    ("cx", "middle", "must be a finite number"),
  ],
  ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_value_is_named_with_its_frame(tmp_path, field, value, message):
  pose = np.eye(4).tolist()
  good = {"camera_angle_x": 0.7, "w": 8, "h": 8, "transform_matrix": pose}
  content = {"frames": [good, good | {field: value}]}
  path = write(tmp_path / "cameras.json", content)
  with pytest.raises(ValueError, match=message) as error:
    viewpoints.read(path)
  assert str(error.value).startswith(f"cameras={path}: frames[1].{field} is ")
  assert "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, 1e308])
def test_a_number_that_is_no_place_is_named(tmp_path, value):
  pose = np.eye(4)
  pose[0, 3] = value
  content = {
    "camera_angle_x": 0.7,
    "frames": [{"transform_matrix": pose.tolist()}],
  }
  path = write(tmp_path / "cameras.json", content)
  with pytest.raises(ValueError, match="view 0: camera_to_world .* not finite"):
    viewpoints.read(path)


@pytest.mark.parametrize("scale, message", [(2, "not a rot"), (-1, "mirrors")])
def test_axes_that_are_no_rotation_are_named(tmp_path, scale, message):
  pose = np.diag([scale, scale, scale, 1.0]).tolist()
  content = {"camera_angle_x": 0.7, "frames": [{"transform_matrix": pose}]}
  path = write(tmp_path / "cameras.json", content)
  with pytest.raises(ValueError, match=f"view 0: camera_to_world .*{message}"):
    viewpoints.read(path)


@pytest.mark.parametrize(
  "text",
  [b"", b"{", b"\xff\xfe", b"\x89PNG\r\n", b"[" * 100_000, b'{"a":' * 100_000],
  ids=["empty", "cut", "utf16", "png", "deep list", "deep object"],
)
def test_a_file_that_is_no_json_is_named(tmp_path, text):
  path = tmp_path / "cameras.json"
  path.write_bytes(text)
  with pytest.raises(ValueError, match="is no JSON") as error:
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
