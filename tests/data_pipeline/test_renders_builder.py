import dataclasses
import io
import json
import pathlib
import subprocess
import sys

import fake_renders
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from data_pipeline import build
from data_pipeline.renders import rendered_object, splits


@pytest.fixture(scope="module")
def built(tmp_path_factory):
  root = tmp_path_factory.mktemp("builder")
  objects = fake_renders.read(fake_renders.write(root / "renders"))
  return objects, build.build(objects, root / "out").folder


def test_records_hold_what_the_folders_hold(built):
  _, folder = built
  builder = tfds.builder_from_directory(folder)
  camera, group = fake_renders.rig()
  uids = []
  for split in ("train", "held_out_objects"):
    source = builder.as_data_source(split)
    index = builder.info.metadata["index"][split]
    for number in range(len(source)):
      record = source[number]
      uid = record["uid"].decode()
      uids.append(uid)
      assert index["uid"][number] == uid
      assert index["look"][number] == record["look"].decode()
      assert index["held_out_pair"][number] == record["held_out_pair"]
      assert (
        index["seen_by_image_model"][number] == (record["seen_by_image_model"])
      )
      assert (index["views"][number], index["orbit"][number]) == (12, 4)
      np.testing.assert_allclose(
        record["camera_to_world"], camera.camera_to_world, atol=1e-6
      )
      assert record["group"].tolist() == group
      # The centre of view 7 says which object, look and view it is.
      image = np.asarray(Image.open(io.BytesIO(record["images"][7])))
      look = ("", "wood", "leather").index(record["material"].decode())
      assert image[8, 8].tolist() == [40 * int(uid[-1]), 100 * look, 140, 255]
      assert image[0, 0, 3] == 0
      depth = np.asarray(Image.open(io.BytesIO(record["depths"][7])))
      assert depth[8, 8] / 8192 == pytest.approx(2.7, abs=1e-3)
      name = record["name"].decode()
      material = record["material"].decode() or None
      assert record["captions"][1].decode() == f"{name} {material} 1"
  assert sorted(uids) == sorted(f"object_{o}" for o in range(6) for _ in "abc")


def test_needs_no_tensorflow(tmp_path):
  fake_renders.write(tmp_path / "renders", ("Chair", "Chair"))
  script = f"""
import pathlib, sys
from data_pipeline import build, loader
root = pathlib.Path({str(tmp_path)!r})
folder = build.build_renders(root / 'renders', root / 'out').folder
settings = loader.LoaderSettings(
  path=str(folder), looks=('simplified',), batch_size=2)
assert next(loader.batches(settings))['image'].shape == (2, 4, 16, 16, 3)
assert 'tensorflow' not in sys.modules
assert 'torch' not in sys.modules
"""
  root = pathlib.Path(__file__).parents[2]
  subprocess.run([sys.executable, "-c", script], check=True, cwd=root)


def test_building_again_does_nothing_and_other_renders_are_refused(built):
  objects, folder = built
  before = {p.name: p.stat().mtime for p in folder.iterdir()}
  assert build.build(objects[::-1], folder.parents[1]).folder == folder
  assert before == {p.name: p.stat().mtime for p in folder.iterdir()}
  with pytest.raises(ValueError, match="something else"):
    build.build(objects[1:], folder.parents[1])


def test_failure_leaves_nothing_under_the_name(built, tmp_path):
  objects, _ = built

  def broken(look):
    raise OSError("unreadable")

  bad = dataclasses.replace(objects[3], read_images=broken)
  with pytest.raises(OSError, match="unreadable"):
    build.build([*objects[:3], bad], tmp_path)
  assert not (tmp_path / "renders" / "1.0.0").exists()
  assert build.build(objects, tmp_path).folder.exists()


def test_a_pair_is_held_out_of_every_object_of_that_name(built):
  _, folder = built
  builder = tfds.builder_from_directory(folder)
  for split in ("train", "held_out_objects"):
    for record in builder.as_data_source(split):
      pair = splits.pair(record["noun"].decode(), record["material"].decode())
      held_out = pair in fake_renders.HELD_OUT_PAIRS
      assert record["held_out_pair"] == held_out
      assert record["seen_by_image_model"] == (pair != ("lamp", "wood"))


