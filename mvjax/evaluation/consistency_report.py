"""`launch.py evaluate consistency`: do views show one object?

Every figure of an asset is kept in a file of its own, so that a measurement
that is interrupted goes on where it stopped. Ground-truth renders are measured
beside the methods by the same code: they are the floor (or ceiling) of every
figure, since neither a field nor a feature matcher is perfect.
"""

import dataclasses
import math
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tqdm

from mvjax import view_sets
from mvjax.evaluation import (
  bootstrap,
  cost,
  epipolar_matches,
  lpips,
  refit,
  report,
  reprojection,
  store,
)

FLOOR = "ground truth"
_MIN_VIEWS = 3
# Fewer views hardly contradict each other: the fit absorbs it.
_TELLING_VIEWS = 8

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


def evaluate(
  sets: Mapping[str, Sequence[view_sets.Asset]],
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
    ValueError: an asset has no cameras or too few views.
  """
  if FLOOR in sets:
    raise ValueError(f"samples: the label {FLOOR!r} is taken; choose another")
  out = pathlib.Path(out)
  sets = {label: some(found, settings.limit) for label, found in sets.items()}
  for label, assets in sets.items():
    _check(label, assets)
  if settings.floor is not None:
    sets[FLOOR] = open_floor(settings, next(iter(sets.values())))
    _check(FLOOR, sets[FLOOR])
  methods = {
    label: {
      "folder": assets[0].source,
      "num_assets": len(assets),
      "num_images": sum(asset.num_views for asset in assets),
      "views": sorted({asset.num_views for asset in assets}),
      "figures": {},
      "assets": {},
    }
    for label, assets in sets.items()
  }
  # One opaque set, and masks are found for all: floors would gain by theirs.
  opaque = any(assets[0].read().alpha is None for assets in sets.values())
  tools = dataclasses.replace(tools, true_masks=not opaque)
  for name in settings.metrics:
    for label, assets in sets.items():
      if name == "holdout":
        assets = some(assets, settings.holdout_limit)
      rows = _measure(name, assets, tools=tools, label=label, out=out)
      methods[label]["figures"] |= _estimates(rows, assets)
      for asset, row in zip(assets, rows, strict=True):
        methods[label]["assets"].setdefault(asset.name, {}).update(row)
  for label, assets in sets.items():
    figures = methods[label]["figures"] | cost.figures(assets)
    methods[label]["figures"] = {k: v.to_json() for k, v in figures.items()}
  notes = _judge(methods)
  content = {
    "refit": tools.refit.settings,
    "folds": tools.folds,
    "masks": "true alpha" if tools.true_masks else "found from the background",
    "intervals": "95 %, over assets",
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
      *content["notes"],
    ]
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


def _masked(given: view_sets.Views, tools: Tools) -> view_sets.Views:
  if not tools.true_masks:
    given = dataclasses.replace(given, alpha=None)
  return view_sets.with_masks(given)


def _mvc(given: view_sets.Views, tools: Tools) -> Figures:
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


METRICS: Mapping[str, Callable[[view_sets.Views, Tools], Figures]] = {
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
  assets: Sequence[view_sets.Asset],
  *,
  tools: Tools,
  label: str,
  out: pathlib.Path,
) -> list[Figures]:
  """One metric of all assets; those that are kept are not made again."""
  settings: Any = None
  if name != "tsed":
    settings = [tools.refit.settings, tools.true_masks]
    settings += [tools.folds if name == "holdout" else None]
    settings += [name == "mvc" and tools.lpips is not None]
  kept = store.Store(out / name / label)
  rows = []
  for asset in tqdm.tqdm(assets, desc=f"{name}: {label}", unit="asset"):
    key = store.make_key(asset.digest, settings)
    figures = kept.read_json(asset.name, key=key)
    if figures is None:
      try:
        found = METRICS[name](asset.read(), tools)
      except ValueError as error:
        raise ValueError(f"{label}, {asset.name}: {error}") from error
      figures = {k: v if np.isfinite(v) else None for k, v in found.items()}
      kept.write_json(asset.name, figures, key=key)
    rows.append(figures)
  return rows


def _estimates(
  rows: Sequence[Mapping[str, float | None]], assets: Sequence[view_sets.Asset]
) -> dict[str, bootstrap.Estimate]:
  """Means over the assets that have a figure."""
  found = {}
  for name in dict.fromkeys(name for row in rows for name in row):
    pairs = [
      (row[name], asset.num_views)
      for row, asset in zip(rows, assets, strict=True)
      if row.get(name) is not None
    ]
    if pairs:
      values, counts = zip(*pairs, strict=True)
      found[name] = bootstrap.mean(values, num_images=sum(counts))
  return found


def _judge(methods: Mapping[str, dict[str, Any]]) -> list[str]:
  """Adds MVC above its floor, drops what says nothing; returns notes."""
  notes = []
  floor = methods.get(FLOOR, {}).get("figures", {})
  for name in ("mvc", "holdout"):
    for label, method in methods.items():
      own, base = method["figures"].get(name), floor.get(name)
      if own and base and label != FLOOR:
        method["figures"][f"{name} above floor"] = own | _above(own, base)
  if floor.get("tsed", {}).get("value", 1.0) < epipolar_matches.LEAST_USEFUL:
    value = floor["tsed"]["value"]
    for method in methods.values():
      method["figures"]["tsed"] = None
    notes.append(
      f"tsed is left out: ground truth itself scores {value:.2f}, below "
      f"{epipolar_matches.LEAST_USEFUL}"
    )
  if not floor:
    notes.append(
      "no floor: give --floor (ground-truth renders) to know how much of a "
      "figure the measurement itself causes"
    )
  few = min(count for m in methods.values() for count in m["views"])
  if few < _TELLING_VIEWS:
    notes.append(
      f"{few} views: a fitted field absorbs most inconsistency below "
      f"{_TELLING_VIEWS} views"
    )
  return notes


def _above(
  own: Mapping[str, Any], base: Mapping[str, Any]
) -> dict[str, float | None]:
  """The difference; independent intervals add by squares."""
  value = own["value"] - base["value"]
  if own["high"] is None or base["high"] is None:
    return {"value": value, "low": None, "high": None}
  reach = math.hypot(own["high"] - own["value"], base["high"] - base["value"])
  return {"value": value, "low": value - reach, "high": value + reach}


def open_floor(
  settings: Settings, like: Sequence[view_sets.Asset]
) -> list[view_sets.Asset]:
  """Ground truth with as many views as most of these assets have."""
  counts = [asset.num_views for asset in like]
  return view_sets.open_set(
    settings.floor,
    limit=settings.floor_assets,
    num_views=max(set(counts), key=counts.count),
    split=settings.split,
    looks=settings.looks,
  )


def some(
  assets: Sequence[view_sets.Asset], limit: int | None
) -> Sequence[view_sets.Asset]:
  """No more than `limit`, spread evenly."""
  if limit is None or limit >= len(assets):
    return assets
  places = (np.arange(limit) + 0.5) * len(assets) / limit
  return [assets[int(place)] for place in places]


def _check(label: str, assets: Sequence[view_sets.Asset]) -> None:
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
