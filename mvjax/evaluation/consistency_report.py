"""`launch.py evaluate consistency`: do views show one object?

Every figure of an asset is kept in a file of its own, so that a measurement
that is interrupted goes on where it stopped. Ground-truth renders are measured
beside the methods by the same code: they are the floor (or ceiling) of every
figure, since neither a field nor a feature matcher is perfect (`floors`).

An asset that cannot be measured stops nothing: the reason is kept in the place
of its figures and counted in the notes. Views that no object could have are
not spared, see `refit`.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tqdm

from mvjax import records
from mvjax.evaluation import (
  bootstrap,
  cost,
  epipolar_matches,
  floors,
  lpips,
  nominal_cameras,
  refit,
  report,
  reprojection,
  store,
  verdicts,
)
from mvjax.reconstruction import field
from mvjax.views import asset_views, choice

FLOOR = floors.LABEL
# Of the figures. Raise it when one changes: kept ones are then made again.
_VERSION = 2
_MIN_VIEWS = 3

Figures = dict[str, float]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Tools:
  """What figures are made with.

  Attributes:
    refit: how fields are fitted.
    folds: of the hold-out figures.
    lpips: from two batches of images to their LPIPS, or None to leave it out.
    true_masks: whether the alpha of transparent pictures is used. If not, masks
      are found from the background, as they must be for opaque pictures.
      `evaluate` decides it.
  """

  refit: refit.Refit
  folds: int = 4
  lpips: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
  true_masks: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """What `evaluate` measures.

  Attributes:
    metrics: keys of `METRICS`.
    floor: folder or data set of ground truth, or None.
    floor_assets: no more than so many of a data set.
    split, looks: of a data set.
    limit: no more assets of each method, spread evenly; None for all.
    holdout_limit: the same for `holdout`, which takes `folds` fits an asset.
  """

  metrics: tuple[str, ...] = ("mvc", "tsed")
  floor: str | None = None
  floor_assets: int = 20
  split: str = "held_out_objects"
  looks: tuple[str, ...] = ("full",)
  limit: int | None = None
  holdout_limit: int | None = 20

  def __post_init__(self):
    unknown = [name for name in self.metrics if name not in METRICS]
    if unknown or not self.metrics:
      raise ValueError(
        f"metrics={','.join(self.metrics)!r} must be some of "
        f"{', '.join(METRICS)}"
      )
    for name in ("floor_assets", "limit", "holdout_limit"):
      value = getattr(self, name)
      if value is not None and value < 1:
        raise ValueError(f"{name}={value}: must be 1 or more")


def evaluate(
  sets: Mapping[str, Sequence[asset_views.Asset]],
  settings: Settings,
  *,
  tools: Tools,
  out: str | os.PathLike,
) -> dict[str, Any]:
  """Measures every method and the floor; writes `<out>/consistency.json`.

  Args:
    sets: from the label of a method to its assets.
    settings: what to measure.
    tools: how.
    out: folder; the figures of every asset are kept in it and not made again.

  Raises:
    FileNotFoundError: a folder is missing.
    ValueError: an asset has no cameras or too few views; no asset of a method
      can be read; consistency.json is there and not ours.
  """
  out = pathlib.Path(out)
  records.check_own(out / "consistency.json", ("methods", "refit"))
  check(sets, settings, folds=tools.folds)
  chosen = {
    label: choice.evenly(found, settings.limit) for label, found in sets.items()
  }
  chosen |= open_floors(settings, sets)
  looks = {label: floors.look(assets) for label, assets in chosen.items()}
  # One opaque asset, and masks are found for all: others would gain by theirs.
  opaque = any(one.opaque for found in looks.values() for one in found)
  tools = dataclasses.replace(tools, true_masks=not opaque)
  methods = {}
  for label, assets in chosen.items():
    chosen[label], searched, lost = nominal_cameras.search(
      assets, kept=out / "cameras" / label, true_masks=tools.true_masks
    )
    methods[label] = {
      "folder": assets[0].source,
      "num_assets": len(assets),
      "num_images": sum(asset.num_views for asset in assets),
      "views": sorted({asset.num_views for asset in assets}),
      "kinds": sorted({floors.name(one.kind) for one in looks[label]}),
      "elevations": floors.elevations(looks[label]),
      "cameras_found": searched,
      "figures": {},
      "assets": {},
      "failures": {"cameras": {"of": len(assets), "reasons": lost}}
      if lost
      else {},
    }
  for name in settings.metrics:
    for label, assets in chosen.items():
      if name == "holdout":
        assets = choice.evenly(assets, settings.holdout_limit)
      kept = _measure(name, assets, tools=tools, label=label, out=out)
      rows = [row["figures"] for row in kept]
      methods[label]["figures"] |= _estimates(rows, assets)
      failed = {
        asset.name: row["failure"]
        for asset, row in zip(assets, kept, strict=True)
        if row["failure"]
      }
      if failed:
        methods[label]["failures"][name] = {
          "of": len(assets),
          "reasons": failed,
        }
      for asset, row in zip(assets, rows, strict=True):
        methods[label]["assets"].setdefault(asset.name, {}).update(row)
  for label, assets in chosen.items():
    figures = methods[label]["figures"] | cost.figures(assets)
    methods[label]["figures"] = {k: v.to_json() for k, v in figures.items()}
  notes = verdicts.judge(methods)
  content = {
    "refit": tools.refit.settings,
    "folds": tools.folds,
    "masks": "true alpha" if tools.true_masks else "found from the background",
    "intervals": "95 %, over assets, those of one prompt together",
    "notes": notes,
    "methods": methods,
  }
  store.write_json(out / "consistency.json", content)
  return content


def format_report(content: Mapping[str, Any]) -> str:
  """The report of `evaluate` for a terminal."""
  return "\n".join(
    [
      report.format_table(content["methods"]),
      f"±: {content['intervals']}",
      describe_cameras(content["methods"]),
      *content["notes"],
    ]
  )


def describe_cameras(methods: Mapping[str, Mapping[str, Any]]) -> str:
  """One line: from how high the views of all rows are taken."""
  return floors.format_elevations(
    {label: method["elevations"] for label, method in methods.items()}
  )


def with_lpips(
  cache: str | os.PathLike | None = None,
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
  """The LPIPS of pairs, one after the other: its maps are large."""
  params = lpips.load_weights(cache)

  def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    pairs = [
      lpips.distance(params, a[i : i + 1], b[i : i + 1]) for i in range(len(a))
    ]
    return np.concatenate([np.asarray(pair) for pair in pairs])

  return distances


def _masked(given: asset_views.Views, tools: Tools) -> asset_views.Views:
  if not tools.true_masks:
    given = dataclasses.replace(given, alpha=None)
  return asset_views.with_masks(given, allow_empty=True)


def _mvc(given: asset_views.Views, tools: Tools) -> Figures:
  """MVC, and what the fitted surface carries from view to view."""
  masked = _masked(given, tools)
  figures, rendered = refit.mvc(masked, tools.refit)
  depth = np.where(rendered.alpha > 0.5, rendered.depth, 0)
  figures |= reprojection.warp_error(given, depth)
  if tools.lpips is not None:
    figures |= reprojection.reprojection_lpips(given, depth, tools.lpips)
  if given.depth is not None:
    true = reprojection.warp_error(given, given.depth)
    figures["warp_error_true_depth"] = true["warp_error"]
  return figures


METRICS: Mapping[str, Callable[[asset_views.Views, Tools], Figures]] = {
  "mvc": _mvc,
  "holdout": lambda given, tools: refit.hold_out(
    _masked(given, tools), tools.refit, folds=tools.folds
  ),
  "halves": lambda given, tools: refit.halves(
    _masked(given, tools), tools.refit
  ),
  "tsed": lambda given, tools: epipolar_matches.tsed(given),
}
"""The figures of one asset's views; each entry is kept by itself."""


