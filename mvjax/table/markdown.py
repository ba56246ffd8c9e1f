"""table.md: the main figures with a row for each method, then all figures."""

from collections.abc import Mapping, Sequence
from typing import Any

from mvjax.evaluation import report


def format_table(content: Mapping[str, Any]) -> str:
  """The Markdown of what `run.evaluate` returns."""
  rows = content["rows"]
  everything = [["figure", *rows]]
  everything += [
    [_heading(name), *(report.format_cell(row, name) for row in rows.values())]
    for name in _measured(content)
  ]
  return "\n".join(
    [
      f"# {content['title']}",
      "",
      *_lines(main_table(content)),
      "",
      *(f"* {line}" for line in remarks(content)),
      "",
      "## All figures",
      "",
      *_lines(everything),
      "",
    ]
  )


def main_table(content: Mapping[str, Any]) -> list[list[str]]:
  """The cells of the main table; the first row is its head."""
  measured = _measured(content)
  columns = [name for name in content["columns"] if name in measured]
  return [
    ["method", "assets", "views", *map(_heading, columns)],
    *(
      [label, str(row["num_assets"]), _counts(row), *_cells(row, columns)]
      for label, row in content["rows"].items()
    ),
  ]


def remarks(content: Mapping[str, Any]) -> list[str]:
  """What the figures rest on, in lines."""
  prompts, reference = content["prompts"], content["reference"]
  seeds = ", ".join(map(str, content["seeds"]))
  return [
    f"{prompts['count']} prompts of {prompts['file']}, seeds {seeds}.",
    "± is half of the 95 % interval over assets; (n=...) where a figure is of "
    "a subset.",
    f"Reference of distances: {reference['num_images']} images of "
    f"{reference['num_assets']} assets, {reference['source']}, split "
    f"{reference['split']}, looks {', '.join(reference['looks'])}. Frechet "
    "distances grow as n shrinks: compare them at equal n only.",
    f"Text: {content['text']}. Masks: {content['masks']}.",
    *(f"{note[0].upper()}{note[1:]}." for note in content["notes"]),
    "Seconds are of one asset without compilation; peak memory is the sampling "
    f"process's. {content['hardware']}, mvjax {content['versions']['mvjax']}, "
    f"jax {content['versions']['jax']}.",
  ]


def _measured(content: Mapping[str, Any]) -> list[str]:
  """Figures that some row has."""
  rows = content["rows"].values()
  known = dict.fromkeys(name for row in rows for name in row["figures"])
  return [name for name in known if any(_has(row, name) for row in rows)]


def _has(row: Mapping[str, Any], name: str) -> bool:
  return row["figures"].get(name) is not None


def _counts(row: Mapping[str, Any]) -> str:
  return ", ".join(map(str, row["views"]))


def _heading(name: str) -> str:
  return f"{name} {report.arrow(name)}"


def _cells(row: Mapping[str, Any], names: Sequence[str]) -> list[str]:
  return [report.format_cell(row, name) for name in names]


def _lines(cells: Sequence[Sequence[str]]) -> list[str]:
  """A Markdown table; the first row is its head."""
  head, *body = [f"| {' | '.join(row)} |" for row in cells]
  return [head, "|---" * len(cells[0]) + "|", *body]
