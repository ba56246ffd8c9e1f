"""Folders of pictures, with cameras and records or without."""

import json
import struct
import zlib

import fake_assets
import numpy as np
import pytest
from PIL import Image

from mvjax.views import picture_folders, view_sets


def test_sample_folders(ball, tmp_path):
  fake_assets.write(
    tmp_path / "a-ball-3", ball, prompt="a ball", seed=3, opaque=True
  )
  fake_assets.write(tmp_path / "another_ball", ball)
  (tmp_path / ".partial").mkdir()
  (tmp_path / "empty").mkdir()
  first, second = view_sets.open_set(tmp_path)
  assert (first.name, first.prompt) == ("a-ball-3", "a ball")
  assert first.record["seed"] == 3
  assert (second.name, second.prompt) == ("another_ball", "another ball")
  assert first.num_views == 4 and first.has_cameras
  read = first.read()
  assert read.alpha is None and read.depth is None
  np.testing.assert_allclose(read.image, ball.image, atol=1 / 127)
  np.testing.assert_allclose(
    read.camera.camera_to_world, ball.camera.camera_to_world, atol=1e-5
  )
  read = second.read()
  np.testing.assert_array_equal(read.alpha, ball.alpha)
  np.testing.assert_allclose(read.image, ball.image, atol=1 / 127)


def test_depths_beside_the_views(ball, tmp_path):
  folder = tmp_path / "ball"
  fake_assets.write(folder, ball)
  for i, depth in enumerate(ball.depth):
    levels = np.round(depth * 8192).astype(np.uint16)
    Image.fromarray(levels).save(folder / f"depth_{i:02d}.png")
  (asset,) = view_sets.open_set(tmp_path)
  assert asset.num_views == 4
  np.testing.assert_allclose(asset.read().depth, ball.depth, atol=1e-4)


def test_depth_beside_a_strip(ball, tmp_path):
  """Cut up as its picture is; one of another size is refused."""
  folder = tmp_path / "ball"
  fake_assets.write(folder, ball, opaque=True)
  views = [np.asarray(Image.open(f)) for f in sorted(folder.glob("view_*"))]
  fake_assets.rename_views(folder, "moved/{}.png".format)
  poses = folder / "transforms.json"
  content = json.loads(poses.read_text())
  for frame in content["frames"]:
    frame["file_path"] = "view_all.png"
  poses.write_text(json.dumps(content))
  Image.fromarray(np.concatenate(views, 1)).save(folder / "view_all.png")
  levels = np.round(np.concatenate(ball.depth, 1) * 8192).astype(np.uint16)
  Image.fromarray(levels).save(folder / "depth_all.png")
  (asset,) = view_sets.open_set(tmp_path)
  np.testing.assert_allclose(asset.read().depth, ball.depth, atol=1e-4)
  Image.fromarray(levels[:-2]).save(folder / "depth_all.png")
  (asset,) = view_sets.open_set(tmp_path)
  with pytest.raises(ValueError, match="ball: depth_.* differ in size"):
    asset.read()


def bomb(path, side):
  """A black picture of a few kilobytes, too large to be made in memory."""
  row = zlib.compressobj(9)
  data = b"".join(row.compress(bytes(side + 1)) for _ in range(side))
  chunks = (
    (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)),
    (b"IDAT", data + row.flush()),
    (b"IEND", b""),
  )
  path.write_bytes(
    b"\x89PNG\r\n\x1a\n"
    + b"".join(
      struct.pack(">I", len(body))
      + kind
      + body
      + struct.pack(">I", zlib.crc32(kind + body))
      for kind, body in chunks
    )
  )


def test_a_picture_too_large_to_open_is_one_line(tmp_path, monkeypatch):
  Image.new("RGB", (8, 8)).save(tmp_path / "huge.png")
  monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
  (asset,) = view_sets.open_set(tmp_path)
  with pytest.raises(ValueError, match="huge.png: damaged picture"):
    asset.read()


def test_pictures_too_large_together_are_not_decoded(
  ball, tmp_path, monkeypatch
):
  folder = tmp_path / "ball"
  fake_assets.write(folder, ball)
  monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("decoded"))
  bomb(folder / "view_03.png", 13_000)
  (asset,) = view_sets.open_set(tmp_path)
  with pytest.raises(ValueError, match="view_03.png: a picture of 13000x13000"):
    asset.read()
  for i in range(4):
    bomb(folder / f"view_{i:02d}.png", 4000)
  (asset,) = view_sets.open_set(tmp_path)
  with pytest.raises(ValueError, match="view_02.png: .* 48 million in all"):
    asset.read()


@pytest.mark.parametrize(
  "content", [b"", b"a text", b"%!PS-Adobe-3.0 EPSF-3.0\n", None], ids=str
)
def test_a_file_that_is_no_picture_is_named(ball, tmp_path, content):
  fake_assets.write(tmp_path / "ball", ball)
  file = tmp_path / "ball/view_01.png"
  file.write_bytes(file.read_bytes()[:-300] if content is None else content)
  (asset,) = view_sets.open_set(tmp_path)
  with pytest.raises(ValueError, match="view_01.png: damaged picture") as error:
    asset.read()
  assert "\n" not in str(error.value)


