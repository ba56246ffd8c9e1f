"""`launch.py evaluate --table`: rows of methods to figures.

Everything that takes time is kept when it is done: samples in their folders,
features and figures by asset. A table that was interrupted goes on from there.
"""

import json
import multiprocessing
import os
import pathlib
import re
from collections.abc import Mapping
from concurrent import futures
from typing import Any

import jax
import ml_collections

import mvjax
from mvjax import atomic, compilation, view_sets
from mvjax.evaluation import consistency_report, image_report, refit, store
from mvjax.generation import request as requests
from mvjax.generation import run as sampling
from mvjax.table import markdown, page, plots
from mvjax.table import settings as tables


def evaluate(
  config: ml_collections.ConfigDict, out: str | os.PathLike
) -> dict[str, Any]:
  """Draws what is missing, scores, writes; returns what table.json holds.

  Args:
    config: the table's record, see `configs/table1.py`.
    out: folder for samples/, scores/, table.md, table.json, plots and
      index.html, the page.

  Raises:
    ValueError: one line about the record or a row's folder; nothing has been
      compiled if the record is wrong.
    FileNotFoundError: a folder, a data set or a model is not there.
  """
  out = pathlib.Path(out)
  table = tables.make_table(config, out)
  draw_missing(config, table)
  sets, notes = open_rows(table)
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
      *notes,
      consistency_report.describe_cameras(consistency["methods"]),
    ],
    "config": json.loads(config.to_json_best_effort()),
    "hardware": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
    "versions": {"mvjax": mvjax.__version__, "jax": jax.__version__},
  }
  store.write_json(out / "table.json", content)
  atomic.write_text(out / "table.md", markdown.format_table(content))
  plots.write(content, out)
  figures = {
    label: method["assets"] for label, method in consistency["methods"].items()
  }
  page.write(out, sets, figures=figures, title=table.title)
  return content


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
  compilation.enable_cache()
  sampling.generate(ml_collections.ConfigDict(json.loads(config)), request)


def open_rows(
  table: tables.Table,
) -> tuple[dict[str, list[view_sets.Asset]], list[str]]:
  """The assets of each row, in the order of the prompts, and remarks.

  Raises:
    ValueError: a row has none of the prompts.
    FileNotFoundError: a row's folder is not there.
  """
  sets, notes = {}, []
  order = {_words(prompt): i for i, prompt in enumerate(table.prompts)}
  for row in table.rows:
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
    sets[row.label] = [asset for *_, asset in found]
    lacking = len(table.prompts) - len({place for place, *_ in found})
    if lacking:
      notes.append(f"{row.label} lacks {lacking} of the prompts")
  return sets, notes


def _words(text: str) -> str:
  """A prompt without case and punctuation, which folder names lose."""
  return " ".join(re.findall("[a-z0-9]+", text.lower()))


def _join(
  table: tables.Table,
  images: Mapping[str, dict[str, Any]],
  consistency: Mapping[str, dict[str, Any]],
) -> dict[str, dict[str, Any]]:
  """Both reports' figures by row; the floor comes last."""
  drawn = {row.label for row in table.rows if row.request is not None}
  rows = {}
  for label in images:
    rows[label] = images[label] | {
      "drawn": label in drawn,
      "views": consistency[label]["views"],
      # Where both have a figure (cost), that of all assets.
      "figures": images[label]["figures"]
      | consistency[label]["figures"]
      | images[label]["figures"],
    }
  return rows
