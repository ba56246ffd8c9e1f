"""Prompts about pairs of an object and a material that were held out.

A pair of the data set that no multi-view model trains on (`splits`) is a text
that asks for something new: a known object in a known material, never seen
together. The 2D model saw about half of these pairs. What it adds can
therefore be told from what neither model saw.
"""

import collections
import os
from collections.abc import Iterator, Mapping
from typing import Any

from data_pipeline import loader, materials
from data_pipeline.renders import splits
from mvjax import atomic

# A name that tells a substance contradicts a material: "plastic wooden table".
_SUBSTANCES = {"wooden", "glass", "burlap", "snow"} | {
  word for name in materials.MATERIALS for word in name.split()
}


def held_out_prompts(
  dataset: str | os.PathLike,
  *,
  per_kind: int = 50,
  out: str | os.PathLike | None = None,
) -> dict[str, list[str]]:
  """One caption of each held-out pair, names with many objects first.

  A pair is left out where objects of another name have the same captions and
  were not held out.

  Args:
    dataset: data set of renders.
    per_kind: no more prompts than this of each kind.
    out: prompts file to write, or None.

  Returns:
    Prompts by kind: 'that the 2D model saw', 'that neither model saw'.
  """
  objects = collections.defaultdict(set)
  # From what captions say after the colour to who saw it: a model's name.
  seen = collections.defaultdict(set)
  pairs = {}
  for record in _records(dataset):
    name, material = record["name"].decode(), record["material"].decode()
    caption = record["captions"][0].decode()
    text = caption[max(0, caption.find(material)) :]
    objects[splits.pair(name, None)].add(record["uid"])
    if not record["held_out_pair"]:
      seen[text].add("multi-view")
    if record["seen_by_image_model"]:
      seen[text].add("2D")
    if record["held_out_pair"] and not _names_substance(name):
      pairs.setdefault(splits.pair(name, material), (caption, text))
  order = sorted(
    pairs, key=lambda pair: (-len(objects[splits.pair(pair[0], None)]), pair)
  )
  kinds = {"that the 2D model saw": {"2D"}, "that neither model saw": set()}
  # Once each, whatever the names and colours of objects with one text.
  captions = {}
  for caption, text in map(pairs.__getitem__, order):
    captions.setdefault(text, caption)
  prompts = {
    kind: [caption for text, caption in captions.items() if seen[text] == who][
      :per_kind
    ]
    for kind, who in kinds.items()
  }
  if out:
    atomic.write_text(out, _format(prompts, per_kind))
  return prompts


def _records(dataset: str | os.PathLike) -> Iterator[Mapping[str, Any]]:
  """All training records of objects in a material, undecoded."""
  for policy in ("exclude", "only"):
    yield from loader.records(
      loader.LoaderSettings(
        path=str(dataset),
        looks=("retextured",),
        held_out_pairs=policy,
        num_views=1,
        batch_size=1,
      )
    )


def _names_substance(name: str) -> bool:
  return not _SUBSTANCES.isdisjoint(name.casefold().split())


def _format(prompts: Mapping[str, list[str]], per_kind: int) -> str:
  """A prompts file: comments and one text a line."""
  lines = [
    "# Objects in materials that the multi-view model never saw together.",
    "# Made from the nano data set by",
    "#   python launch.py evaluate held-out-prompts "
    f"--per_kind={per_kind} --out=FILE",
  ]
  for kind, texts in prompts.items():
    lines += ["#", f"# {len(texts)} pairs {kind}:", *texts]
  return "\n".join(lines) + "\n"
