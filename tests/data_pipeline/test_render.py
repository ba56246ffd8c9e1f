import json
import re

import fake_objects
import numpy as np
import pytest

from data_pipeline import pixels, render
from data_pipeline.renders import rendered_object
from mvjax import geometry

_SMALL = render.RenderSettings(
  image_size=96, orbits=1, clusters=1, variants=1, elevation=(10.0, 40.0)
)


@pytest.fixture(scope="module")
def box(tmp_path_factory):
  """The painted box, rendered: (Object, folder)."""
  root = tmp_path_factory.mktemp("box")
  thing = fake_objects.thing(
    fake_objects.write_painted_box(root / "box.obj"), name="Box", tags=("Toy",)
  )
  render.render_object(thing, root / thing.id, settings=_SMALL)
  return thing, root / thing.id


def test_the_folder_is_what_the_dataset_reads(box):
  thing, folder = box
  read = rendered_object.read_render_folder(folder)
  assert (read.uid, read.name) == (thing.uid, "Box")
  assert read.group.tolist() == [0] * 4 + [1] * 4
  assert [look.look for look in read.looks] == [
    "full",
    "simplified",
    "retextured",
    "simplified",
  ]
  depth = read.read_depths()
  assert depth is not None
  for number, look in enumerate(read.looks):
    images = read.read_images(number)
    assert images.shape == (8, 96, 96, 4)
    # All looks share their geometry.
    np.testing.assert_array_equal(images[..., 3] > 0, depth > 0)
    assert look.captions
  meta = json.loads((folder / "meta.json").read_text())
  assert meta["tags"] == ["Toy"]
  assert meta["looks"][2]["color"] in meta["looks"][2]["captions"][0]


def test_two_views_agree_by_reprojection(box):
  _, folder = box
  read = rendered_object.read_render_folder(folder)
  depths = np.asarray(read.read_depths()) / pixels.DEPTH_SCALE
  camera = geometry.Camera(
    camera_to_world=read.camera_to_world, intrinsics=read.intrinsics
  )
  origins, directions = geometry.rays(camera, 96, 96, xnp=np)
  forward = read.camera_to_world[:, :3, 2]
  cosine = (directions * forward[:, None, None]).sum(-1)
  points = origins + directions * (depths / cosine)[..., None]
  compared = 0
  for number in range(len(read.looks)):
    images = read.read_images(number)
    # Whole pixels only: partly covered ones blend samples of two depths.
    whole = images[..., 3] == 255
    for a, b in ((4, 5), (5, 6), (0, 1)):
      other = geometry.Camera(
        camera_to_world=read.camera_to_world[b][None],
        intrinsics=read.intrinsics[b][None],
      )
      uv, depth = geometry.project(other, points[a][whole[a]][None], xnp=np)
      column, row = np.floor(uv[0] * 96).astype(int).T
      valid = (np.minimum(row, column) >= 0) & (np.maximum(row, column) < 96)
      row, column = row[valid], column[valid]
      seen = np.abs(depths[b][row, column] - depth[0][valid]) < 0.03
      seen &= whole[b][row, column]
      first = images[a][whole[a]][valid][seen][:, :3].astype(int)
      second = images[b][row, column][seen][:, :3].astype(int)
      if number in (1, 3):
        # Flat looks differ by light alone, which is fixed to the surface.
        assert np.quantile(np.abs(first - second).max(-1), 0.9) <= 2
      else:
        # Half a pixel's displacement matters at the edges of the pattern.
        assert np.median(np.abs(first - second).max(-1)) < 12
        assert np.corrcoef(first[:, 0], second[:, 0])[0, 1] > 0.5
      compared += len(first)
  assert compared > 1000


def test_cameras_are_orbits_and_clusters():
  settings = render.RenderSettings(orbits=2, clusters=1, cluster_spread=20.0)
  groups, cameras = render.make_cameras("a", settings=settings)
  assert groups.tolist() == [0] * 4 + [1] * 4 + [2] * 4
  position = cameras.camera_to_world[:, :3, 3]
  np.testing.assert_allclose(np.linalg.norm(position, axis=-1), 3, rtol=1e-5)
  low, high = np.sin(np.radians(settings.elevation))
  height = position[:, 2] / 3
  assert (height > low - 1e-5).all() and (height < high + 1e-5).all()
  for orbit in (position[:4, :2], position[4:8, :2]):
    np.testing.assert_allclose(
      (orbit * np.roll(orbit, 1, 0)).sum(-1), 0, atol=1e-4
    )
  near = position[8:] / 3
  assert (near @ near.T).min() > np.cos(np.radians(50))
  _, others = render.make_cameras("b", settings=settings)
  assert not np.allclose(others.camera_to_world, cameras.camera_to_world)


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("image_size", 0),
    ("orbits", -1),
    ("clusters", -1),
    ("variants", 99),
    ("elevation", (40.0, -5.0)),
    ("field_of_view", 180.0),
    ("distance", 1.0),
    ("distance", 8.0),
    ("supersampling", 0),
  ],
)
def test_bad_settings_are_named(field, value):
  message = re.escape(f"{field}={value}: must be")
  with pytest.raises(ValueError, match=message):
    render.RenderSettings(**{field: value})


def test_no_views_at_all_is_an_error():
  with pytest.raises(ValueError, match="clusters=0"):
    render.RenderSettings(orbits=0, clusters=0)
