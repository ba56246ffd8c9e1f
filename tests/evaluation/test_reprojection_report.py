"""Reprojection figures reach the report: true depths beside those of the fit.

The views are of planted boxes; the stand-in fit knows them, and can be told a
depth that is wrong.
"""

import fake_assets
import numpy as np
import planted
import pytest
from PIL import Image

from data_pipeline.renders import rendered_object
from mvjax.evaluation import consistency_report as lib
from mvjax.evaluation import refit, reprojection
from mvjax.views import asset_views, view_sets

SIZE = 48


@pytest.fixture(scope="module")
def truth():
  camera = planted.orbits(8, elevations=(0.3,))
  return planted.views(planted.two_boxes(), camera, size=SIZE)


@pytest.fixture(scope="module")
def folder(truth, tmp_path_factory):
  """The boxes, and the boxes with a tint in every second view."""
  home = tmp_path_factory.mktemp("boxes")
  tint = np.where(np.arange(8) % 2 == 0, 0.0, 0.3)[:, None, None, None]
  inside = truth.alpha[..., None] > 0.5
  tinted = np.where(inside, np.clip(truth.image + tint, -1, 1), truth.image)
  for name, image in (("true", truth.image), ("tinted", tinted)):
    views = asset_views.Views(
      image=image, alpha=truth.alpha, camera=truth.camera
    )
    fake_assets.write(home / name / "boxes", views)
    for i, depth in enumerate(truth.depth):
      levels = np.round(depth * rendered_object.DEPTH_SCALE).astype(np.uint16)
      Image.fromarray(levels).save(home / name / f"boxes/depth_{i:02d}.png")
  return home


def evaluate(folder, truth, out, *, depth=1.0, lpips=None):
  """Figures of both sets; the fit's depths are `depth` times the true ones."""

  def render(_, given):
    return refit.Rendered(truth.image, truth.alpha, depth * truth.depth)

  stand_in = refit.Refit(
    fit=lambda given: None, render=render, settings=[depth]
  )
  report = lib.evaluate(
    {name: view_sets.open_set(folder / name) for name in ("true", "tinted")},
    lib.Settings(metrics=("mvc",), floor=None),
    tools=lib.Tools(refit=stand_in, lpips=lpips),
    out=out,
  )
  return {
    label: {
      name: estimate["value"] for name, estimate in method["figures"].items()
    }
    for label, method in report["methods"].items()
  }


def test_true_depths_measure_the_views_and_not_the_fit(folder, truth, tmp_path):
  good = evaluate(folder, truth, tmp_path)
  wrong = evaluate(folder, truth, tmp_path, depth=0.9)
  for name in ("true", "tinted"):
    same = [found[name]["warp_error_true_depth"] for found in (good, wrong)]
    assert same[0] == pytest.approx(same[1])
    # The stand-in's depths are the true ones, but for the file's rounding.
    assert good[name]["warp_error"] == pytest.approx(same[0], rel=0.05)
    assert wrong[name]["warp_error"] != pytest.approx(same[0], rel=0.05)
  errors = [good[n]["warp_error_true_depth"] for n in ("true", "tinted")]
  # A tint of 0.3 in [-1, 1] is 0.15, less where colours are cut off.
  assert 0.08 < errors[1] - errors[0] < 0.16


def test_lpips_is_of_reprojections_by_the_depths_of_the_fit(
  folder, truth, tmp_path
):
  batches = []

  def squares(a, b):
    assert a.shape == b.shape == (16, SIZE, SIZE, 3)  # both ways
    batches.append(len(a))
    return ((a - b) ** 2).mean((1, 2, 3))

  found = evaluate(folder, truth, tmp_path, lpips=squares)
  assert len(batches) == 2
  expected = reprojection.reprojection_lpips(truth, truth.depth, squares)
  assert found["true"]["reprojection_lpips"] == pytest.approx(
    expected["reprojection_lpips"], rel=0.05
  )
  tinted = found["tinted"]["reprojection_lpips"]
  assert tinted > 1.5 * found["true"]["reprojection_lpips"]
  without = evaluate(folder, truth, tmp_path)
  assert "reprojection_lpips" not in without["true"]
