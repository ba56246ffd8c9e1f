"""Is a view recognisable? Does it find its object's name among 20 names.

A name is represented by the mean feature of real renders of its objects, and
a view retrieves the names in order of cosine similarity (on real renders this
found a little more than Euclidean distance did). Figures:

* R@k: share of views whose right name is among the first k, averaged over
  names, so that a name with many objects weighs no more than another;
* the ceiling: the same for real renders, each object against references that
  do not contain it, over names with two objects or more. Names that share a
  shape (sofa, couch) bound it;
* chance: k / number of names.

The names are those with the most training objects whose captions contain the
name: an object that its captions call otherwise ("female": "a woman") could not
be asked for. Look-alikes are not weeded out.
"""

import collections
import dataclasses
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from data_pipeline import image_ops, loader
from mvjax import atomic, view_sets
from mvjax.evaluation import features, nearest_mean, resize, store


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class References:
  """Real renders of the names, prepared for any number of sample folders.

  Attributes:
    names: the names to tell apart.
    params: weights of the network.
    views: features of the renders.
    about: what the report says of them.
    ceiling: recalls of the renders themselves; None if every name has one
      object.
  """

  names: list[str]
  params: Any
  views: nearest_mean.Labelled
  about: Mapping[str, Any]
  ceiling: Mapping[str, float] | None


def prepare(
  dataset: str | os.PathLike,
  *,
  names: Sequence[str] | None = None,
  num_names: int = 20,
  looks: tuple[str, ...] = ("full", "retextured"),
  reference_views: int = 4,
  cache: str | os.PathLike | None = None,
) -> References:
  """Features of real renders; see `evaluate` for the arguments."""
  records = _records(dataset, looks)
  names = [name.strip().casefold() for name in names or ()]
  names = names or frequent_names(records, num_names)
  params = features.load_weights(cache)
  found = reference_features(
    params, records, names=names, num_views=reference_views
  )
  ranks, labels = nearest_mean.leave_one_object_out_ranks(
    found, num_classes=len(names)
  )
  return References(
    names=names,
    params=params,
    views=found,
    about={
      "dataset": str(dataset),
      "looks": list(looks),
      "num_renders": len(found.labels),
      "num_objects": len(set(found.objects.tolist())),
    },
    ceiling=nearest_mean.recalls(ranks, labels) if len(labels) else None,
  )


def evaluate(
  samples: str | os.PathLike,
  dataset: str | os.PathLike,
  *,
  out: str | os.PathLike | None = None,
  **options: Any,
) -> dict[str, Any]:
  """Retrieval of the names of sampled views by real renders.

  Args:
    samples: folder of sample folders.
    dataset: data set of real renders.
    out: JSON file for the result, or None.
    **options: of `prepare`. `names`: the names to tell apart, the most
      frequent ones if None; `num_names`: how many of these; `looks`: looks of
      the reference renders; `reference_views`: renders used of every (object,
      look); `cache`: see `package_weights.fetch`.

  Returns:
    The figures, their chance level and their ceiling (None if every name has
    one object), and all that they depend on.

  Raises:
    ValueError: if no sample has one of the names, or a name no renders.
  """
  report = score(view_sets.open_set(samples), prepare(dataset, **options))
  if out:
    store.write_json(out, report)
  return report


def score(
  assets: Sequence[view_sets.Asset], references: References
) -> dict[str, Any]:
  """The report of `evaluate` on the assets whose prompt has one of the names.

  Raises:
    ValueError: if there is none.
  """
  names = references.names
  named = [(asset, find_name(asset.prompt, names)) for asset in assets]
  assets = [asset for asset, name in named if name]
  if not assets:
    raise ValueError(
      f"samples: no prompt has one of the names {', '.join(names)}; sample "
      "those of `launch.py evaluate retrieval-prompts`"
    )
  queries = sample_features(
    references.params,
    assets,
    labels=[names.index(name) for _, name in named if name],
  )
  ranks = nearest_mean.retrieval_ranks(
    queries, references.views, num_classes=len(names)
  )
  return {
    "features": features.NAME,
    "names": names,
    "num_views": len(ranks),
    "num_assets": len(assets),
    "seeds": sorted({a.record["seed"] for a in assets if "seed" in a.record}),
    "sampled_names": len(set(queries.labels.tolist())),
    "reference": dict(references.about),
    "sampled": nearest_mean.recalls(ranks, queries.labels),
    "ceiling": references.ceiling,
    "chance": {
      f"R@{k}": min(1.0, k / len(names)) for k in nearest_mean.CUTOFFS
    },
    "per_name": {
      names[label]: nearest_mean.recalls(
        ranks[queries.labels == label], queries.labels[queries.labels == label]
      )
      for label in sorted(set(queries.labels.tolist()))
    },
    # One figure of each asset, for intervals.
    "hits": {
      f"R@{k}": [
        float(np.mean(ranks[queries.objects == i] < k))
        for i in range(len(assets))
      ]
      for k in nearest_mean.CUTOFFS
    },
  }


