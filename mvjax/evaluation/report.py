"""Figures of several methods side by side, with n and intervals."""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

# Which way is better, for the reader of a table.
_UP = (
  "IS",
  "CLIP",
  "R-precision",
  "retrieval",
  "psnr",
  "ssim",
  "tsed",
  "coverage",
  "overlap",
  "matches",
)


def parse_labels(folders: Sequence[str]) -> dict[str, str]:
  """`LABEL=FOLDER` or `FOLDER` (labelled by its last part) to a mapping.

  Raises:
    ValueError: two have one label, or one has none.
  """
  found = {}
  for text in folders:
    label, equals, folder = text.partition("=")
    if not equals:
      label, folder = pathlib.PurePath(text).name, text
    if not label.strip(".") or label != pathlib.PurePath(label).name:
      raise ValueError(
        f"samples: {text!r} needs a label that can name a folder: LABEL=FOLDER"
      )
    if label in found:
      raise ValueError(
        f"samples: {label!r} is there twice; tell them apart by LABEL=FOLDER"
      )
    found[label] = folder
  return found


def failure_notes(methods: Mapping[str, Mapping[str, Any]]) -> list[str]:
  """A line for each figure of each method that some assets do not have.

  Args:
    methods: from a label to {'failures': from a figure to {'of': assets
      measured, 'reasons': by asset}}.
  """
  return [
    f"{name}: {len(failed['reasons'])} of {failed['of']} assets of {label} "
    f"failed; {first}: {failed['reasons'][first]}"
    for label, method in methods.items()
    for name, failed in method["failures"].items()
    for first in [next(iter(failed["reasons"]))]
  ]


def format_table(methods: Mapping[str, Mapping[str, Any]]) -> str:
  """Rows of figures, a column for each method.

  Args:
    methods: from a label to {'num_assets', 'num_images', 'figures': from a
      name to an estimate's JSON, or None where it is left out}.
  """
  names = list(dict.fromkeys(n for m in methods.values() for n in m["figures"]))
  lines = [["", *methods]]
  lines += [
    [label, *(str(m[key]) for m in methods.values())]
    for label, key in (("assets", "num_assets"), ("images", "num_images"))
  ]
  for name in names:
    cells = [format_cell(method, name) for method in methods.values()]
    lines.append([f"{name} {arrow(name)}", *cells])
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  return "\n".join(
    "  ".join(
      cell.ljust(width) if i == 0 else cell.rjust(width)
      for i, (cell, width) in enumerate(zip(line, widths, strict=True))
    ).rstrip()
    for line in lines
  )


def arrow(name: str) -> str:
  """Which way a figure is better."""
  return "↑" if any(part in name for part in _UP) else "↓"


def format_cell(method: Mapping[str, Any], name: str) -> str:
  """A figure, half its interval, and its n where it is not the method's."""
  estimate = method["figures"].get(name)
  if estimate is None:
    return "-"
  value = estimate["value"]
  digits = 1 if abs(value) >= 100 else 2 if abs(value) >= 10 else 4
  text = f"{value:.{digits}f}"
  if estimate["high"] is not None and math.isfinite(estimate["high"]):
    text += f" ±{estimate['high'] - value:.{digits}f}"
  if estimate["num_assets"] != method["num_assets"]:
    text += f" (n={estimate['num_assets']})"
  return text
