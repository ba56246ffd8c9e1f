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

from data_pipeline import captions, loader
from data_pipeline.renders import splits
from mvjax import atomic

# By whether the 2D model saw a pair.
_KINDS = {True: "that the 2D model saw", False: "that neither model saw"}


def held_out_prompts(
  dataset: str | os.PathLike,
  *,
  per_kind: int = 50,
  out: str | os.PathLike | None = None,
) -> dict[str, list[str]]:
  """One caption of each held-out pair, nouns with many objects first.

  Nouns that tell a substance ("beer glass") are left out.

  Args:
    dataset: data set of renders.
    per_kind: no more prompts than this of each kind.
    out: prompts file to write, or None.

  Returns:
    Prompts by kind: 'that the 2D model saw', 'that neither model saw'.

  Raises:
    ValueError: there is no such data set, or no prompt is asked for.
  """
  if per_kind < 1:
    raise ValueError(f"per_kind={per_kind}: must be 1 or more")
  objects = collections.defaultdict(set)
  # Once each, whatever the colours of objects with one pair.
  found = {kind: {} for kind in _KINDS.values()}
  for record in _records(dataset):
    noun, material = record["noun"].decode(), record["material"].decode()
    objects[splits.pair(noun, None)].add(record["uid"])
    if record["held_out_pair"] and captions.SUBSTANCES.isdisjoint(noun.split()):
      kind = _KINDS[bool(record["seen_by_image_model"])]
      caption = record["captions"][0].decode()
      found[kind].setdefault(splits.pair(noun, material), caption)

  def rank(pair: tuple[str, str]) -> tuple[int, tuple[str, str]]:
    return -len(objects[splits.pair(pair[0], None)]), pair

  prompts = {
    kind: [pairs[pair] for pair in sorted(pairs, key=rank)[:per_kind]]
    for kind, pairs in found.items()
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