def _measure(
  name: str,
  assets: Sequence[asset_views.Asset],
  *,
  tools: Tools,
  label: str,
  out: pathlib.Path,
) -> list[dict[str, Any]]:
  """One metric of all assets; those that are kept are not made again.

  Returns:
    For each asset its 'figures', and as 'failure' the reason if they are
    missing or those of a failure; else None.
  """
  settings: Any = [_VERSION]
  if name != "tsed":
    settings += [tools.refit.settings, tools.true_masks]
    settings += [tools.folds if name == "holdout" else None]
    settings += [name == "mvc" and tools.lpips is not None]
  kept = store.Store(out / name / label)
  rows = []
  for asset in tqdm.tqdm(assets, desc=f"{name}: {label}", unit="asset"):
    key = store.make_key(asset.digest, settings)
    row = kept.read_json(asset.name, key=key)
    if row is None:
      row = _attempt(name, asset, tools)
      kept.write_json(asset.name, row, key=key)
    rows.append(row)
  return rows


def _attempt(
  name: str, asset: asset_views.Asset, tools: Tools
) -> dict[str, Any]:
  """One metric of one asset, whatever its views are; see `_measure`."""
  failures, own_fit = [], tools.refit.fit

  def fit(given: asset_views.Views) -> Any:
    try:
      return own_fit(given)
    except field.EmptyHullError as error:
      failures.append(str(error))
      raise  # It has a score, see `refit`.

  noting = dataclasses.replace(tools.refit, fit=fit)
  tools = dataclasses.replace(tools, refit=noting)
  try:
    found = METRICS[name](asset.read(), tools)
  except ValueError as error:
    found = {}
    failures.append(str(error))
  return {
    "figures": {k: v if np.isfinite(v) else None for k, v in found.items()},
    "failure": failures[0] if failures else None,
  }


