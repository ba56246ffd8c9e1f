"""The assets of a table's rows, in the order of its prompts."""

import re

from mvjax.table import settings as tables
from mvjax.views import asset_views, view_sets


def open_all(
  table: tables.Table,
) -> tuple[dict[str, list[asset_views.Asset]], list[str]]:
  """The assets of each row, and remarks on what rows lack.

  Raises:
    ValueError: a row has none of the prompts.
    FileNotFoundError: a row's folder is not there.
  """
  sets, notes = {}, []
  for row in table.rows:
    sets[row.label], lacking = open_row(row, table)
    if lacking:
      notes.append(f"{row.label} lacks {lacking} of the prompts")
  return sets, notes


def open_row(
  row: tables.Row, table: tables.Table
) -> tuple[list[asset_views.Asset], int]:
  """The assets of a row, and how many prompts it lacks.

  Raises:
    ValueError: it has none of the prompts.
    FileNotFoundError: its folder is not there.
  """
  order = {_words(prompt): i for i, prompt in enumerate(table.prompts)}
  found = [
    (order[_words(asset.prompt)], asset.record.get("seed", 0), asset)
    for asset in view_sets.open_set(row.folder)
    if _words(asset.prompt) in order
    and asset.record.get("seed", table.seeds[0]) in table.seeds
  ]
  if not found:
    raise ValueError(
      f"{row.label}: {row.folder} has none of the prompts of "
      f"{table.prompts_file}; name each asset's folder after its prompt, or "
      'put {"prompt": ...} into its sample.json'
    )
  found.sort(key=lambda item: item[:2])
  lacking = len(table.prompts) - len({place for place, *_ in found})
  return [asset for *_, asset in found], lacking


def _words(text: str) -> str:
  """A prompt without case and punctuation, which folder names lose."""
  return " ".join(re.findall("[a-z0-9]+", text.lower()))
