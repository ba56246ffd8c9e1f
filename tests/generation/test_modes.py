"""Every `--score`, drawn by launch.py with tiny models, not only traced."""

import functools
import json
import pathlib
import types

import numpy as np
import pytest
from PIL import Image

from mvjax.generation import samples

ROOT = pathlib.Path(__file__).parents[2]
PROMPT = "a red leather sofa"


@pytest.fixture(scope="module")
def drawn():
  """Samples of this module by their flags; each is drawn once."""
  return {}


@pytest.fixture
def draw(launch_py, model_folders, drawn, tmp_path):
  """Draws two views with flags; returns their folder's content."""

  def run(score, lambdas, *flags, image=model_folders["image"]):
    key = score, lambdas, flags, image
    if key not in drawn:
      out = tmp_path / str(len(drawn))
      code = launch_py(
        "sample",
        f"--config={ROOT / 'configs' / 'nano.py'}",
        f"--multiview={model_folders['multiview']}",
        f"--image={image}",
        f"--prompt={PROMPT}",
        f"--score={score}",
        f"--lambda_schedule=constant:{lambdas}",
        "--views=2",
        "--steps=2",
        f"--out={out}",
        *flags,
      )
      assert code == 0
      drawn[key] = read(out)
    return drawn[key]

  return run


def read(out):
  (folder,) = (path.parent for path in out.glob("*/sample.json"))
  sample = samples.Sample(prompt=PROMPT, seed=0)
  assert folder.name == sample.name
  views = [Image.open(path) for path in sorted(folder.glob("view_*.png"))]
  return types.SimpleNamespace(
    files={path.name for path in folder.iterdir()},
    record=json.loads((folder / "sample.json").read_text()),
    pixels=np.stack([np.asarray(view) for view in views]).astype(int),
  )


def assert_same(one, other):
  """The same picture, which is one; programs round differently."""
  assert one.pixels.std() > 5
  assert np.abs(one.pixels - other.pixels).max() <= 1


def assert_differ(one, other):
  assert np.abs(one.pixels - other.pixels).mean() > 1


BRIDGE = "--config.image_model.resolution=bridge"


def test_mv_asks_no_2d_model(draw):
  """It need not exist."""
  found = draw("mv", 0.5, image="nowhere")
  assert found.pixels.shape == (2, 16, 16, 3)
  assert found.files >= {"view_00.png", "view_01.png", "transforms.json"}
  assert found.record["score_weights"] == {"multiview": [1, 1]}
  assert found.record["settings"]["weights_sha256"].keys() == {"multiview"}


def test_2d_is_consistency_at_lambda_zero(draw):
  plain, consistent = draw("2d", 0.5), draw("consistency", 0)
  assert consistent.record["score_weights"] == {
    "multiview": [0, 0],
    "image": [1, 1],
    "single_view": [0, 0],
  }
  assert_same(plain, consistent)


def test_consistency_at_other_lambdas_sees_the_other_views(draw):
  found = draw("consistency", 0.8)
  assert found.record["score_weights"]["single_view"] == [-0.8, -0.8]
  assert found.record["settings"]["weights_sha256"].keys() == {
    "multiview",
    "image",
  }
  assert_differ(found, draw("consistency", 0))


def test_a_finer_2d_model_is_asked_over_the_bridge(draw, fine_image_model):
  """Views keep the multi-view model's size, and its picture at lambda 1."""
  bridged = functools.partial(draw, "mix", image=fine_image_model)
  alone = bridged(1, BRIDGE)
  assert_same(alone, draw("mv", 0.5, image="nowhere"))
  mixed = bridged(0.5, BRIDGE)
  assert mixed.record["settings"]["image_resolution"] == "bridge"
  assert mixed.pixels.shape == (2, 16, 16, 3)
  assert_differ(mixed, alone)
  assert_differ(mixed, bridged(0.5))