def format_table(report: Mapping[str, Any]) -> str:
  """The report of `evaluate` for a terminal."""
  reference = report["reference"]
  rows = [
    (kind, *(f"{report[kind][f'R@{k}']:6.1%}" for k in nearest_mean.CUTOFFS))
    for kind in ("sampled", "ceiling", "chance")
    if report[kind]
  ]
  lines = [
    f"{'':10}" + "".join(f"{f'R@{k}':>8}" for k in nearest_mean.CUTOFFS),
    *(f"{kind:10}" + "".join(f"{v:>8}" for v in row) for kind, *row in rows),
    f"{len(report['names'])} names ({report['sampled_names']} sampled), "
    f"{report['num_views']} views of {report['num_assets']} assets, "
    f"seeds {', '.join(map(str, report['seeds']))}",
    f"references: {reference['num_renders']} real renders of "
    f"{reference['num_objects']} objects, looks "
    f"{', '.join(reference['looks'])}; ceiling: these renders, each object "
    "left out of its name's mean",
  ]
  return "\n".join(lines)


def retrieval_prompts(
  dataset: str | os.PathLike,
  *,
  out: str | os.PathLike | None = None,
  num_names: int = 20,
  per_name: int = 4,
  looks: tuple[str, ...] = ("retextured",),
) -> list[str]:
  """Training captions of the frequent names, `per_name` for each.

  Different captions are taken as far as there are any, going round the
  objects of a name.

  Args:
    dataset: data set whose captions are used.
    out: text file for the prompts, one on a line, or None.
    num_names: how many names.
    per_name: prompts of every name.
    looks: looks whose captions are used.
  """
  records = _records(dataset, looks)
  names = frequent_names(records, num_names)
  captions = collections.defaultdict(lambda: collections.defaultdict(list))
  for record in records:
    for caption in _captions(record):
      name = find_name(caption, names)
      if name and name == _name(record):
        captions[name][_uid(record)].append(caption)
  prompts = []
  for name in names:
    columns = captions[name].values()
    depth = max(map(len, columns), default=0)
    turns = [c[i] for i in range(depth) for c in columns if i < len(c)]
    turns = list(dict.fromkeys(turns)) or [f"a {name}"]
    prompts += [turns[i % len(turns)] for i in range(per_name)]
  if out:
    atomic.write_text(out, "\n".join(prompts) + "\n")
  return prompts


def frequent_names(
  records: Iterable[Mapping[str, Any]], count: int
) -> list[str]:
  """The names with the most objects so captioned, ties alphabetically.

  Raises:
    ValueError: if there are fewer names.
  """
  objects = collections.defaultdict(set)
  for record in records:
    name = _name(record)
    if any(find_name(caption, [name]) for caption in _captions(record)):
      objects[name].add(_uid(record))
  if len(objects) < count:
    raise ValueError(f"num_names={count}: the data has {len(objects)} names")
  return sorted(objects, key=lambda name: (-len(objects[name]), name))[:count]


def find_name(prompt: str, names: Iterable[str]) -> str | None:
  """The longest of the names that the prompt contains as whole words."""
  found = [
    name
    for name in names
    if re.search(rf"\b{re.escape(name)}\b", prompt, re.IGNORECASE)
  ]
  return max(found, key=len, default=None)


def sample_features(
  params: Any,
  assets: Sequence[view_sets.Asset],
  *,
  labels: Sequence[int],
) -> nearest_mean.Labelled:
  """Features of all views of assets with these numbers of their names."""
  counts = [asset.num_views for asset in assets]
  images = [
    np.clip(resize.clean(image, features.IMAGE_SIZE), -1, 1)
    for asset in assets
    for image in asset.read().image
  ]
  return nearest_mean.Labelled(
    nearest_mean.unit(features.extract(params, np.stack(images))),
    np.repeat(labels, counts),
    np.repeat(np.arange(len(assets)), counts),
  )


def reference_features(
  params: Any,
  records: Iterable[Mapping[str, Any]],
  *,
  names: Sequence[str],
  num_views: int,
) -> nearest_mean.Labelled:
  """Features of `num_views` renders, spread evenly, of every record.

  Raises:
    ValueError: if a name has no record, or renders are smaller than
      `features.IMAGE_SIZE` or not a multiple of it.
  """
  parts, labels, objects = [], [], []
  numbers = {}
  for record in records:
    if _name(record) not in names:
      continue
    count = len(record["images"])
    chosen = np.linspace(0, count - 1, min(num_views, count)).astype(int)
    pixels = loader.decode_views(record, chosen)
    images = image_ops.shrink(pixels, features.IMAGE_SIZE).image
    parts.append(features.extract(params, images))
    labels += [names.index(_name(record))] * len(images)
    number = numbers.setdefault(_uid(record), len(numbers))
    objects += [number] * len(images)
  absent = [name for i, name in enumerate(names) if i not in labels]
  if absent:
    raise ValueError(f"names {', '.join(absent)}: no reference renders")
  return nearest_mean.Labelled(
    nearest_mean.unit(np.concatenate(parts)),
    np.array(labels),
    np.array(objects),
  )


def _records(dataset: str | os.PathLike, looks: tuple[str, ...]):
  """The training records of these looks, undecoded."""
  return loader.records(
    loader.LoaderSettings(
      path=str(dataset),
      looks=looks,
      num_views=1,
      batch_size=1,
    )
  )


def _name(record: Mapping[str, Any]) -> str:
  return record["name"].decode().strip().casefold()


def _uid(record: Mapping[str, Any]) -> str:
  return record["uid"].decode()


def _captions(record: Mapping[str, Any]) -> list[str]:
  return [caption.decode() for caption in record["captions"]]
