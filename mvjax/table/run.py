"""`launch.py evaluate --table`: rows of methods to figures.

Everything that takes time is kept when it is done: samples in their folders,
features and figures by asset. A table that was interrupted goes on from there.
"""

import json
import multiprocessing
import os
import pathlib
from collections.abc import Mapping
from concurrent import futures
from typing import Any

import jax
import ml_collections

import mvjax
from mvjax import atomic, locks, records
from mvjax.evaluation import consistency_report, image_report, refit, store
from mvjax.generation import request as requests
from mvjax.generation import run as sampling
from mvjax.pages import shared, site
from mvjax.table import markdown, page, plots, preflight, rows
from mvjax.table import settings as tables

_TEXT = "table.md"


def evaluate(
  config: ml_collections.ConfigDict, out: str | os.PathLike
) -> dict[str, Any]:
  """Draws what is missing, scores, writes; returns what table.json holds.

  Args:
    config: the table's record, see `configs/table1.py`.
    out: folder for samples/, scores/, table.md, table.json, plots and
      index.html, the page.

  Raises:
    ValueError: one line about the record, a file or folder that it names, or
      one in `out` of others; nothing has been drawn then.
    FileNotFoundError: a model is not complete.
  """
  out = pathlib.Path(out)
  table = tables.make_table(config, out)
  check_place(out, table)
  preflight.check(table)
  with locks.only_run(out, "out"):
    draw_missing(config, table)
  sets, notes = rows.open_all(table)
  consistency_report.check(sets, table.consistency, folds=table.folds)
  floors = consistency_report.open_floors(table.consistency, sets)
  images = image_report.evaluate(
    sets | floors, table.images, out=out / "scores"
  )
  consistency = consistency_report.evaluate(
    sets,
    table.consistency,
    tools=consistency_report.Tools(
      refit=refit.of_field(table.refit),
      folds=table.folds,
      lpips=consistency_report.with_lpips(table.images.cache)
      if table.lpips
      else None,
    ),
    out=out / "scores",
  )
  content = {
    "title": table.title,
    "columns": list(table.columns),
    "plots": [list(pair) for pair in table.plots],
    "rows": _join(table, images["methods"], consistency["methods"]),
    "prompts": {"file": table.prompts_file, "count": len(table.prompts)},
    "seeds": list(table.seeds),
    "reference": images["reference"],
    "refit": consistency["refit"],
    "masks": consistency["masks"],
    "text": images["text"],
    "notes": [
      *consistency["notes"],
      *images["notes"],
      *notes,
      consistency_report.describe_cameras(consistency["methods"]),
    ],
    "config": json.loads(config.to_json_best_effort()),
    "hardware": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
    "versions": {"mvjax": mvjax.__version__, "jax": jax.__version__},
  }
  store.write_json(out / site.TABLE, content)
  atomic.write_text(out / _TEXT, markdown.format_table(content))
  pictures = plots.write(content, out)
  page.write(
    out,
    sets,
    methods={
      label: row
      | {"failures": images["methods"][label]["failures"] | row["failures"]}
      for label, row in consistency["methods"].items()
    },
    content=content,
    pictures=pictures,
  )
  return content


def check_place(out: pathlib.Path, table: tables.Table) -> None:
  """Checks that what the table writes last, if it is there, is a table's.

  Raises:
    ValueError: a file or folder is not of this program.
  """
  records.check_own(out / site.TABLE, ("rows", "columns"))
  shared.check_place(out)
  if not (out / site.TABLE).exists():
    names = (_TEXT, page.COPIES, *(plots.file(*pair) for pair in table.plots))
    for path in (out / name for name in names):
      if path.exists():
        raise records.foreign(path)


def draw_missing(
  config: ml_collections.ConfigDict, table: tables.Table
) -> None:
  """Draws the samples that are not there, row by row.

  All rows are checked before the first is drawn.
  """
  own = [row.request for row in table.rows if row.request is not None]
  missing = [request for request in own if sampling.find_missing(request)]
  for request in missing:
    if not table.own_processes:
      sampling.generate(config, request)
      continue
    # Not forked: a device belongs to one process, and so does its memory.
    with futures.ProcessPoolExecutor(
      1, mp_context=multiprocessing.get_context("spawn")
    ) as pool:
      pool.submit(_draw, config.to_json_best_effort(), request).result()


def _draw(config: str, request: requests.Request) -> None:
  sampling.generate(ml_collections.ConfigDict(json.loads(config)), request)


def _join(
  table: tables.Table,
  images: Mapping[str, dict[str, Any]],
  consistency: Mapping[str, dict[str, Any]],
) -> dict[str, dict[str, Any]]:
  """Both reports' figures by row; the floor comes last."""
  drawn = {row.label for row in table.rows if row.request is not None}
  joined = {}
  for label in images:
    joined[label] = images[label] | {
      "drawn": label in drawn,
      "views": consistency[label]["views"],
      # Where both have a figure (cost), that of all assets.
      "figures": images[label]["figures"]
      | consistency[label]["figures"]
      | images[label]["figures"],
    }
  return joined
