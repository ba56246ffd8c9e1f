"""MVC where the refit is known, and with the project's own field.

The stand-in knows the ball's shape and fits one colour to it, the mean of what
it was shown: every figure then follows from the colours of the views.
"""

import dataclasses

import fake_assets
import numpy as np
import pytest
from scipy import ndimage

from mvjax.evaluation import refit
from mvjax.reconstruction import field
from mvjax.views import asset_views


def fit_mean(given):
  return given.image[given.alpha > 0.5].mean(0)


def render_ball(colour, given):
  size = given.image.shape[1]
  depth = fake_assets.sphere_depth(given.camera, size)
  alpha = (depth > 0).astype(np.float32)
  image = np.where(alpha[..., None] > 0, colour, 1.0).astype(np.float32)
  return refit.Rendered(image, alpha, depth)


STAND_IN = refit.Refit(fit=fit_mean, render=render_ball)
TINTS = np.array([0.2, -0.2, 0.2, -0.2, 0.6, -0.6, 0.0, 0.0])


@pytest.fixture
def ball():
  return fake_assets.ball(8, size=32, colours=TINTS)


def test_mvc_is_the_mean_deviation(ball):
  """The mean colour is 0, so it is mean |tint| in units of [0, 1]."""
  found, rendered = refit.mvc(ball, STAND_IN)
  assert found["mvc"] == pytest.approx(np.abs(TINTS).mean() / 2, rel=1e-3)
  square = (TINTS**2).mean() / 4
  assert found["mvc_psnr_object"] == pytest.approx(
    -10 * np.log10(square), rel=1e-3
  )
  # Over the whole picture white agrees, too.
  assert found["mvc_psnr"] > found["mvc_psnr_object"] + 3
  np.testing.assert_allclose(rendered.image[0][16, 16], 0, atol=1e-5)


def test_hold_out_predicts_what_was_not_fitted():
  """Fold k of 4 leaves out views k and k + 4; the others have other means."""
  tints = np.array([0.4, 0, 0, 0, 0.4, 0, 0, 0])
  found = refit.hold_out(
    fake_assets.ball(8, size=32, colours=tints), STAND_IN, folds=4
  )
  # 0.4 against 0, and three times 0 against 2 x 0.4 / 6.
  expected = (0.4 + 3 * 0.8 / 6) / 4 / 2
  assert found["holdout"] == pytest.approx(expected, rel=1e-2)


def test_halves_compare_every_other_view():
  tints = np.where(np.arange(8) % 2 == 0, 0.3, -0.1)
  found = refit.halves(fake_assets.ball(8, size=32, colours=tints), STAND_IN)
  assert found["halves_psnr"] == pytest.approx(-20 * np.log10(0.2), rel=1e-3)
  assert found["halves_depth_l1"] == pytest.approx(0, abs=1e-6)
  assert found["halves_overlap"] == 1


def test_disagreeing_shapes_have_depth_differences(ball):
  """One half 0.3 nearer, at a distance of 3: a tenth."""

  def render(colour, given):
    seen = render_ball(colour, given)
    return seen._replace(depth=seen.depth + 0.3 * (colour[0] > 0))

  tints = np.where(np.arange(8) % 2 == 0, 0.3, -0.1)
  found = refit.halves(
    fake_assets.ball(8, size=32, colours=tints),
    refit.Refit(fit=fit_mean, render=render),
  )
  assert found["halves_depth_l1"] == pytest.approx(0.1, rel=1e-4)


@pytest.mark.parametrize("views, folds", [(3, 2), (3, 4), (2, 2), (8, 1)])
def test_folds_that_leave_nothing_are_refused(views, folds):
  with pytest.raises(ValueError, match=f"folds={folds}: {views} views"):
    refit.hold_out(fake_assets.ball(views, size=8), STAND_IN, folds=folds)


@pytest.fixture(scope="module")
def own_field():
  return refit.of_field(field.Settings(grid=32, samples=16, rays=512, steps=80))


@pytest.fixture(scope="module")
def ground_truth():
  camera = fake_assets.ball(8, size=48, elevation=20.0)
  return dataclasses.replace(camera, depth=None)


def tinted(given, amount, rng):
  tint = rng.standard_normal((8, 1, 1, 3)) * 2 * amount
  return np.clip(given.image + tint, -1, 1)


def retextured(given, amount, rng):
  noise = ndimage.gaussian_filter(
    rng.standard_normal(given.image.shape), (0, 3, 3, 0)
  )
  return np.clip(given.image + noise / noise.std() * 2 * amount, -1, 1)


def shifted(given, amount, rng):
  moves = rng.standard_normal((8, 2)) * amount
  return np.stack(
    [
      ndimage.shift(image, (*move, 0), order=1, cval=1.0)
      for image, move in zip(given.image, moves, strict=True)
    ]
  )


@pytest.mark.parametrize(
  "change, amounts",
  [(tinted, (0.06, 0.2)), (retextured, (0.08, 0.25)), (shifted, (0.8, 2.4))],
)
def test_mvc_rises_with_inconsistency(ground_truth, own_field, change, amounts):
  """Eight views; the first figure is the floor, of the views as they are."""
  found = [refit.mvc(ground_truth, own_field)[0]["mvc"]]
  for amount in amounts:
    image = change(ground_truth, amount, np.random.default_rng(0))
    inside = ground_truth.alpha
    if change is shifted:
      moved = change(
        asset_views.Views(image=np.repeat(1 - 2 * inside[..., None], 3, -1)),
        amount,
        np.random.default_rng(0),
      )
      inside = (1 - moved[..., 0]) / 2
    else:
      image = np.where(inside[..., None] > 0.5, image, 1.0)
    broken = dataclasses.replace(
      ground_truth,
      image=image.astype(np.float32),
      alpha=inside.astype(np.float32),
    )
    found.append(refit.mvc(broken, own_field)[0]["mvc"])
  assert found[0] < 0.06
  assert found[1] > 1.05 * found[0] and found[2] > 1.2 * found[1], found
