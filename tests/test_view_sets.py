"""Every source of views, read as one."""

import io
import json

import fake_assets
import numpy as np
import pytest
from PIL import Image

from data_pipeline import loader
from mvjax import view_sets
from mvjax.generation import viewpoints


@pytest.fixture
def ball():
  return fake_assets.ball(4, size=16)


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


def test_one_asset_by_itself(ball, tmp_path):
  fake_assets.write(tmp_path / "a-ball-3", ball)
  (asset,) = view_sets.open_set(tmp_path / "a-ball-3")
  assert asset.name == "a-ball-3" and asset.num_views == 4


def test_depths_beside_the_views(ball, tmp_path):
  folder = tmp_path / "ball"
  fake_assets.write(folder, ball)
  for i, depth in enumerate(ball.depth):
    levels = np.round(depth * 8192).astype(np.uint16)
    Image.fromarray(levels).save(folder / f"depth_{i:02d}.png")
  (asset,) = view_sets.open_set(tmp_path)
  assert asset.num_views == 4
  np.testing.assert_allclose(asset.read().depth, ball.depth, atol=1e-4)


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


def test_loose_pictures_are_assets_of_one_view(tmp_path):
  for name in ("a red car.png", "b_dog.webp"):
    Image.new("RGB", (8, 8), "red").save(tmp_path / name)
  found = view_sets.open_set(tmp_path)
  assert [asset.prompt for asset in found] == ["a red car", "b dog"]
  assert found[0].read().image.shape == (1, 8, 8, 3)


def test_views_are_in_the_order_of_their_numbers(tmp_path):
  """Also where cameras do not name them: 10.png is the last, not the third."""
  given = fake_assets.ball(11, size=16)
  fake_assets.write(tmp_path / "ball", given, opaque=True)
  for i in range(11):
    (tmp_path / f"ball/view_{i:02d}.png").rename(tmp_path / f"ball/{i}.png")
  poses = tmp_path / "ball/transforms.json"
  content = json.loads(poses.read_text())
  for frame in content["frames"]:
    frame.pop("file_path")
  poses.write_text(json.dumps(content))
  for _ in range(2):
    (asset,) = view_sets.open_set(tmp_path)
    np.testing.assert_allclose(asset.read().image, given.image, atol=1 / 127)
    if poses.is_file():
      poses.unlink()


def test_pictures_in_a_folder_of_their_own(ball, tmp_path):
  """NeRF's layout, also among other assets; a plot beside them is none."""
  fake_assets.write(tmp_path / "apart", ball, opaque=True)
  nerf = tmp_path / "nerf"
  fake_assets.write(nerf, ball, opaque=True)
  (nerf / "images").mkdir()
  content = json.loads((nerf / "transforms.json").read_text())
  for frame in content["frames"]:
    name = frame["file_path"]
    (nerf / name).rename(nerf / "images" / name)
    frame["file_path"] = f"./images/{name}"
  (nerf / "transforms.json").write_text(json.dumps(content))
  (nerf / "grid.png").unlink()
  Image.new("RGB", (8, 8)).save(tmp_path / "plot.png")
  apart, other = view_sets.open_set(tmp_path)
  assert other.name == "nerf" and other.has_cameras
  np.testing.assert_array_equal(other.read().image, apart.read().image)


@pytest.mark.parametrize(
  "text, message",
  [
    ("{", "is no JSON"),
    ("[]", "must be an object"),
    ('{"prompt": ["a ball"]}', r"prompt=\['a ball'\] must be of type str"),
    ('{"prompt": 3}', "prompt=3 must be of type str"),
    ('{"seed": "0"}', "seed='0' must be of type int"),
    ('{"metric_cameras": "false"}', "metric_cameras='false' .*type bool"),
  ],
)
def test_a_broken_record_is_named(ball, tmp_path, text, message):
  fake_assets.write(tmp_path / "ball", ball)
  (tmp_path / "ball/sample.json").write_text(text)
  with pytest.raises(ValueError, match=f"ball/sample.json: {message}"):
    view_sets.open_set(tmp_path)


def test_limit_spreads_over_all(tmp_path):
  for i in range(10):
    Image.new("RGB", (2, 2)).save(tmp_path / f"{i}.png")
  names = [asset.name for asset in view_sets.open_set(tmp_path, limit=3)]
  assert names == ["1.png", "5.png", "8.png"]
  assert len(view_sets.open_set(tmp_path, limit=99)) == 10


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


def png(array):
  buffer = io.BytesIO()
  Image.fromarray(array).save(buffer, "PNG")
  return buffer.getvalue()


def record(number):
  """Three orbits of four views, and a cluster that is no orbit."""
  orbits = [fake_assets.ring(4, elevation=e) for e in (30.0, 0.0, 60.0)]
  poses = [np.asarray(camera.camera_to_world) for camera in orbits]
  lenses = [np.asarray(camera.intrinsics) for camera in orbits]
  poses.append(poses[0] + 0.01 * np.arange(4)[:, None, None])
  lenses.append(lenses[0])
  rgba = np.full((8, 8, 4), 100, np.uint8)
  return {
    "uid": f"ball {number}".encode(),
    "look": b"full",
    "captions": [b"a ball"],
    "images": [png(rgba)] * 16,
    "depths": [png(np.full((8, 8), 8192, np.uint16))] * 16,
    "camera_to_world": np.concatenate(poses),
    "intrinsics": np.concatenate(lenses),
    "group": np.repeat(np.arange(4), 4),
  }


