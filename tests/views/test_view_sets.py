"""Folders and loose pictures, each found to be what it is."""

import fake_assets
import numpy as np
import pytest
from PIL import Image

from mvjax.views import view_sets


def test_one_asset_by_itself(ball, tmp_path):
  fake_assets.write(tmp_path / "a-ball-3", ball)
  (asset,) = view_sets.open_set(tmp_path / "a-ball-3")
  assert asset.name == "a-ball-3" and asset.num_views == 4


def test_loose_pictures_are_assets_of_one_view(tmp_path):
  for name in ("a red car.png", "b_dog.webp"):
    Image.new("RGB", (8, 8), "red").save(tmp_path / name)
  found = view_sets.open_set(tmp_path)
  assert [asset.prompt for asset in found] == ["a red car", "b dog"]
  assert found[0].read().image.shape == (1, 8, 8, 3)


def test_pictures_in_a_folder_of_their_own(ball, tmp_path):
  """NeRF's layout, also among other assets; a plot beside them is none."""
  fake_assets.write(tmp_path / "apart", ball, opaque=True)
  nerf = tmp_path / "nerf"
  fake_assets.write(nerf, ball, opaque=True)
  fake_assets.rename_views(nerf, "./images/{}.png".format)
  (nerf / "grid.png").unlink()
  Image.new("RGB", (8, 8)).save(tmp_path / "plot.png")
  apart, other = view_sets.open_set(tmp_path)
  assert other.name == "nerf" and other.has_cameras
  np.testing.assert_array_equal(other.read().image, apart.read().image)


def test_limit_spreads_over_all(tmp_path):
  for i in range(10):
    Image.new("RGB", (2, 2)).save(tmp_path / f"{i}.png")
  names = [asset.name for asset in view_sets.open_set(tmp_path, limit=3)]
  assert names == ["1.png", "5.png", "8.png"]
  assert len(view_sets.open_set(tmp_path, limit=99)) == 10


def test_nothing_to_open_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match="absent"):
    view_sets.open_set(tmp_path / "absent")
  with pytest.raises(ValueError, match="holds no views"):
    view_sets.open_set(tmp_path)