def test_one_pair_in_eight_is_held_out_and_no_look_of_its_own():
  pairs = [splits.pair(f"n{i}", "oak") for i in range(4000)]
  share = np.mean([splits.held_out_pair(pair) for pair in pairs])
  assert abs(share - 1 / 8) < 0.02
  assert not any(
    splits.held_out_pair(splits.pair(f"n{i}", None)) for i in range(100)
  )


def test_one_uid_twice_is_refused(built, tmp_path):
  objects, _ = built
  with pytest.raises(ValueError, match="there twice: object_0"):
    build.build([objects[0], objects[0]], tmp_path)


def test_broken_folders_are_named(tmp_path):
  with pytest.raises(ValueError, match="render some objects first"):
    build.build_renders(tmp_path, tmp_path / "out")
  folder = fake_renders.write(tmp_path, ("Lamp",)) / "object_0"
  meta = json.loads((folder / "meta.json").read_text())
  (folder / "meta.json").write_text(json.dumps({**meta, "image_size": 8}))
  item = rendered_object.read_render_folder(folder)
  with pytest.raises(ValueError, match="64x48 pixels, meta.json says 4x3"):
    item.read_images(0)
  (folder / "1.png").unlink()
  with pytest.raises(ValueError, match="1.png"):
    rendered_object.read_render_folder(folder)
  del meta["looks"][0]["captions"]
  (folder / "meta.json").write_text(json.dumps(meta))
  with pytest.raises(ValueError, match="captions"):
    rendered_object.read_render_folder(folder)


def change(folder, **fields):
  """Sets fields of a meta.json; `views__0__group` lies deeper."""
  content = json.loads((folder / "meta.json").read_text())
  for name, value in fields.items():
    *way, last = (int(k) if k.isdecimal() else k for k in name.split("__"))
    place = content
    for key in way:
      place = place[key]
    place[last] = value
  (folder / "meta.json").write_text(json.dumps(content))


NAN_POSE = np.full((4, 4), np.nan).tolist()


@pytest.mark.parametrize(
  "field, value, message",
  [
    ("name", None, "name is None; it must be a text"),
    ("name", "  ", "name is '  '; it must have letters"),
    ("uid", 3, "uid is 3; it must be a text"),
    ("noun", ["sofa"], r"noun is \['sofa'\]; it must be a text"),
    ("category", 3, "category is 3; it must be a text"),
    ("name", "\ud800", "name is '.ud800'; it must be a text"),
    ("views", None, "views is None; it must be a list"),
    ("views", [], "needs views and looks"),
    ("views__2", 3, r"views\[2\]: is 3; must be an object"),
    ("views__2__group", "a", r"views\[2\].group is 'a'; .* whole number"),
    ("views__2__group", 2**31, r"views\[2\].group is 2147483648; it must be"),
    ("views__2__camera_to_world", NAN_POSE, "view 2: .* not finite"),
    ("views__2__camera_to_world", 3, r"views\[2\].camera_to_world is 3; it"),
    ("views__2__intrinsics", [[0] * 3] * 3, "view 2: intrinsics .*focal"),
    ("looks", {}, "looks is {}; it must be a list"),
    ("looks__1__captions", "abc", r"looks\[1\].captions is 'abc'; .* list"),
    ("looks__1__captions", [], r"looks\[1\].captions is \[\]; .* texts"),
    ("looks__1__captions", [1], r"looks\[1\].captions is \[1\]; .* texts"),
    ("looks__1__file", None, r"looks\[1\].file is None; it must be a text"),
    ("looks__1__file", "../1.png", r"looks\[1\].file is .* must stay inside"),
    ("looks__1__file", "/etc/passwd", r"looks\[1\].file is .* stay inside"),
    ("looks__1__file", "a" * 300, r"looks\[1\].file is .* stay inside"),
    ("looks__1__file", "a\0", r"looks\[1\].file is .* stay inside"),
    ("looks__1__material", 3, r"looks\[1\].material is 3; it must be a text"),
    ("image_size", 0, "image_size is 0; it must be 1 to 5792"),
    ("image_size", 16.0, "image_size is 16.0; it must be a whole number"),
    ("tile_columns", True, "tile_columns is True; it must be a whole number"),
    ("tile_columns", 10**9, "tile_columns is 1000000000; it must be 1 to"),
  ],
  ids=range(28),
)
def test_a_wrong_field_of_a_render_is_named(tmp_path, field, value, message):
  folder = fake_renders.write(tmp_path, ("Lamp",)) / "object_0"
  change(folder, **{field: value})
  with pytest.raises(ValueError, match=f"meta.json: .*{message}") as error:
    rendered_object.read_render_folder(folder)
  assert "\n" not in str(error.value)


