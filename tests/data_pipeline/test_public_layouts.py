"""Cameras are written here by hand, in Blender's terms.

One camera stands on Blender's +x at distance 1.8 and looks at the origin, z
up. Its right is then +y, its up +z and its backward direction +x.
"""

import json
import math
import pickle
import re

import numpy as np
import pytest
from PIL import Image

from data_pipeline import build, loader, public_layouts
from mvjax import geometry

MATRIX_WORLD = np.array(
  [[0, 0, 1, 1.8], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], np.float64
)
CHAIR = public_layouts.Description(name="chair", captions=("a chair",))
FIELD_OF_VIEW = 0.7


def save_image(path, mode="RGBA"):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.new(mode, (8, 8), (200, 100, 50, 255)[: len(mode)]).save(path)


def turned(degrees):
  """The camera after the whole rig turned about the vertical."""
  c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
  turn = [[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
  return np.array(turn) @ MATRIX_WORLD


def write_zero123(folder, matrices):
  for number, matrix in enumerate(matrices):
    save_image(folder / f"{number:03d}.png")
    np.save(folder / f"{number:03d}.npy", np.linalg.inv(matrix)[:3])
  return folder


def write_spad(folder, matrices):
  for number, matrix in enumerate(matrices):
    save_image(folder / "images" / f"{number}.png")
    camera = {"fov": FIELD_OF_VIEW, "matrix_world": matrix.ravel().tolist()}
    (folder / "cameras").mkdir(exist_ok=True)
    np.save(folder / "cameras" / f"{number}.npy", camera, allow_pickle=True)
  return folder


def write_transforms(folder, matrices):
  frames = []
  for number, matrix in enumerate(matrices):
    save_image(folder / f"r_{number}.png", "RGB")
    frame = {"file_path": f"./r_{number}", "transform_matrix": matrix.tolist()}
    frames.append(frame)
  data = {"camera_angle_x": FIELD_OF_VIEW, "frames": frames}
  (folder / "transforms.json").write_text(json.dumps(data))
  return folder


WRITERS = {
  "zero123": (write_zero123, np.radians(49.1343)),
  "spad": (write_spad, FIELD_OF_VIEW),
  "transforms": (write_transforms, FIELD_OF_VIEW),
}


@pytest.mark.parametrize("layout", WRITERS)
def test_known_points_are_projected_where_blender_shows_them(tmp_path, layout):
  write, field_of_view = WRITERS[layout]
  folder = write(tmp_path / "object", [MATRIX_WORLD])
  item = public_layouts.LAYOUTS[layout](folder, CHAIR)
  camera = geometry.Camera(
    camera_to_world=item.camera_to_world, intrinsics=item.intrinsics
  )
  geometry.check_camera(camera)
  # Blender's points 0.3 above the origin, 0.3 along +y (the camera's right)
  # and 0.8 along +x (towards it), in a world turned so that -y becomes +x.
  points = np.array([[[0, 0, 0.3], [-0.3, 0, 0], [0, 0.8, 0]]])
  uv, depth = geometry.project(camera, points, xnp=np)
  offset = 0.3 / 1.8 * 0.5 / np.tan(field_of_view / 2)
  expected = [[0.5, 0.5 - offset], [0.5 + offset, 0.5], [0.5, 0.5]]
  np.testing.assert_allclose(uv[0], expected, atol=1e-4)
  np.testing.assert_allclose(depth[0], [1.8, 1.8, 1.0], atol=1e-5)


@pytest.mark.parametrize("layout", WRITERS)
def test_broken_cameras_are_dropped(tmp_path, layout, caplog):
  at_origin = MATRIX_WORLD.copy()
  at_origin[0, 3] = 0
  write, _ = WRITERS[layout]
  matrices = [turned(0), at_origin, turned(180)]
  item = public_layouts.LAYOUTS[layout](write(tmp_path / "o", matrices), CHAIR)
  assert item.camera_to_world.shape == (2, 4, 4)
  np.testing.assert_allclose(
    item.camera_to_world[0, :2, 3], -item.camera_to_world[1, :2, 3], atol=1e-6
  )
  assert item.read_images(0).shape == (2, 8, 8, 4)
  assert "1.png" in caplog.text


@pytest.mark.parametrize("layout", WRITERS)
def test_public_renders_reach_the_loader(tmp_path, layout):
  write, _ = WRITERS[layout]
  for name in ("one", "two", "three"):
    write(tmp_path / "in" / name, [turned(a) for a in (0, 90, 180, 270)])
  row = {"name": "chair", "captions": ["a chair"], "category": "seat"}
  captions = tmp_path / "captions.json"
  captions.write_text(json.dumps({"one": row, "two": row, "absent": row}))
  objects, refused = public_layouts.find_objects(
    tmp_path / "in", layout, captions=captions
  )
  assert [item.uid for item in objects] == ["one", "two"] and not refused
  folder = build.build(objects, tmp_path / "out").folder
  settings = loader.LoaderSettings(
    path=str(folder), looks=("source",), batch_size=1, nearby=0.0
  )
  batch = next(loader.batches(settings))
  np.testing.assert_allclose(
    batch["image"][0, 3, 4, 4], np.array([200, 100, 50]) / 127.5 - 1, atol=1e-6
  )
  assert batch["caption"].tolist() == ["a chair"]
  assert not batch["depth"].any()


@pytest.mark.parametrize(
  "front, degrees", [("+x", 0), ("-y", 90), ("-x", 180), ("+y", -90)]
)
def test_the_front_is_turned_to_the_x_axis(tmp_path, front, degrees):
  folder = write_transforms(tmp_path / "object", [turned(-degrees)])
  description = public_layouts.Description(
    name="chair", captions=("a chair",), front=front
  )
  item = public_layouts.read_transforms(folder, description)
  np.testing.assert_allclose(
    item.camera_to_world[0, :3, 3], [1.8, 0, 0], atol=1e-6
  )
  assert item.read_images(0)[0, 0, 0].tolist() == [200, 100, 50, 255]


def test_pixel_intrinsics_are_normalised(tmp_path):
  folder = write_transforms(tmp_path / "object", [MATRIX_WORLD])
  data = json.loads((folder / "transforms.json").read_text())
  data |= {"fl_x": 10, "fl_y": 12, "w": 8, "h": 8, "cx": 3}
  (folder / "transforms.json").write_text(json.dumps(data))
  item = public_layouts.read_transforms(folder, CHAIR)
  np.testing.assert_allclose(
    item.intrinsics[0], [[1.25, 0, 0.375], [0, 1.5, 0.5], [0, 0, 1]]
  )


def test_what_cannot_be_read_is_named(tmp_path):
  with pytest.raises(ValueError, match="no image"):
    public_layouts.read_zero123(tmp_path, CHAIR)
  folder = write_zero123(tmp_path / "z", [MATRIX_WORLD])
  (folder / "000.npy").unlink()
  with pytest.raises(ValueError, match="missing 000.npy"):
    public_layouts.read_zero123(folder, CHAIR)
  folder = write_transforms(tmp_path / "t", [MATRIX_WORLD])
  data = json.loads((folder / "transforms.json").read_text())
  data["frames"][0]["file_path"] = "../../secret.png"
  (folder / "transforms.json").write_text(json.dumps(data))
  with pytest.raises(ValueError, match="leaves"):
    public_layouts.read_transforms(folder, CHAIR)


GOOD = {"name": "chair", "captions": ["a chair"]}


@pytest.mark.parametrize(
  "row, message",
  [
    (None, "bad: is None; must be an object"),
    ("a chair", "bad: is 'a chair'; must be an object"),
    ({"name": "chair"}, "captions is missing; it must be a list"),
    (GOOD | {"captions": "abc"}, "captions is 'abc'; it must be a list"),
    (GOOD | {"captions": []}, r"captions is \[\]; .* one or more texts"),
    (GOOD | {"captions": [1]}, r"captions is \[1\]; .* one or more texts"),
    (GOOD | {"name": None}, "name is None; it must be a text"),
    (GOOD | {"name": ""}, "name is ''; it must have letters"),
    (GOOD | {"category": 3}, "category is 3; it must be a text"),
    (GOOD | {"front": "up"}, r"front is 'up'; it must be one of \+x, -y"),
    (GOOD | {"colour": "red"}, "colour is 'red'; it must be one of name"),
  ],
  ids=range(11),
)
def test_a_wrong_description_is_refused_alone(tmp_path, row, message):
  for name in ("bad", "good"):
    write_transforms(tmp_path / name, [MATRIX_WORLD])
  captions = tmp_path / "captions.json"
  captions.write_text(json.dumps({"bad": row, "good": GOOD}))
  found, refused = public_layouts.find_objects(
    tmp_path, "transforms", captions=captions
  )
  assert [item.uid for item in found] == ["good"] and list(refused) == ["bad"]
  assert refused["bad"].startswith(str(captions))
  assert re.search(message, refused["bad"])


@pytest.mark.parametrize("text", ["", "[]", "null", "3", "[" * 100_000])
def test_captions_that_are_none_are_one_line(tmp_path, text):
  captions = tmp_path / "captions.json"
  captions.write_text(text)
  with pytest.raises(ValueError, match="captions.json: is ") as error:
    public_layouts.find_objects(tmp_path, "spad", captions=captions)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize("layout", WRITERS)
def test_axes_with_a_scale_are_refused(tmp_path, layout):
  write, _ = WRITERS[layout]
  scaled = MATRIX_WORLD @ np.diag([2, 2, 2, 1])
  folder = write(tmp_path / "object", [scaled])
  with pytest.raises(ValueError, match="object: camera of view 0: .* rotation"):
    public_layouts.LAYOUTS[layout](folder, CHAIR)


def test_broken_objects_of_a_layout_are_put_in_quarantine(
  tmp_path, launch_py, capsys
):
  root, out = tmp_path / "in", tmp_path / "out"
  rows = {}
  for name in "abcdefg":
    write_transforms(root / name, [turned(0), turned(90)])
    rows[name] = GOOD
  rows["a"] = GOOD | {"captions": "abc"}
  for name, field, value in (("b", "camera_angle_x", 0), ("c", "w", 0)):
    content = json.loads((root / name / "transforms.json").read_text())
    (root / name / "transforms.json").write_text(
      json.dumps(content | {field: value})
    )
  (root / "d/r_1.png").write_text("a text")
  for i in range(2):
    Image.new("1", (5000, 5000)).save(root / f"e/r_{i}.png")
  Image.new("L", (8, 9)).save(root / "f/r_0.png")
  captions = tmp_path / "captions.json"
  captions.write_text(json.dumps(rows))
  command = (
    "data", "build", f"--renders={root}", f"--out={out}",
    f"--captions={captions}", "--layout=transforms",
  )  # fmt: skip
  assert launch_py(*command) == 0
  lines = capsys.readouterr().out.splitlines()
  for name, words in (
    ("a", "captions is 'abc'"),
    ("b", "frames[0].camera_angle_x is 0; it must be"),
    ("c", "frames[0].w is 0; it must be"),
    ("d", "d/r_1.png: damaged picture"),
    ("e", "e/r_1.png: a picture of 5000x5000 pixels makes 50 million"),
    ("f", "must be square, of one size"),
  ):
    (line,) = [one for one in lines if one.startswith(f"  {name}: in quar")]
    assert words in line
  data = loader.LoaderSettings(
    path=str(out / "renders/1.0.0"),
    looks=("source",),
    batch_size=1,
    num_views=1,
  )
  assert [record["uid"] for record in loader.records(data)] == [b"g"]

  captions.write_text(json.dumps({name: rows[name] for name in "abcdef"}))
  out = tmp_path / "nothing"
  assert launch_py(*command[:3], f"--out={out}", *command[4:]) == 2
  line = capsys.readouterr().err.splitlines()[-1]
  assert line.startswith("error: objects: of 6 none can be read")
  assert not out.exists()


HUGE = 10**400
NEST = (1.0,)
for _ in range(200):
  NEST = (NEST, NEST)


@pytest.mark.parametrize(
  "camera, reason",
  [
    ({"fov": 0, "matrix_world": [0.0] * 16}, "field of view 0: must"),
    ({"fov": math.nan, "matrix_world": [0.0] * 16}, "field of view nan: must"),
    ({"fov": "wide", "matrix_world": [0.0] * 16}, "field of view str: must"),
    ({"fov": 0.7, "matrix_world": [0.0] * 12}, "must be 16 numbers"),
    ({"fov": 0.7, "matrix_world": [["1"] * 4] * 4}, "must be 16 numbers"),
    ({"fov": 0.7, "matrix_world": [HUGE] * 16}, "beyond all floats"),
    # Copied out, it would have 2^200 parts.
    ({"fov": 0.7, "matrix_world": NEST}, "must be 16 numbers"),
    ({"fov": 0.7}, "needs a dict with fov and matrix_world"),
    ([0.7], "needs a dict with fov and matrix_world"),
    (None, "needs a dict with fov and matrix_world"),
  ],
)
def test_a_camera_of_wrong_values_is_named(tmp_path, camera, reason):
  folder = write_spad(tmp_path / "object", [MATRIX_WORLD])
  path = folder / "cameras" / "0.npy"
  with path.open("wb") as file:
    np.lib.format.write_array_header_1_0(
      file, {"descr": "|O", "fortran_order": False, "shape": ()}
    )
    # As numpy would, which cannot take the nest.
    array = np.empty((), object)
    array[()] = camera
    pickle.dump(array, file, protocol=4)
  with pytest.raises(ValueError, match=reason) as error:
    public_layouts.read_spad(folder, CHAIR)
  assert str(path) in str(error.value) and len(str(error.value)) < 500


def test_a_matrix_in_rows_is_the_same_camera(tmp_path):
  want = public_layouts.read_spad(
    write_spad(tmp_path / "flat", [MATRIX_WORLD]), CHAIR
  )
  for number, rows in enumerate(
    (MATRIX_WORLD.tolist(), MATRIX_WORLD, list(MATRIX_WORLD))
  ):
    folder = write_spad(tmp_path / str(number), [MATRIX_WORLD])
    camera = {"fov": FIELD_OF_VIEW, "matrix_world": rows}
    np.save(folder / "cameras" / "0.npy", camera, allow_pickle=True)
    got = public_layouts.read_spad(folder, CHAIR)
    np.testing.assert_array_equal(got.camera_to_world, want.camera_to_world)


def test_a_matrix_of_objects_is_no_camera(tmp_path):
  folder = write_zero123(tmp_path / "object", [MATRIX_WORLD])
  path = folder / "000.npy"
  np.save(path, {"a": 1}, allow_pickle=True)
  with pytest.raises(ValueError, match=f"{path}: must be a .3, 4. matrix"):
    public_layouts.read_zero123(folder, CHAIR)
