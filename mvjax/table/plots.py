"""Quality against consistency, with the interval of both."""

import pathlib
import re
from collections.abc import Mapping
from typing import Any

from matplotlib import figure as mpl

from mvjax import atomic
from mvjax.evaluation import floors, report

_SIZE = (6.4, 4.8)


def write(content: Mapping[str, Any], out: pathlib.Path) -> list[pathlib.Path]:
  """One PNG for each pair of figures that two rows or more have.

  Args:
    content: what `run.evaluate` returns.
    out: folder.
  """
  files = []
  for x, y in content["plots"]:
    points = {
      label: row["figures"]
      for label, row in content["rows"].items()
      if row["figures"].get(x) and row["figures"].get(y)
    }
    if len(points) > 1:
      files.append(out / file(x, y))
      canvas = _draw(points, x=x, y=y, title=content["title"])
      with atomic.replaced(files[-1]) as new:
        canvas.savefig(new, dpi=150, format="png")
  return files


def file(x: str, y: str) -> str:
  """The name of the plot of a pair of figures."""
  name = re.sub("[^a-z0-9]+", "-", f"{y} {x}".lower()).strip("-")
  return f"{name}.png"


def _draw(
  points: Mapping[str, Mapping[str, Any]], *, x: str, y: str, title: str
) -> mpl.Figure:
  """Points with error bars; ground truth is hollow."""
  canvas = mpl.Figure(figsize=_SIZE, layout="constrained")
  axes = canvas.add_subplot()
  for label, figures in points.items():
    across, up = figures[x], figures[y]
    is_floor = floors.is_floor(label)
    axes.errorbar(
      across["value"],
      up["value"],
      xerr=_reach(across),
      yerr=_reach(up),
      fmt="o",
      markerfacecolor="none" if is_floor else None,
      capsize=3,
      label=f"{label} (n={up['num_assets']}, {across['num_assets']})",
    )
  axes.set_xlabel(_axis(x))
  axes.set_ylabel(_axis(y))
  axes.set_title(title)
  axes.legend(fontsize="small", title="n: of y, of x; bars: 95 %")
  return canvas


def _reach(estimate: Mapping[str, Any]) -> float:
  """Half the interval; 0 if there is none."""
  high = estimate["high"]
  return 0.0 if high is None else high - estimate["value"]


def _axis(name: str) -> str:
  better = "higher" if report.arrow(name) == "↑" else "lower"
  return f"{name} ({better} is better)"