def test_what_is_broken_is_put_in_quarantine_and_the_rest_is_built(
  tmp_path, launch_py, capsys
):
  renders = fake_renders.write(tmp_path / "renders", ("Chair",) * 8)
  change(renders / "object_0", name=None)
  (renders / "object_1/1.png").write_text("a text")
  depth = renders / "object_2/depth.png"
  depth.write_bytes(depth.read_bytes()[:-200])
  Image.new("L", (64, 48)).save(renders / "object_3/depth.png")
  Image.new("1", (13_000, 13_000)).save(renders / "object_4/0.png")
  (renders / "object_5/meta.json").write_text("[" * 100_000)
  out = tmp_path / "out"
  assert launch_py("data", "build", f"--renders={renders}", f"--out={out}") == 0
  first, *lines = capsys.readouterr().out.strip().splitlines()[-7:]
  assert first == str(out / "renders/1.0.0")
  for number, words in enumerate(
    (
      "object_0/meta.json: name is None",
      "object_1/1.png: damaged picture",
      "object_2/depth.png: damaged picture",
      "object_3/depth.png: damaged picture (is L, must be 16-bit gray)",
      "object_4/0.png: a picture of 13000x13000 pixels",
      "object_5/meta.json: is no JSON",
    )
  ):
    (line,) = [one for one in lines if f"object_{number}:" in one]
    assert "in quarantine, " in line and words in line
  splits_read = tfds.builder_from_directory(first).as_data_source()
  uids = {row["uid"] for part in splits_read.values() for row in part}
  assert uids == {b"object_6", b"object_7"}


def test_where_all_is_broken_nothing_is_written(tmp_path, launch_py, capsys):
  renders = fake_renders.write(tmp_path / "renders", ("Chair", "Lamp"))
  for folder in renders.glob("object_*"):
    (folder / "1.png").write_text("a text")
  out = tmp_path / "out"
  assert launch_py("data", "build", f"--renders={renders}", f"--out={out}") == 2
  line = capsys.readouterr().err.splitlines()[-1]
  assert line.startswith("error: objects: of 2 none can be read; ")
  assert "object_0/1.png: damaged picture" in line
  assert not out.exists()


def test_held_out_objects_leave_one_of_every_name_and_ignore_order():
  named = [(f"u{i}", f"name {i % 7}" if i < 40 else f"n{i}") for i in range(60)]
  held_out = splits.held_out_objects(named)
  assert held_out == splits.held_out_objects(named[::-1])
  for number in range(7):
    uids = {uid for uid, name in named if name == f"name {number}"}
    assert 1 <= len(uids & held_out) < len(uids)
  assert all(int(uid[1:]) < 40 for uid in held_out)


def test_half_of_the_pairs_are_seen_whatever_the_spelling():
  pairs = {splits.pair(f"n{i}", m) for i in range(200) for m in ("oak", None)}
  assert len(pairs) == 400
  assert 0.4 < np.mean([splits.seen_by_image_model(p) for p in pairs]) < 0.6
  assert splits.pair(" SOFA", "wood") == splits.pair("Sofa", "wood")
