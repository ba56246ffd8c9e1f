"""Consistency as what one radiance field can explain.

**MVC** ("multi-view consistency" of the paper this project follows, which says
only: construct a 3D asset, measure the reprojection error). Ours: fit a
radiance field without view-dependent colour to all views, render it at their
cameras, and take the mean absolute difference inside the union of the views'
and the renders' masks, in [0, 1] colours. 0 is perfect.

A field of finite resolution cannot reproduce even real views: the same figure
of ground-truth renders is the floor, and only what lies above it says something
about a method. With few views (4 at right angles) there is hardly anything to
contradict, and the fit hides most inconsistency: measure at 8 or more.

**Hold-out MVC** fits some views and predicts the others, in turns: harder, and
sensitive to geometry that no fitted view contradicts. **Halves** fits one field
to every other view around the object and one to the rest, and compares them
at all cameras (MVGBench, arXiv:2507.00006, odd against even views): colours as
PSNR, depths as mean absolute difference in units of the camera's distance,
where both see a surface.

Views whose masks have no point in common have no field: it then shows the
background and nothing else, and every pixel of the object is an error. Where
neither views nor field show anything, the figures are the worst there are: 1
(MVC) and 0 (PSNR, SSIM). So no failure makes a mean better.

How fields are fitted and rendered is passed in (`of_field` is the project's
own way); all methods of a comparison must use the same.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from mvjax import pixel_metrics
from mvjax.reconstruction import field
from mvjax.views import asset_views

_SEEN = 0.5


class Rendered(NamedTuple):
  """What a field shows.

  Attributes:
    image: in [-1, 1].
    alpha: coverage in [0, 1].
    depth: along the camera's z axis; without meaning where nothing is seen.
  """

  image: Float[np.ndarray, "v h w 3"]
  alpha: Float[np.ndarray, "v h w"]
  depth: Float[np.ndarray, "v h w"]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Refit:
  """How to make a field of views and views of a field.

  Attributes:
    fit: from views with alpha and cameras to a field; may raise
      `field.EmptyHullError`.
    render: from a field and views to what the field shows at their cameras,
      in their size and on their background.
    settings: all that decides both, as JSON values.
  """

  fit: Callable[[asset_views.Views], Any]
  render: Callable[[Any, asset_views.Views], Rendered]
  settings: Any = None


def of_field(settings: field.Settings | None = None) -> Refit:
  """Fits of `reconstruction.field`; views must be square."""
  chosen = settings or field.Settings()

  def fit(given: asset_views.Views) -> field.Field:
    height, width = given.image.shape[1:3]
    if height != width:
      raise ValueError(f"views are {width}x{height} pixels, must be square")
    return field.fit(
      given.image,
      given.alpha,
      given.camera,
      chosen,
      background=given.background,
    )

  def render(found: field.Field, given: asset_views.Views) -> Rendered:
    seen = field.render(
      found,
      given.camera,
      given.image.shape[1],
      background=given.background,
    )
    return Rendered(*(np.asarray(part) for part in seen))

  decisive = {"version": field.VERSION, **dataclasses.asdict(chosen)}
  return Refit(fit=fit, render=render, settings=decisive)


def mvc(
  given: asset_views.Views, refit: Refit
) -> tuple[dict[str, float], Rendered]:
  """MVC of views with alpha and cameras, and the renders behind it."""
  rendered = _fit_and_render(given, given, refit)
  return _errors(given, rendered, "mvc"), rendered


def hold_out(
  given: asset_views.Views, refit: Refit, *, folds: int = 4
) -> dict[str, float]:
  """MVC of views that the field was not fitted to.

  Args:
    given: views with alpha and cameras.
    refit: how to fit.
    folds: every fold leaves out every folds-th view around the object, and
      all folds the same number if `folds` divides the views: then one program
      is compiled.

  Raises:
    ValueError: see `check_folds`.
  """
  order = asset_views.ring_order(given.camera)
  check_folds(folds, len(order))
  parts = []
  for fold in range(folds):
    out = sorted(order[fold::folds])
    kept = [i for i in range(len(order)) if i not in out]
    target = asset_views.take(given, out)
    rendered = _fit_and_render(asset_views.take(given, kept), target, refit)
    parts.append(_errors(target, rendered, "holdout"))
  return {key: _mean([part[key] for part in parts]) for key in parts[0]}


def check_folds(folds: int, views: int) -> None:
  """Raises ValueError if a fold would leave out none, or all but one, view."""
  if not 2 <= folds <= views or views - -(-views // folds) < 2:
    raise ValueError(
      f"folds={folds}: {views} views cannot be left out in so many turns; "
      f"choose 2 to the number of views, and 3 views or more"
    )


def halves(given: asset_views.Views, refit: Refit) -> dict[str, float]:
  """Agreement of two fields, of the odd and of the even views."""
  order = asset_views.ring_order(given.camera)
  a, b = (
    _fit_and_render(asset_views.take(given, sorted(half)), given, refit)
    for half in (order[::2], order[1::2])
  )
  seen = (a.alpha > _SEEN) | (b.alpha > _SEEN)
  both = (a.alpha > _SEEN) & (b.alpha > _SEEN)
  distance = np.linalg.norm(
    np.asarray(given.camera.camera_to_world)[:, :3, 3], axis=-1
  )
  depth = np.abs(a.depth - b.depth) / distance[:, None, None]
  return {
    "halves_psnr": pixel_metrics.psnr(a.image, b.image, seen)
    if seen.any()
    else 0.0,
    "halves_depth_l1": _mean(depth[both]),
    "halves_overlap": float(both.sum() / max(1, seen.sum())),
  }


def _fit_and_render(
  source: asset_views.Views, target: asset_views.Views, refit: Refit
) -> Rendered:
  try:
    fitted = refit.fit(source)
  except field.EmptyHullError:
    return _nothing(target)
  return refit.render(fitted, target)


def _nothing(target: asset_views.Views) -> Rendered:
  """The background of the views."""
  shape = target.image.shape
  colour = np.ones((shape[0], 3), np.float32)
  if target.background is not None:
    colour = np.asarray(target.background, np.float32)
  empty = np.zeros(shape[:3], np.float32)
  image = np.broadcast_to(colour[:, None, None], shape)
  return Rendered(np.ascontiguousarray(image), empty, empty)


def _errors(
  given: asset_views.Views, rendered: Rendered, name: str
) -> dict[str, float]:
  union = (np.asarray(given.alpha) > _SEEN) | (rendered.alpha > _SEEN)
  if not union.any():
    scores = ("psnr", "psnr_object", "ssim")
    return {name: 1.0, **{f"{name}_{score}": 0.0 for score in scores}}
  return {
    name: pixel_metrics.l1(given.image, rendered.image, union),
    f"{name}_psnr": pixel_metrics.psnr(given.image, rendered.image),
    f"{name}_psnr_object": pixel_metrics.psnr(
      given.image, rendered.image, union
    ),
    f"{name}_ssim": pixel_metrics.ssim(given.image, rendered.image),
  }


def _mean(values) -> float:
  return float(np.mean(values)) if len(values) else float("nan")
