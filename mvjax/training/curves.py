"""What validation measured along runs, as one picture.

A row of panels for the quantities that the runs have: losses at one noise
level, the share of them that seeing other views takes off, and the same beside
nearly clean views (`training.tasks.ruler`).
"""

import pathlib
import re
from collections.abc import Mapping

from matplotlib import figure as mpl

from data_pipeline import fields
from mvjax import atomic

Series = list[tuple[int, float]]

_PANELS = {
  "loss": r"validation/loss_t(\d+)",
  "share of the loss that other views explain": r"validation/share_t(\d+)",
  "the same beside nearly clean views": r"validation/share_t(\d+)_clean",
}
_STYLES = ("-", "--", ":", "-.")


def draw(
  runs: Mapping[str, str | pathlib.Path], out: str | pathlib.Path
) -> None:
  """Writes the picture, a PNG; a line style for each run.

  Args:
    runs: workdirs by what they are called.
    out: file to write.

  Raises:
    ValueError: A folder has no validation losses, or there are more runs than
      styles.
  """
  if len(runs) > len(_STYLES):
    raise ValueError(
      f"runs={', '.join(runs)}: draw at most {len(_STYLES)} in one picture"
    )
  found = {label: read(folder) for label, folder in runs.items()}
  panels = {
    title: {label: _matching(series, name) for label, series in found.items()}
    for title, name in _PANELS.items()
  }
  panels = {title: rows for title, rows in panels.items() if any(rows.values())}
  canvas = mpl.Figure(figsize=(4.5 * len(panels), 4.2), layout="constrained")
  for number, (title, rows) in enumerate(panels.items()):
    axes = canvas.add_subplot(1, len(panels), number + 1)
    axes.set_title(title, fontsize="medium")
    axes.set_xlabel("steps")
    axes.grid(alpha=0.3)
    for style, (label, lines) in zip(_STYLES, rows.items(), strict=False):
      for time, points in sorted(lines.items()):
        axes.plot(
          *zip(*points, strict=True),
          linestyle=style,
          marker=".",
          color=f"C{time // 200}",
          label=f"{label}, t={time}",
        )
    axes.legend(
      fontsize="x-small",
      ncols=2,
      loc="upper center",
      bbox_to_anchor=(0.5, -0.15),
    )
  with atomic.replaced(pathlib.Path(out)) as new:
    canvas.savefig(new, dpi=110, format="png")


def read(workdir: str | pathlib.Path) -> dict[str, Series]:
  """Steps and values of everything that validation wrote, by name.

  Raises:
    ValueError: There is nothing, or a line is damaged.
  """
  path = pathlib.Path(workdir) / "metrics.jsonl"
  found: dict[str, Series] = {}
  if path.is_file():
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
      where = f"{path}: line {number}"
      row = fields.Fields.of(fields.parse(line, where), where)
      for name in row.content:
        if name.startswith("validation/"):
          point = row.get("step", int), row.get(name, float)
          found.setdefault(name, []).append(point)
  if not found:
    raise ValueError(
      f"{path}: has no validation losses; train with "
      "--config.train.validation_every=500"
    )
  return found


def _matching(series: Mapping[str, Series], name: str) -> dict[int, Series]:
  """By time, the series whose name is that of a panel."""
  return {
    int(match[1]): points
    for key, points in series.items()
    if (match := re.fullmatch(name, key))
  }