def _estimates(
  rows: Sequence[Mapping[str, float | None]],
  assets: Sequence[asset_views.Asset],
) -> dict[str, bootstrap.Estimate]:
  """Means over the assets that have a figure."""
  found = {}
  for name in dict.fromkeys(name for row in rows for name in row):
    pairs = [
      (row[name], asset.num_views, asset.cluster)
      for row, asset in zip(rows, assets, strict=True)
      if row.get(name) is not None
    ]
    if pairs:
      values, counts, clusters = zip(*pairs, strict=True)
      found[name] = bootstrap.mean(
        values, num_images=sum(counts), clusters=clusters
      )
  return found


def open_floors(
  settings: Settings, sets: Mapping[str, Sequence[asset_views.Asset]]
) -> dict[str, list[asset_views.Asset]]:
  """Ground truth of each kind that the measured assets have, by its label."""
  if settings.floor is None:
    return {}
  found = floors.open_all(
    settings.floor,
    [
      one
      for assets in sets.values()
      for one in floors.look(choice.evenly(assets, settings.limit))
    ],
    limit=settings.floor_assets,
    split=settings.split,
    looks_of_set=settings.looks,
  )
  for label, assets in found.items():
    _check_assets(label, assets)
  return found


def check(
  sets: Mapping[str, Sequence[asset_views.Asset]],
  settings: Settings,
  *,
  folds: int,
) -> None:
  """Raises ValueError where views cannot be measured for certain.

  Args:
    sets: from the label of a method to its assets.
    settings: what is to be measured.
    folds: of the hold-out figures.
  """
  floors.check_labels(list(sets))
  for label, assets in sets.items():
    assets = choice.evenly(assets, settings.limit)
    _check_assets(label, assets)
    if "holdout" in settings.metrics:
      for asset in choice.evenly(assets, settings.holdout_limit):
        try:
          refit.check_folds(folds, asset.num_views)
        except ValueError as error:
          raise ValueError(f"{label}, {asset.name}: {error}") from error


def check_views(views: int, settings: Settings, *, folds: int) -> None:
  """Raises ValueError if so many views of an asset cannot be measured."""
  if views < _MIN_VIEWS:
    raise ValueError(
      f"consistency needs {_MIN_VIEWS} views or more, there are {views}"
    )
  if "holdout" in settings.metrics:
    refit.check_folds(folds, views)


def _check_assets(label: str, assets: Sequence[asset_views.Asset]) -> None:
  for asset in assets:
    if not asset.has_cameras:
      raise ValueError(
        f"{label}, {asset.name}: consistency needs cameras; put a "
        "transforms.json beside the views"
      )
    if asset.num_views < _MIN_VIEWS:
      raise ValueError(
        f"{label}, {asset.name}: consistency needs {_MIN_VIEWS} views or "
        f"more, there are {asset.num_views}"
      )
