"""Which pictures are the views, and in which order."""

import json
import pathlib

import fake_assets
import numpy as np
import pytest

from mvjax.views import view_files, view_sets


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


def test_frames_without_their_picture_are_named(ball, tmp_path):
  folder = tmp_path / "ball"
  fake_assets.write(folder, ball)
  (folder / "view_02.png").unlink()
  with pytest.raises(ValueError, match="is 'view_02.png'; it must be a f"):
    view_files.of_asset(folder)
  content = json.loads((folder / "transforms.json").read_text())
  content["frames"][0]["file_path"] = "../../secret.png"
  (folder / "transforms.json").write_text(json.dumps(content))
  with pytest.raises(ValueError, match="leaves"):
    view_files.of_asset(folder)


def test_a_frame_may_name_its_picture_in_full(ball, tmp_path, monkeypatch):
  """It is found below the folder, however the folder was given."""
  fake_assets.write(tmp_path / "ball", ball)
  poses = tmp_path / "ball" / "transforms.json"
  content = json.loads(poses.read_text())
  for frame in content["frames"]:
    frame["file_path"] = str(tmp_path / "ball" / frame["file_path"])
  poses.write_text(json.dumps(content))
  monkeypatch.chdir(tmp_path)
  folder = pathlib.Path("ball")
  found = view_files.of_asset(folder)
  assert found == [folder / f"view_{i:02d}.png" for i in range(4)]


def test_cameras_alone_are_no_views(ball, tmp_path):
  fake_assets.write(tmp_path / "cameras", ball)
  assert view_files.holds_views(tmp_path / "cameras")
  poses = tmp_path / "cameras" / "transforms.json"
  content = json.loads(poses.read_text())
  for frame in content["frames"]:
    del frame["file_path"]
  poses.write_text(json.dumps(content))
  for picture in poses.parent.glob("*.png"):
    picture.unlink()
  assert not view_files.holds_views(tmp_path / "cameras")
