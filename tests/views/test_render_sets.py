"""Data sets of renders as assets."""

import fake_assets
import numpy as np
import pytest

from data_pipeline import loader
from mvjax.views import view_sets, viewpoints


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
    "images": [fake_assets.png(rgba)] * 16,
    "depths": [fake_assets.png(np.full((8, 8), 8192, np.uint16))] * 16,
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
