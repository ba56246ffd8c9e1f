"""Is a view recognisable? Does it find its words among those of our captions.

Two questions, for a prompt such as "a red leather sofa":

* name: which of the 20 most frequent names of objects is it;
* material: which of the materials of the data set is it made of.

A word is represented by the mean feature of real renders of the objects that
have it, and a view retrieves the words in order of cosine similarity (on real
renders this found a little more than Euclidean distance did). Pairs of a name
and a material that were held out from the multi-view model are not among the
renders. Figures:

* R@k: share of views whose right word is among the first k, averaged over
  words, so that a word with many objects weighs no more than another; the
  interval is over assets;
* the ceiling: the same for the real renders, each object against references
  that do not contain it, over words with two objects or more. Names that share
  a shape (sofa, couch) bound it, as do materials that are alike;
* chance: k / number of words.

The names are those with the most training objects whose captions contain the
name: an object that its captions call otherwise ("female": "a woman") could not
be asked for. Look-alikes are not weeded out.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data_pipeline import decoding, loader
from mvjax.evaluation import (
  bootstrap,
  nearest_mean,
  networks,
  render_words,
  store,
)
from mvjax.evaluation import report as report_tools
from mvjax.views import asset_views, view_sets

NAME = "EfficientNet-Lite0, 1280 pooled features"
# The stored size of the renders.
IMAGE_SIZE = 128
FIGURES = {"name": "retrieval", "material": "material retrieval"}
"""What figures are called, by the kind of words that are retrieved."""


class NothingAskedError(ValueError):
  """No prompt of the samples has one of the words."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class References:
  """Real renders of the words, prepared for any number of sample folders.

  Attributes:
    kind: key of `FIGURES`.
    words: the words to tell apart.
    network: of the features.
    views: features of the renders.
    about: what the report says of them.
    ceiling: recalls of the renders themselves; None if every word has one
      object.
  """

  kind: str
  words: list[str]
  network: networks.Network
  views: nearest_mean.Labelled
  about: Mapping[str, Any]
  ceiling: Mapping[str, bootstrap.Estimate] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
  """What samples reach.

  Attributes:
    sampled: R@k by name.
    per_word: R@k of each word that was asked for.
    num_views, num_assets: measured.
    seeds: of the assets, where their records tell.
  """

  sampled: Mapping[str, bootstrap.Estimate]
  per_word: Mapping[str, Mapping[str, float]]
  num_views: int
  num_assets: int
  seeds: list[int]


def prepare(
  dataset: str | os.PathLike,
  kept: networks.Kept,
  *,
  names: Sequence[str] | None = None,
  num_names: int = 20,
  looks: tuple[str, ...] = ("full", "retextured"),
  reference_views: int = 4,
  cache: str | os.PathLike | None = None,
) -> list[References]:
  """Features of real renders, for each kind of words that the data set has.

  Args:
    dataset: data set of real renders; its training split is used.
    kept: where features are.
    names: the names to tell apart, the most frequent ones if None.
    num_names: how many of these.
    looks: looks of the renders.
    reference_views: renders used of every (object, look), spread evenly.
    cache: see `package_weights.fetch`.

  Raises:
    ValueError: if a name has no renders, or there are too few names.
  """
  settings = render_words.settings(dataset, looks)
  records = loader.records(settings)
  names = [name.strip().casefold() for name in names or ()]
  names = names or render_words.frequent_names(records, num_names)
  if len(names) < 2:
    raise ValueError(f"names: one of {len(names)} cannot be missed; give two")
  asked_of = {
    "name": [render_words.name_of(record) for record in records],
    "material": [render_words.material_of(record) for record in records],
  }
  absent = sorted(set(names) - set(asked_of["name"]))
  if absent:
    raise ValueError(f"names {', '.join(absent)}: no reference renders")
  materials = sorted(set(asked_of["material"]) - {""})
  version = loader.fingerprint(settings)["source_digest"]
  network = networks.lite0(cache, size=IMAGE_SIZE)
  found = []
  for kind, words in (("name", names), ("material", materials)):
    if len(words) < 2:  # a data set without materials
      continue
    chosen = [i for i, word in enumerate(asked_of[kind]) if word in words]
    renders = [
      _render(records, i, version=version, num_views=reference_views)
      for i in chosen
    ]
    views = _labelled(
      kept.features(renders, network, f"renders by {kind}"),
      labels=[words.index(asked_of[kind][i]) for i in chosen],
      objects=[render.record["uid"] for render in renders],
    )
    about = {
      "dataset": str(dataset),
      "looks": sorted({render.record["look"] for render in renders}),
      "num_renders": len(views.labels),
      "num_objects": len(set(views.objects.tolist())),
    }
    found.append(
      References(
        kind=kind,
        words=words,
        network=network,
        views=views,
        about=about,
        ceiling=_ceiling(views, len(words)),
      )
    )
  return found


