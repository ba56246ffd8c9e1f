"""What a table reads besides its samples, checked before hours of drawing."""

import contextlib
from collections.abc import Iterator

from mvjax.evaluation import (
  clip,
  consistency_report,
  image_report,
  inception,
)
from mvjax.generation import request as requests
from mvjax.table import rows
from mvjax.table import settings as tables
from mvjax.views import asset_views, view_sets

_FEWEST_ASSETS = 2
_BUILD = (
  "run `launch.py data fetch`, `data render` and `data build` first, or give "
  "another folder of renders"
)


def check(table: tables.Table) -> None:
  """Opens every file and folder that the figures need.

  Raises:
    ValueError: one line: the field, its value and what to do.
  """
  images, consistency = table.images, table.consistency
  if len(table.prompts) * len(table.seeds) < _FEWEST_ASSETS:
    raise ValueError(
      f"num_prompts={len(table.prompts)}: distances need two samples of a row; "
      "use more prompts or seeds"
    )
  with _named("images.reference", images.reference, _BUILD):
    _check_set(
      view_sets.open_set(
        images.reference,
        limit=images.reference_assets,
        num_views=images.reference_views,
        split=images.split,
        looks=images.looks,
      )
    )
  if consistency.floor is not None:
    with _named("consistency.floor", consistency.floor, _BUILD):
      _check_set(
        view_sets.open_set(
          consistency.floor,
          limit=consistency.floor_assets,
          split=consistency.split,
          looks=consistency.looks,
        )
      )
  if images.inception is not None:
    remedy = "give the weights of pytorch-fid, or none"
    with _named("images.inception", images.inception, remedy):
      inception.load_weights(images.inception)
  if images.clip is not None:
    remedy = "give a CLIP folder in transformers' layout, or none"
    with _named("images.clip", images.clip, remedy):
      clip.load(images.clip)
  for row in table.rows:
    if row.request is None:
      remedy = "put the views of this system there, or drop the row"
      with _named(f"rows: {row.label}: folder", row.folder, remedy):
        found, _ = rows.open_row(row, table)
        consistency_report.check(
          {row.label: found}, consistency, folds=table.folds
        )
        image_report.check(row.label, found)
    else:
      views = len(requests.cameras(row.request).intrinsics)
      with _named(f"rows: {row.label}: views", views, "draw more views"):
        consistency_report.check_views(views, consistency, folds=table.folds)


def _check_set(assets: list[asset_views.Asset]) -> None:
  if len(assets) < _FEWEST_ASSETS:
    raise ValueError(f"holds {len(assets)} assets, two are needed")


@contextlib.contextmanager
def _named(field: str, value: object, remedy: str) -> Iterator[None]:
  """Errors say which field is wrong and what to do about it."""
  try:
    yield
  except (OSError, ValueError) as error:
    reason = " ".join(str(error).split())
    raise ValueError(f"{field}={value}: {reason}; {remedy}") from error
