"""The page of a table: its figures, its plots, and every sample of its rows."""

import dataclasses
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from mvjax import atomic
from mvjax.pages import index, results, site
from mvjax.table import markdown
from mvjax.views import asset_views, view_files

# Other systems' samples get pages in copies: their folders are not written to.
COPIES = "copies"
_RECORDS = ("sample.json", view_files.POSES)


def write(
  out: pathlib.Path,
  sets: Mapping[str, Sequence[asset_views.Asset]],
  *,
  methods: Mapping[str, Mapping[str, Any]],
  content: Mapping[str, Any],
  pictures: Sequence[pathlib.Path],
) -> pathlib.Path:
  """Writes a page for each sample, and the index.

  Args:
    out: folder of the table.
    sets: assets of every row, by its label.
    methods: of `consistency_report.evaluate`, with the failures of both
      reports.
    content: what `run.evaluate` returns.
    pictures: plots in `out`.

  Returns:
    The index.
  """
  entries = []
  for label, assets in sets.items():
    folders = [_own_folder(asset, label, out) for asset in assets]
    found = [results.read(folder) for folder in folders if folder is not None]
    of_row = methods[label]
    entries += [
      dataclasses.replace(
        entry,
        note=", ".join(
          filter(None, [label, entry.note, _failed(of_row, result.folder.name)])
        ),
      )
      for result, entry in zip(
        found,
        site.write_pages(found, root=out, metrics=of_row["assets"]),
        strict=True,
      )
    ]
  summary = index.Summary(
    table=markdown.main_table(content),
    remarks=markdown.remarks(content),
    pictures=[picture.name for picture in pictures],
  )
  return index.write(out, entries, title=content["title"], summary=summary)


def _own_folder(
  asset: asset_views.Asset, label: str, out: pathlib.Path
) -> pathlib.Path | None:
  """A folder below `out` with the asset's views; None for lone pictures."""
  folder = pathlib.Path(asset.source) / asset.name
  if folder.is_relative_to(out):
    return folder
  if not folder.is_dir():
    return None
  copy = out / COPIES / label / asset.name
  records = [folder / name for name in _RECORDS if (folder / name).is_file()]
  # Anew: views that an earlier run copied may be gone from the folder.
  with atomic.replaced(copy) as new:
    for file in (*view_files.of_asset(folder), *records):
      target = new / file.relative_to(folder)
      target.parent.mkdir(parents=True, exist_ok=True)
      shutil.copyfile(file, target)
  return copy


def _failed(method: Mapping[str, Any], name: str) -> str:
  """The metrics that failed for an asset."""
  failed = [
    metric
    for metric, found in method["failures"].items()
    if name in found["reasons"]
  ]
  return f"failed: {' '.join(failed)}" if failed else ""