def evaluate(
  samples: str | os.PathLike | None,
  dataset: str | os.PathLike,
  *,
  features: str | os.PathLike,
  out: str | os.PathLike | None = None,
  **options: Any,
) -> dict[str, Any]:
  """Retrieval of the words of sampled views by real renders.

  Args:
    samples: folder of sample folders; None for the ceiling alone.
    dataset: data set of real renders.
    features: folder where features are kept.
    out: JSON file for the result, or None.
    **options: of `prepare`.

  Returns:
    The figures by kind, their chance level and their ceiling (None if every
    word has one object), and all that they depend on.

  Raises:
    NothingAskedError: no prompt has one of the words of any kind.
    ValueError: see `prepare`.
  """
  kept = networks.Kept(features)
  content, unasked = {"features": NAME, "scores": {}, "notes": []}, []
  assets = None
  if samples is not None:
    every = view_sets.open_set(samples)
    assets, reasons = networks.measurable(every)
    if not assets:
      reason = next(iter(reasons.values()))
      raise ValueError(f"samples={samples}: none can be measured; {reason}")
    failed = {"retrieval": {"of": len(every), "reasons": reasons}}
    content["notes"] = report_tools.failure_notes(
      {"samples": {"failures": failed if reasons else {}}}
    )
  for references in prepare(dataset, kept, **options):
    result = {}
    if assets is not None:
      try:
        found = score(assets, references, kept, label="samples")
      except NothingAskedError as error:
        unasked.append(error)
        continue
      result = dataclasses.asdict(found)
    count = len(references.words)
    content["scores"][references.kind] = {
      "words": references.words,
      "reference": dict(references.about),
      "ceiling": references.ceiling and _as_json(references.ceiling),
      "chance": {f"R@{k}": min(1.0, k / count) for k in nearest_mean.CUTOFFS},
      **result,
    }
  if not content["scores"]:
    raise unasked[0]
  if out:
    store.write_json(out, content)
  return content


def score(
  assets: Sequence[asset_views.Asset],
  references: References,
  kept: networks.Kept,
  *,
  label: str,
) -> Score:
  """How well views of assets whose prompt has one of the words find it.

  Args:
    assets: any samples.
    references: from `prepare`.
    kept: where features are.
    label: of the progress bar.

  Raises:
    NothingAskedError: if there is no such asset.
  """
  words = references.words
  asked = [
    (asset, render_words.find_word(asset.prompt, words)) for asset in assets
  ]
  assets = [asset for asset, word in asked if word]
  if not assets:
    raise NothingAskedError(
      f"samples: no prompt has one of the {references.kind}s "
      f"{', '.join(words)}; sample those of `launch.py evaluate "
      "retrieval-prompts`"
    )
  views = _labelled(
    kept.features(assets, references.network, label),
    labels=[words.index(word) for _, word in asked if word],
    objects=list(range(len(assets))),
  )
  ranks = nearest_mean.retrieval_ranks(
    views, references.views, num_classes=len(words)
  )
  return Score(
    sampled=nearest_mean.recalls(
      ranks,
      views.labels,
      views.objects,
      clusters=[asset.cluster for asset in assets],
    ),
    per_word={
      words[i]: {
        f"R@{k}": float(np.mean(ranks[views.labels == i] < k))
        for k in nearest_mean.CUTOFFS
      }
      for i in sorted(set(views.labels.tolist()))
    },
    num_views=len(ranks),
    num_assets=len(assets),
    seeds=sorted({a.record["seed"] for a in assets if "seed" in a.record}),
  )


