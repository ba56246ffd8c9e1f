"""Views whose cameras are nominal: their lens is searched before a refit.

Some models know no field of view (`reconstruction.cameras`); their samples say
so. Measured with the lens that happens to be written beside them they would
look inconsistent for no fault of theirs.
"""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np
import tqdm

from mvjax.evaluation import store
from mvjax.reconstruction import cameras
from mvjax.views import asset_views


def search(
  assets: Sequence[asset_views.Asset],
  *,
  kept: str | os.PathLike,
  true_masks: bool,
) -> tuple[
  list[asset_views.Asset], dict[str, dict[str, float]], dict[str, str]
]:
  """The assets, with found cameras in the place of nominal ones.

  Args:
    assets: views with cameras.
    kept: folder that keeps what was found for each asset.
    true_masks: whether the alpha of transparent pictures is used.

  Returns:
    The assets; and by name the field of view and its near-best range in
    degrees (`cameras.Found`) of those that had nominal cameras; and by name
    why there is none of others, which keep the nominal ones.
  """
  if all(asset.metric_cameras for asset in assets):
    return list(assets), {}, {}
  store_of_found = store.Store(kept)
  changed, record, failures = [], {}, {}
  for asset in tqdm.tqdm(assets, desc="camera search", unit="asset"):
    key = store.make_key(asset.digest, cameras.VERSION, true_masks)
    found = None
    if not asset.metric_cameras:
      found = store_of_found.read_json(asset.name, key=key)
      if found is None:
        try:
          found = _search(asset, true_masks=true_masks)
        except ValueError as error:
          failures[asset.name] = str(error)
        else:
          store_of_found.write_json(asset.name, found, key=key)
    if found is not None:
      record[asset.name] = found
      asset = _with_lens(asset, found["field_of_view"])
    changed.append(asset)
  return changed, record, failures


def _search(asset: asset_views.Asset, *, true_masks: bool) -> dict[str, float]:
  given = asset.read()
  if not true_masks:
    given = dataclasses.replace(given, alpha=None)
  masked = asset_views.with_masks(given, allow_empty=True)
  found = cameras.search(np.asarray(masked.alpha) > 0.5, masked.camera)
  low, high = found.near_best
  return {"field_of_view": found.field_of_view, "low": low, "high": high}


def _with_lens(asset: asset_views.Asset, angle: float) -> asset_views.Asset:
  """The asset with another lens, at the distance that goes with it."""

  def read() -> asset_views.Views:
    given = asset.read()
    camera = cameras.with_field_of_view(given.camera, angle)
    return dataclasses.replace(given, camera=camera)

  digest = f"{asset.digest}, field of view {angle:.3f}"
  return dataclasses.replace(asset, digest=digest, read=read)
