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
  objects = build.find_rendered(fake_renders.write(root / "renders"))
  return objects, build.build(objects, root / "out")


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
folder = build.build(build.find_rendered(root / 'renders'), root / 'out')
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
  assert build.build(objects[::-1], folder.parents[1]) == folder
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
  assert build.build(objects, tmp_path).exists()


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
  with pytest.raises(ValueError, match="twice: object_0"):
    build.build([objects[0], objects[0]], tmp_path)


def test_broken_folders_are_named(tmp_path):
  with pytest.raises(ValueError, match="render some objects first"):
    build.find_rendered(tmp_path)
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
