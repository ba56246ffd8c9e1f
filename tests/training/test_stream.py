"""The made-up data: the loader's layout, exact positions, true geometry."""

import numpy as np

from mvjax import geometry
from mvjax.training import data, loop
from tests.training import small


def open_stream(task="multiview"):
  return data.open_stream(small.config(task).data, batch_size=3, seed=5)


def test_layout():
  batch = next(open_stream().start(0))
  assert batch["image"].shape == (3, 4, 32, 32, 3)
  assert batch["alpha"].shape == batch["depth"].shape == (3, 4, 32, 32)
  assert batch["camera"]["camera_to_world"].shape == (3, 4, 4, 4)
  assert batch["image"].dtype == np.float32
  assert batch["image"].min() >= -1 and batch["image"].max() <= 1
  np.testing.assert_array_equal(batch["image"][batch["alpha"] == 0], 1.0)


def test_any_position_can_be_the_start():
  stream = open_stream()
  first = stream.start(0)
  for _ in range(3):
    next(first)
  late, expected = next(stream.start(3)), next(first)
  np.testing.assert_array_equal(late["image"], expected["image"])
  assert list(late["caption"]) == list(expected["caption"])


def test_depth_points_lie_on_the_shape_for_every_camera():
  batch = next(open_stream().start(0))
  camera = geometry.Camera(**batch["camera"])
  origins, directions = geometry.rays(camera, 32, 32, xnp=np)
  forward = camera.camera_to_world[..., None, None, :3, 2]
  distance = batch["depth"] / (directions * forward).sum(-1)
  points = origins + distance[..., None] * directions
  radii = np.linalg.norm(points, axis=-1)[batch["alpha"] > 0]
  assert radii.size and radii.max() < 1.0


def test_crops_and_view_words():
  config = small.config("vae").data
  with config.unlocked():
    config.update(crop=16, view_words=0.5)
  stream = data.open_stream(config, batch_size=2, seed=0)
  assert next(stream.start(0))["image"].shape == (2, 1, 16, 16, 3)
  assert "a red ball, back view" in stream.captions()


def test_share_of_image_batches():
  config = small.config("multiview", image_batch_share=0.25)
  kinds = [loop.batch_kind(config, step) for step in range(2000)]
  assert 0.2 < kinds.count("image") / 2000 < 0.3
  assert kinds[7] == loop.batch_kind(config, 7)
  config = small.config("multiview")
  assert {loop.batch_kind(config, step) for step in range(100)} == {"main"}
