"""What a table is: rows of methods, one list of prompts, figures.

A row is drawn by this project (`request`), or it is a folder of views that
another system made of the same prompts.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_collections

from mvjax.evaluation import consistency_report, floors, image_report
from mvjax.generation import request as requests
from mvjax.reconstruction import field


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
  """One method.

  Attributes:
    label: names the row, and its folders.
    folder: of its sample folders.
    request: what draws them; None if another system did.
  """

  label: str
  folder: str
  request: requests.Request | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
  """A checked table.

  Attributes:
    title: what it is called.
    rows: methods, in order.
    prompts_file: where the prompts are from.
    prompts: those that are used.
    seeds: of each prompt.
    own_processes: draw every row in a process of its own, so that its peak
      memory is its own.
    images: what is measured on single views.
    consistency: what is measured on all views of an asset.
    refit: how fields are fitted to views.
    folds: of the hold-out figures.
    lpips: whether it is measured between reprojections.
    columns: figures of the main table.
    plots: pairs of figures, (consistency, quality).
  """

  title: str
  rows: tuple[Row, ...]
  prompts_file: str
  prompts: tuple[str, ...]
  seeds: tuple[int, ...]
  own_processes: bool
  images: image_report.Settings
  consistency: consistency_report.Settings
  refit: field.Settings
  folds: int
  lpips: bool
  columns: tuple[str, ...]
  plots: tuple[tuple[str, str], ...]


def make_table(config: ml_collections.ConfigDict, out: pathlib.Path) -> Table:
  """Checks a table's record; see `configs/table1.py` for its fields.

  Args:
    config: the record.
    out: folder of the table; rows without a folder get one inside it.

  Raises:
    ValueError: one line: the field, its value and what is allowed.
  """
  given = {field.name for field in dataclasses.fields(Table)} - {"prompts_file"}
  if missing := (given | {"num_prompts", "sample"}) - set(config):
    raise ValueError(
      f"table: has no {min(missing)}; give the record of a table, such as "
      "configs/table1.py"
    )
  prompts = requests.read_prompts(config.prompts)
  if config.num_prompts is not None:
    prompts = _evenly(prompts, config.num_prompts)
  seeds = tuple(config.seeds)
  if not all(isinstance(seed, int) and seed >= 0 for seed in seeds):
    raise ValueError(f"seeds={seeds}: must be whole numbers from 0 on")
  if config.folds < 2:
    raise ValueError(f"folds={config.folds}: must be 2 or more")
  rows = tuple(
    _make_row(row, config=config, prompts=prompts, seeds=seeds, out=out)
    for row in tuple(config.rows)
  )
  labels = [row.label for row in rows]
  if not labels or len(set(labels)) < len(labels):
    raise ValueError(
      f"rows: labels {labels} must be one or more, all different"
    )
  return Table(
    title=config.title,
    rows=rows,
    prompts_file=str(config.prompts),
    prompts=prompts,
    seeds=seeds,
    own_processes=config.own_processes,
    images=_make(image_report.Settings, config, "images"),
    consistency=_make(consistency_report.Settings, config, "consistency"),
    refit=_make(field.Settings, config, "refit"),
    folds=config.folds,
    lpips=config.lpips,
    columns=tuple(config.columns),
    plots=tuple((str(x), str(y)) for x, y in tuple(config.plots)),
  )


def _make_row(
  row: Any,
  *,
  config: ml_collections.ConfigDict,
  prompts: tuple[str, ...],
  seeds: tuple[int, ...],
  out: pathlib.Path,
) -> Row:
  if not isinstance(row, Mapping):
    raise ValueError(f"rows: {row!r} must be dict(label=..., ...)")
  values = dict(row)
  label = str(values.pop("label", ""))
  if not label.strip(".") or label != pathlib.PurePath(label).name:
    raise ValueError(f"rows: label={label!r} must be able to name a folder")
  if floors.is_floor(label):
    raise ValueError(f"rows: label={label!r} is taken; choose another")
  folder = values.pop("folder", None)
  if folder is not None:
    if values:
      raise ValueError(
        f"rows: {label!r} has a folder and {min(values)}; what is there "
        "cannot be drawn otherwise, drop one of them"
      )
    return Row(label=label, folder=str(folder), request=None)
  folder = str(out / "samples" / label)
  request = requests.make_request(
    {**config.sample, **values, "seeds": seeds},
    {"prompts": config.prompts, "out": folder},
  )
  request = dataclasses.replace(request, prompts=prompts)
  return Row(label=label, folder=folder, request=request)


def _make(kind: type, config: ml_collections.ConfigDict, section: str) -> Any:
  """A settings dataclass of a section."""
  values = dict(config[section])
  known = [item.name for item in dataclasses.fields(kind)]
  if unknown := values.keys() - set(known):
    raise ValueError(
      f"{section}.{min(unknown)}: no such setting; there are {', '.join(known)}"
    )
  return kind(**values)


def _evenly(prompts: tuple[str, ...], count: int) -> tuple[str, ...]:
  """The middles of `count` equal shares of the list."""
  if not 1 <= count <= len(prompts):
    raise ValueError(
      f"num_prompts={count}: the file has {len(prompts)}; choose 1 to that"
    )
  return tuple(
    prompts[int((i + 0.5) * len(prompts) / count)] for i in range(count)
  )