@pytest.fixture
def version(tmp_path, monkeypatch):
  """Makes the folder a data set of five records; returns its fingerprint."""
  records = [record(i) for i in range(5)]
  monkeypatch.setattr(loader, "records", lambda settings: records)
  version = {"source_digest": "1"}
  monkeypatch.setattr(loader, "fingerprint", lambda settings: version)
  (tmp_path / "dataset_info.json").write_text("{}")
  return version


def test_data_set_gives_views_like_others(version, tmp_path):
  """However they are turned, four at 40 degrees are like the orbit at 30."""

  def cameras(like):
    (asset,) = view_sets.open_set(tmp_path, like=like, limit=1)
    return np.asarray(asset.read().camera.camera_to_world)[:, :3, 3]

  def azimuths(positions):
    return np.degrees(np.arctan2(positions[:, 1], positions[:, 0]))

  given = viewpoints.orbit(
    4, azimuth=100.0, elevation=40.0, distance=2.0, field_of_view=30.0
  )
  found = cameras(given)
  np.testing.assert_allclose(found[:, 2], 3 * np.sin(np.pi / 6), atol=0.05)
  # In the order of the cameras, each a quarter on from the one before.
  turns = np.diff(azimuths(found)) % 360
  np.testing.assert_allclose(turns, 90, atol=2)
  for elevation in (5.0, 55.0):
    like = fake_assets.ring(8, elevation=elevation)
    heights = np.degrees(np.arcsin(cameras(like)[:, 2] / 3))
    spread = np.array([0, 30]) if elevation < 30 else np.array([30, 60])
    assert np.abs(heights[:, None] - spread).min(1).max() < 2
  with pytest.raises(ValueError, match="num_views=17: ball 2 has 16"):
    cameras(fake_assets.ring(17))


def test_data_set_gives_whole_orbits_with_alpha_and_depth(version, tmp_path):
  assets = view_sets.open_set(tmp_path, num_views=4, limit=2)
  assert [asset.name for asset in assets] == ["ball 1/full/1", "ball 3/full/3"]
  assert assets[0].prompt == "a ball" and assets[0].num_views == 4
  read = assets[0].read()
  np.testing.assert_allclose(read.depth, 1)
  np.testing.assert_allclose(read.alpha, 100 / 255)
  # One orbit is the middle one of three.
  heights = np.asarray(read.camera.camera_to_world)[:, 2, 3]
  np.testing.assert_allclose(heights, 3 * np.sin(np.pi / 6), atol=1e-5)
  eight = view_sets.open_set(tmp_path, num_views=8)[0].read()
  heights = np.asarray(eight.camera.camera_to_world)[:, 2, 3]
  assert len(set(np.round(heights, 3))) == 2 and len(heights) == 8
  everything = view_sets.open_set(tmp_path)[0]
  assert everything.num_views == 12
  version["source_digest"] = "2"
  assert view_sets.open_set(tmp_path)[0].digest != everything.digest
  with pytest.raises(ValueError, match="num_views=99"):
    view_sets.open_set(tmp_path, num_views=99)


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


def test_faults_are_named(ball, tmp_path):
  with pytest.raises(FileNotFoundError, match="absent"):
    view_sets.open_set(tmp_path / "absent")
  with pytest.raises(ValueError, match="holds no views"):
    view_sets.open_set(tmp_path)
  folder = tmp_path / "ball"
  fake_assets.write(folder, ball)
  Image.new("RGB", (9, 9)).save(folder / "view_02.png")
  with pytest.raises(ValueError, match="different sizes"):
    view_sets.open_set(tmp_path)[0].read()
  (folder / "view_02.png").unlink()
  with pytest.raises(ValueError, match="no picture 'view_02.png'"):
    view_sets.open_set(tmp_path)
  content = json.loads((folder / "transforms.json").read_text())
  content["frames"][0]["file_path"] = "../../secret.png"
  (folder / "transforms.json").write_text(json.dumps(content))
  with pytest.raises(ValueError, match="leaves"):
    view_sets.open_set(tmp_path)


def test_masks_are_found_where_pictures_are_opaque(ball):
  found = view_sets.with_masks(
    view_sets.Views(image=ball.image, camera=ball.camera)
  )
  agree = (found.alpha > 0.5) == (ball.alpha > 0.5)
  assert agree.mean() > 0.98
  np.testing.assert_allclose(found.background, 1)
  assert view_sets.with_masks(ball) is ball


def test_neighbours_form_a_ring():
  camera = fake_assets.ring(5)
  shuffled = view_sets.take(
    view_sets.Views(image=np.zeros((5, 2, 2, 3)), camera=camera),
    [3, 0, 4, 1, 2],
  ).camera
  order = view_sets.ring_order(shuffled)
  original = [[3, 0, 4, 1, 2][i] for i in order]
  start = original.index(0)
  assert original[start:] + original[:start] == [0, 1, 2, 3, 4]
  pairs = view_sets.ring_pairs(shuffled)
  assert len(pairs) == 5 and {i for i, _ in pairs} == set(range(5))
  assert len(view_sets.ring_pairs(fake_assets.ring(2))) == 1
