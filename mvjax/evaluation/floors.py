"""Ground truth measured beside the methods: the floor of every figure.

A floor says something about a method only if it has as many views, as many
pixels and much the same cameras. So there is one for each kind of asset that
the methods have, and none where the ground truth cannot give it: nothing is
then subtracted.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence

import numpy as np

from mvjax import geometry
from mvjax.views import asset_views, choice, render_sets, view_sets, viewpoints

LABEL = "ground truth"

Kind = tuple[int, int, int]
"""Number of views, their height and their width."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Look:
  """What one look into an asset's files tells.

  Attributes:
    kind: see there.
    opaque: whether its pictures have no transparency.
    camera: of its views.
  """

  kind: Kind
  opaque: bool
  camera: geometry.Camera


def look(assets: Sequence[asset_views.Asset]) -> list[Look]:
  """Reads every asset; one that cannot be read is left out."""
  found = []
  for asset in assets:
    try:
      given = asset.read()
    except ValueError:  # It is counted when it is measured.
      continue
    found.append(
      Look(
        kind=given.image.shape[:3],
        opaque=given.alpha is None,
        camera=given.camera,
      )
    )
  return found


def open_all(
  source: str | os.PathLike,
  looks: Sequence[Look],
  *,
  limit: int,
  split: str,
  looks_of_set: tuple[str, ...],
) -> dict[str, list[asset_views.Asset]]:
  """From labels to ground truth, for each kind that it can give.

  Args:
    source: folder or data set.
    looks: into the assets of all methods.
    limit: no more assets of each kind, spread evenly.
    split: of a data set.
    looks_of_set: of a data set: `looks` of `view_sets.open_set`.

  Raises:
    FileNotFoundError: there is no such folder.
    ValueError: it holds no views, or no such split.
  """
  kinds = {}
  for one in looks:
    kinds.setdefault(one.kind, one.camera)
  is_data_set = render_sets.is_data_set(source)
  options = {
    "limit": limit if is_data_set else None,
    "split": split,
    "looks": looks_of_set,
  }
  every = view_sets.open_set(source, **options)
  found = {}
  for kind, camera in kinds.items():
    if is_data_set:
      enough = min(asset.num_views for asset in every) >= kind[0]
      matching = []
      if enough and every[0].read().image.shape[1:3] == kind[1:]:
        matching = view_sets.open_set(source, like=camera, **options)
    else:
      matching = choice.evenly(
        [asset for asset in every if _is_of(asset, kind)], limit
      )
    if matching:
      found[LABEL if len(kinds) == 1 else f"{LABEL}, {name(kind)}"] = matching
  return found


def name(kind: Kind) -> str:
  """Such as "8 views, 128 px"."""
  views, height, width = kind
  size = f"{width}" if width == height else f"{width}x{height}"
  return f"{views} views, {size} px"


def is_floor(label: str) -> bool:
  """Whether a row of a report is ground truth."""
  return label == LABEL or label.startswith(f"{LABEL}, ")


def check_labels(labels: Sequence[str]) -> None:
  """Raises ValueError if a method has the name of a floor."""
  for label in labels:
    if is_floor(label):
      raise ValueError(f"samples: the label {label!r} is taken; choose another")


def elevations(looks: Sequence[Look]) -> dict[str, float] | None:
  """Least, mean and largest elevation of the cameras, in degrees."""
  found = [
    elevation
    for one in looks
    for _, elevation in viewpoints.directions(one.camera)
  ]
  if not found:
    return None
  return {
    "low": round(min(found), 1),
    "mean": round(float(np.mean(found)), 1),
    "high": round(max(found), 1),
  }


def format_elevations(of: Mapping[str, Mapping[str, float] | None]) -> str:
  """One line about the cameras of all rows."""
  parts = [
    f"{label} {found['mean']:g}"
    if found["low"] == found["high"]
    else f"{label} {found['low']:g} to {found['high']:g} (mean "
    f"{found['mean']:g})"
    for label, found in of.items()
    if found is not None
  ]
  return f"elevations of the cameras in degrees: {'; '.join(parts)}"


def _is_of(asset: asset_views.Asset, kind: Kind) -> bool:
  return any(one.kind == kind for one in look([asset]))