def test_pictures_of_another_system(ball, tmp_path):
  """Frames decide order and files; without cameras it is all pictures."""
  folder = tmp_path / "a chair"
  fake_assets.write(folder, ball, opaque=True)
  content = json.loads((folder / "transforms.json").read_text())
  content["frames"] = content["frames"][::-1]
  for number, frame in enumerate(content["frames"]):
    (folder / frame["file_path"]).rename(folder / f"out{number}.png")
    frame["file_path"] = f"out{number}"
  (folder / "transforms.json").write_text(json.dumps(content))
  plain = tmp_path / "no cameras"
  plain.mkdir()
  for name in ("b.png", "a.jpg"):
    Image.new("RGB", (8, 8), "red").save(plain / name)
  with_cameras, without = view_sets.open_set(tmp_path)
  np.testing.assert_allclose(
    with_cameras.read().image, ball.image[::-1], atol=1 / 127
  )
  assert not without.has_cameras and without.num_views == 2
  assert without.read().camera is None


@pytest.mark.parametrize(
  "text, message",
  [
    ("{", "is no JSON"),
    ("[]", r"is \[\]; must be an object"),
    ("[" * 100_000, "is no JSON"),
    ('{"prompt": ["a ball"]}', r"prompt is \['a ball'\]; it must be a text"),
    ('{"prompt": 3}', "prompt is 3; it must be a text"),
    ('{"prompt": null}', "prompt is None; it must be a text"),
    ('{"seed": "0"}', "seed is '0'; it must be a whole number"),
    ('{"seed": true}', "seed is True; it must be a whole number"),
    (
      '{"metric_cameras": "false"}',
      "metric_cameras is 'false'; it must be true or false",
    ),
    (
      '{"peak_memory_bytes": "2"}',
      "peak_memory_bytes is '2'; .* finite number",
    ),
    ('{"seconds_of_batch": {}}', "batch_size is missing; .* whole number"),
    (
      '{"seconds_of_batch": {}, "batch_size": 0}',
      "batch_size is 0; it must be",
    ),
    (
      '{"seconds_of_batch": 3, "batch_size": 1}',
      "seconds_of_batch is 3; it must be an object",
    ),
    (
      '{"seconds_of_batch": {"sampling": Infinity}, "batch_size": 1}',
      "seconds_of_batch.sampling is inf; it must be a finite number",
    ),
  ],
  ids=range(14),
)
def test_a_broken_record_is_named(ball, tmp_path, text, message):
  fake_assets.write(tmp_path / "ball", ball)
  (tmp_path / "ball/sample.json").write_text(text)
  with pytest.raises(ValueError, match=f"ball/sample.json: {message}"):
    view_sets.open_set(tmp_path)


def test_the_digest_follows_pictures_and_cameras(ball, tmp_path):
  folder = tmp_path / "ball"
  fake_assets.write(folder, ball)

  def digest():
    return view_sets.open_set(tmp_path)[0].digest

  first = digest()
  assert digest() == first
  Image.new("RGB", (16, 16)).save(folder / "view_02.png")
  second = digest()
  assert second != first
  content = json.loads((folder / "transforms.json").read_text())
  content["frames"][1]["transform_matrix"][0][3] += 0.1
  (folder / "transforms.json").write_text(json.dumps(content))
  assert digest() != second


def write_strip(folder, given, *, count):
  """All views side by side, named by `count` frames."""
  fake_assets.write(folder, given, opaque=True)
  files = sorted(folder.glob("view_*.png"))
  strip = np.concatenate([np.asarray(Image.open(file)) for file in files], 1)
  for file in files:
    file.unlink()
  Image.fromarray(strip).save(folder / "0.png")
  content = json.loads((folder / "transforms.json").read_text())
  frames = (content["frames"] * count)[:count]
  content["frames"] = [frame | {"file_path": "0.png"} for frame in frames]
  (folder / "transforms.json").write_text(json.dumps(content))


def test_a_strip_that_all_frames_name_is_split(ball, tmp_path):
  fake_assets.write(tmp_path / "apart", ball, opaque=True)
  write_strip(tmp_path / "strip", ball, count=4)
  apart, strip = (asset.read() for asset in view_sets.open_set(tmp_path))
  np.testing.assert_array_equal(strip.image, apart.image)
  np.testing.assert_array_equal(
    strip.camera.camera_to_world, apart.camera.camera_to_world
  )
  write_strip(tmp_path / "odd", ball, count=3)
  with pytest.raises(ValueError, match="odd.*3 frames name 1 pictures"):
    view_sets.open_set(tmp_path / "odd")[0].read()


def test_views_of_different_sizes_are_named(ball, tmp_path):
  folder = tmp_path / "ball"
  fake_assets.write(folder, ball)
  Image.new("RGB", (9, 9)).save(folder / "view_02.png")
  with pytest.raises(ValueError, match="ball: views of different sizes"):
    picture_folders.open_folder(folder).read()
