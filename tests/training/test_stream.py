"""The made-up data: the loader's layout, exact positions, true geometry."""

import jax
import numpy as np
import pytest

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


@pytest.mark.parametrize(
  "rows, expected",
  [
    (range(12), (12, [0])),
    (range(4, 8), (4, [1])),
    ([0, 1, 6, 7], (2, [0, 3])),
    ([3, 4], (1, [3, 4])),
    # As long as a part, but not one.
    ([2, 3, 4], (1, [2, 3, 4])),
  ],
  ids=str,
)
def test_rows_are_whole_parts_of_a_batch(rows, expected):
  assert data.parts_of(rows, 12) == expected


def test_rows_are_those_of_the_whole_batch():
  stream = open_stream()
  whole = next(stream.start(2))
  part = next(stream.start(2, [0, 2]))
  assert part["uid"].tolist() == ["2-0", "2-2"]
  jax.tree.map(
    lambda a, b: np.testing.assert_array_equal(a, b[[0, 2]]), part, whole
  )


def test_validation_examples_are_others():
  config = small.config("multiview").data
  batches = [
    next(
      data.open_stream(
        config, batch_size=2, seed=0, validation=validation
      ).start(0)
    )
    for validation in (False, True)
  ]
  assert np.abs(batches[0]["image"] - batches[1]["image"]).max() > 0.1
