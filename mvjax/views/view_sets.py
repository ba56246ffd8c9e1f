"""What is measured: assets, each some views of one object, from any source.

Three sources look alike from here on:

* folders of `launch.py sample`: sample.json, transforms.json, view_*.png;
* folders of other systems: one folder for each prompt with pictures and, where
  cameras are known, a transforms.json (see `viewpoints`) whose frames name
  them, or all name one picture with the views side by side; 16-bit
  `depth_*.png` in the units of `rendered_object.DEPTH_SCALE` may lie beside
  `view_*.png`. In a folder without such folders every picture is an asset of
  one view;
* data sets of renders (`data build`), whose alpha and depth are true.

Nothing is decoded before `Asset.read`, so that sets may be of any size.
"""

import os
import pathlib
from collections.abc import Sequence

from mvjax import geometry
from mvjax.views import (
  asset_views,
  choice,
  picture_folders,
  render_sets,
  view_files,
)


def open_set(
  source: str | os.PathLike,
  *,
  limit: int | None = None,
  num_views: int | None = None,
  like: geometry.Camera | None = None,
  split: str = "train",
  looks: Sequence[str] = ("full", "retextured"),
) -> list[asset_views.Asset]:
  """The assets of a folder or of a data set.

  Args:
    source: a folder of sample folders, one such folder, a folder of pictures,
      or a data set directory.
    limit: no more assets than this, spread evenly over all.
    num_views: of a data set: so many views of every record, from whole orbits
      as far as they go and spread over elevations. Folders are taken whole.
    like: of a data set: those views of every record whose directions are, in
      all, nearest to these cameras', however the object is turned; replaces
      `num_views`.
    split: of a data set: which split.
    looks: of a data set: records with one of these looks.

  Raises:
    FileNotFoundError: there is no such folder.
    ValueError: it holds no pictures; a file in it is damaged.
  """
  path = pathlib.Path(source)
  if not path.is_dir():
    raise FileNotFoundError(f"{path} is not a folder of samples or a data set")
  if render_sets.is_data_set(path):
    return render_sets.open_data_set(
      path,
      limit=limit,
      num_views=num_views,
      like=like,
      split=split,
      looks=tuple(looks),
    )
  if view_files.is_asset(path):
    return [picture_folders.open_folder(path)]
  folders = sorted(
    child
    for child in path.iterdir()
    if child.is_dir()
    and not child.name.startswith(".")
    and view_files.holds_views(child)
  )
  # Beside folders of views, pictures are plots and the like.
  found = folders or view_files.pictures(path)
  if not found:
    raise ValueError(
      f"{path} holds no views: expected a folder for each prompt with "
      "view_*.png (or other pictures), and transforms.json for cameras"
    )
  return [
    picture_folders.open_folder(one)
    if one.is_dir()
    else picture_folders.open_picture(one)
    for one in choice.evenly(found, limit)
  ]