def format_table(report: Mapping[str, Any]) -> str:
  """The report of `evaluate` for a terminal."""
  lines = []
  for kind, found in report["scores"].items():
    lines.append(f"{kind}, one of {len(found['words'])}")
    lines.append(
      f"{'':10}" + "".join(f"{f'R@{k}':>16}" for k in nearest_mean.CUTOFFS)
    )
    for row in ("sampled", "ceiling", "chance"):
      if found.get(row):
        cells = (_cell(found[row][f"R@{k}"]) for k in nearest_mean.CUTOFFS)
        lines.append(f"{row:10}" + "".join(f"{cell:>16}" for cell in cells))
    if "sampled" in found:
      lines.append(
        f"{found['num_views']} views of {found['num_assets']} assets, "
        f"{len(found['per_word'])} {kind}s, seeds "
        f"{', '.join(map(str, found['seeds']))}"
      )
    reference = found["reference"]
    lines.append(
      f"references: {reference['num_renders']} real renders of "
      f"{reference['num_objects']} objects, looks "
      f"{', '.join(reference['looks'])}; ceiling: these renders, each object "
      f"left out of the means\n"
    )
  lines += ["±: half of the 95 % interval over prompts", *report["notes"]]
  return "\n".join(lines)


def _cell(value: float | Mapping[str, Any]) -> str:
  if isinstance(value, float):
    return f"{value:.1%}"
  text = f"{value['value']:.1%}"
  if value["high"] is None:
    return text
  return f"{text} ±{100 * (value['high'] - value['value']):.1f}"


def _ceiling(
  views: nearest_mean.Labelled, num_words: int
) -> dict[str, bootstrap.Estimate] | None:
  """Recalls of the renders themselves; None if every word has one object."""
  ranks, places = nearest_mean.leave_one_object_out_ranks(
    views, num_classes=num_words
  )
  if not len(ranks):
    return None
  return nearest_mean.recalls(
    ranks, views.labels[places], views.objects[places]
  )


def _labelled(
  found: networks.FeatureSet, *, labels: list[int], objects: list[Any]
) -> nearest_mean.Labelled:
  """Features of all views of assets with these labels, of these objects."""
  _, numbers = np.unique(objects, return_inverse=True)
  return nearest_mean.Labelled(
    nearest_mean.unit(found.values),
    np.asarray(labels)[found.groups],
    numbers[found.groups],
  )


def _render(
  records: Any, number: int, *, version: str, num_views: int
) -> asset_views.Asset:
  """Some views of a record, spread evenly, as an asset."""
  record = records[number]
  count = len(record["images"])
  chosen = np.linspace(0, count - 1, min(num_views, count)).astype(int)
  uid, look = render_words.uid_of(record), record["look"].decode()
  name = f"{uid}/{look}/{number}"
  caption = render_words.captions_of(record)[0]

  def read() -> asset_views.Views:
    pixels = decoding.pixels(records[number], chosen)
    return asset_views.Views(image=pixels.image)

  return asset_views.Asset(
    name=name,
    source="",
    prompt=caption,
    digest=store.make_key(version, name, caption, chosen.tolist()),
    num_views=len(chosen),
    has_cameras=False,
    record={"uid": uid, "look": look},
    read=read,
  )


def _as_json(estimates: Mapping[str, bootstrap.Estimate]) -> dict[str, Any]:
  return {name: value.to_json() for name, value in estimates.items()}
