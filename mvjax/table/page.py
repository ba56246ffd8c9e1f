"""The page of a table: every sample of the rows that were drawn here."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from mvjax import view_sets
from mvjax.pages import index, results, site


def write(
  out: pathlib.Path,
  sets: Mapping[str, Sequence[view_sets.Asset]],
  *,
  figures: Mapping[str, Mapping[str, Any]],
  title: str,
) -> pathlib.Path | None:
  """Writes a page for each sample below `out`, and the index.

  Folders of other systems are not written to: they have no pages.

  Args:
    out: folder of the table.
    sets: assets of every row, by its label.
    figures: by label and name of the asset, see `consistency_report`.
    title: of the index.

  Returns:
    The index, or None if no row lies below `out`.
  """
  entries = []
  for label, assets in sets.items():
    folders = [pathlib.Path(asset.source) / asset.name for asset in assets]
    if not all(folder.is_relative_to(out) for folder in folders):
      continue
    found = [results.read(folder) for folder in folders]
    entries += [
      dataclasses.replace(entry, note=f"{label}, {entry.note}")
      for entry in site.write_pages(found, root=out, metrics=figures.get(label))
    ]
  return index.write(out, entries, title=title) if entries else None
