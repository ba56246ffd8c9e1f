"""Assets of a data set of renders, whose alpha and depth are true."""

import os
import pathlib
from typing import Any

from data_pipeline import decoding, loader
from mvjax import geometry
from mvjax.views import asset_views, choice


def is_data_set(source: str | os.PathLike) -> bool:
  """Whether a folder is what `data build` wrote."""
  return (pathlib.Path(source) / "dataset_info.json").is_file()


def open_data_set(
  path: pathlib.Path,
  *,
  limit: int | None,
  num_views: int | None,
  like: geometry.Camera | None,
  split: str,
  looks: tuple[str, ...],
) -> list[asset_views.Asset]:
  """Records as assets; see `view_sets.open_set`."""
  settings = loader.LoaderSettings(
    path=str(path),
    split=split,
    looks=looks,
    num_views=1,
    orthogonal=0.0,
    nearby=0.0,
    batch_size=1,
  )
  records = loader.records(settings)
  version = loader.fingerprint(settings)["source_digest"]
  return [
    _open_record(
      records,
      number,
      path=path,
      num_views=num_views,
      like=like,
      version=version,
    )
    for number in choice.evenly(range(len(records)), limit)
  ]


def _open_record(
  records: Any,
  number: int,
  *,
  path: pathlib.Path,
  num_views: int | None,
  like: geometry.Camera | None,
  version: str,
) -> asset_views.Asset:
  """An asset of a record; `records` is indexed again when it is read."""
  record = records[number]
  if like is None:
    chosen = choice.spread(record, num_views)
  else:
    chosen = choice.nearest(record, like)
  name = f"{record['uid'].decode()}/{record['look'].decode()}/{number}"

  def read() -> asset_views.Views:
    again = records[number]
    pixels = decoding.pixels(again, chosen)
    return asset_views.Views(
      image=pixels.image,
      alpha=pixels.alpha,
      depth=pixels.depth if pixels.depth.any() else None,
      camera=geometry.Camera(
        camera_to_world=again["camera_to_world"][chosen],
        intrinsics=pixels.intrinsics,
      ),
    )

  return asset_views.Asset(
    name=name,
    source=str(path),
    prompt=record["captions"][0].decode(),
    digest=asset_views.digest(
      [version.encode(), name.encode(), chosen.tobytes()]
    ),
    num_views=len(chosen),
    has_cameras=True,
    read=read,
  )
