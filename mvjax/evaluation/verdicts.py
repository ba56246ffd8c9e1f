"""What the figures of consistency say beside those of ground truth."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mvjax.evaluation import epipolar_matches, floors, report

# Fewer views hardly contradict each other: the fit absorbs it.
_TELLING_VIEWS = 8


def judge(methods: Mapping[str, dict[str, Any]]) -> list[str]:
  """Adds MVC above its floor, drops what says nothing; returns notes.

  Args:
    methods: rows of a consistency report, which are changed.
  """
  notes = report.failure_notes(methods)
  floor_of = {
    method["kinds"][0]: method
    for label, method in methods.items()
    if floors.is_floor(label) and method["kinds"]
  }
  if not floor_of:
    notes.append(
      "no floor: give --floor (ground-truth renders) to know how much of a "
      "figure the measurement itself causes"
    )
  failing = set()
  for label, method in methods.items():
    own = [floor_of[kind] for kind in method["kinds"] if kind in floor_of]
    if any(_fails_tsed(floor) for floor in own):
      failing.add(label)
    if floors.is_floor(label) or not floor_of:
      continue
    if len(method["kinds"]) == len(own) == 1:
      _subtract(method["figures"], own[0]["figures"])
    else:
      notes.append(
        f"{label} has no figure above the floor: its assets are of "
        f"{' and of '.join(method['kinds']) or 'no kind'}, ground truth is of "
        f"{' and of '.join(floor_of)}"
      )
  if failing:
    worst = min(
      floor["figures"]["tsed"]["value"]
      for floor in floor_of.values()
      if _fails_tsed(floor)
    )
    rows = f" of {', '.join(sorted(failing))}"
    notes.append(
      f"tsed is left out{rows if len(failing) < len(methods) else ''}: "
      f"ground truth itself scores {worst:.2f}, below "
      f"{epipolar_matches.LEAST_USEFUL}"
    )
  for label in failing:
    methods[label]["figures"]["tsed"] = None
    for figures in methods[label]["assets"].values():
      figures.pop("tsed", None)
  for label, method in methods.items():
    if found := method["cameras_found"]:
      angle, low, high = (
        np.median([one[key] for one in found.values()])
        for key in ("field_of_view", "low", "high")
      )
      notes.append(
        f"{label}: lenses are nominal, so each of {len(found)} assets had its "
        f"field of view searched: {angle:.0f} degrees, as good from {low:.0f} "
        f"to {high:.0f} (medians); a floor's is known"
      )
  few = min(count for m in methods.values() for count in m["views"])
  if few < _TELLING_VIEWS:
    notes.append(
      f"{few} views: a fitted field absorbs most inconsistency below "
      f"{_TELLING_VIEWS} views"
    )
  return notes


def _fails_tsed(floor: Mapping[str, Any]) -> bool:
  found = floor["figures"].get("tsed")
  return bool(found) and found["value"] < epipolar_matches.LEAST_USEFUL


def _subtract(figures: dict[str, Any], floor: Mapping[str, Any]) -> None:
  """Adds what lies above the floor."""
  for name in ("mvc", "holdout"):
    own, base = figures.get(name), floor.get(name)
    if own and base:
      figures[f"{name} above floor"] = own | _above(own, base)


def _above(
  own: Mapping[str, Any], base: Mapping[str, Any]
) -> dict[str, float | None]:
  """The difference; independent intervals add by squares."""
  value = own["value"] - base["value"]
  if own["high"] is None or base["high"] is None:
    return {"value": value, "low": None, "high": None}
  reach = math.hypot(own["high"] - own["value"], base["high"] - base["value"])
  return {"value": value, "low": value - reach, "high": value + reach}
