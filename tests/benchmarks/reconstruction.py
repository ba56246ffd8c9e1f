"""Quality and cost of reconstruction from ground-truth renders of new objects.

    python -m tests.benchmarks.reconstruction --objects=20 --views=4,8,16

Every object of the held-out split has six orbits of four views. N views are
its first N / 4 orbits; the four views of the last one are never fitted. PSNR
is the mean over views of each view's, of the whole image on white, and of the
union of the true and the rendered mask ("object"). Seconds are wall time from
decoded views to a textured mesh, without the object that compiles. The table
holds means over objects with 95 % intervals. What was measured is kept in
--out, so that the program can be killed and repeated; nothing else should run
on the machine. --assets=FOLDER keeps the assets as GLB files, for Khronos'
validator (tests/browser) and for the eye.
"""

import argparse
import pathlib
import re
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from data_pipeline import decoding, loader
from data_pipeline import views as view_groups
from mvjax import atomic, geometry, pixel_metrics
from mvjax.evaluation import bootstrap, store
from mvjax.reconstruction import assets, field, run
from mvjax.views import asset_views

_SECONDS = "seconds"
# Figures that were kept under another definition are made again.
_DEFINITION = "PSNR: mean over views of each view's"
# Figures and their digits.
_COLUMNS = {
  "PSNR input": 2,
  "PSNR input, object": 2,
  "PSNR unseen": 2,
  "PSNR unseen, object": 2,
  "PSNR unseen, mesh": 2,
  "surface seen by < 2 views (%)": 0,
  _SECONDS: 1,
}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--dataset", default="runs/data/renders/1.0.0")
  parser.add_argument("--objects", type=int, default=20)
  parser.add_argument("--views", default="4,8,16")
  parser.add_argument("--look", default="full")
  parser.add_argument("--grid", type=int, default=64)
  parser.add_argument("--steps", type=int, default=250)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument(
    "--masks", choices=("alpha", "background"), default="alpha"
  )
  parser.add_argument("--out", default="out/reconstruction_table")
  parser.add_argument("--assets", help="folder for a GLB of every object")
  options = parser.parse_args()
  settings = run.Settings(
    fit=field.Settings(
      grid=options.grid, steps=options.steps, seed=options.seed
    )
  )
  chosen = loader.LoaderSettings(
    path=options.dataset,
    split="held_out_objects",
    looks=(options.look,),
    num_views=1,
    batch_size=1,
  )
  records = loader.records(chosen)
  version = loader.fingerprint(chosen)["source_digest"]
  count = min(options.objects, len(records))
  numbers = [int((i + 0.5) * len(records) / count) for i in range(count)]
  kept = store.Store(pathlib.Path(options.out) / "objects")
  table = {}
  for views in map(int, options.views.split(",")):
    rows, compiled = [], False
    for number in numbers:
      name = f"{views} views of {records[number]['uid'].decode()}"
      key = store.make_key(
        version, run.as_json(settings), options.masks, _DEFINITION
      )
      row = kept.read_json(name, key=key)
      glb = options.assets and _glb_file(options.assets, name)
      if row is None or (glb and not glb.exists()):
        given, unseen = _views(
          records[number], views, with_alpha=options.masks == "alpha"
        )
        row, asset = _measure(given, unseen, settings)
        if glb:
          with atomic.replaced(glb) as new:
            assets.write_glb(new, asset)
        if not compiled:  # counts for quality only
          row[_SECONDS], compiled = None, True
        kept.write_json(name, row, key=key)
      rows.append(row)
      print(f"{name}: {row}", flush=True)
    table[views] = rows
  about = (
    f"n = {count} held-out objects x 4 unseen views, look {options.look}, seed "
    f"{options.seed}, masks from {options.masks}, grid {options.grid}, "
    f"{options.steps} steps; {jax.device_count()} x "
    f"{jax.devices()[0].device_kind}. ±: half of the 95 % interval over "
    "objects. Seconds are without compilation, of all objects but one. Mesh: "
    "its texture without light."
  )
  text = "\n".join([*_lines(table), "", about])
  atomic.write_text(pathlib.Path(options.out) / "table.md", text + "\n")
  print(text)


def _glb_file(folder: str, name: str) -> pathlib.Path:
  return pathlib.Path(folder) / f"{re.sub('[^A-Za-z0-9]+', '-', name)}.glb"


def _lines(
  table: Mapping[int, Sequence[Mapping[str, float | None]]],
) -> list[str]:
  """The table in Markdown."""
  lines = [
    f"| N | {' | '.join(_COLUMNS)} |",
    "|---" * (len(_COLUMNS) + 1) + "|",
  ]
  for views, rows in table.items():
    cells = [
      _cell([row[name] for row in rows if row[name] is not None], digits)
      for name, digits in _COLUMNS.items()
    ]
    lines.append(f"| {views} | {' | '.join(cells)} |")
  return lines


def _cell(values: Sequence[float], digits: int) -> str:
  """Mean and half of its interval."""
  if not values:
    return "-"
  found = bootstrap.mean(values)
  text = f"{found.value:.{digits}f}"
  if found.high is None:
    return text
  return f"{text} ±{found.high - found.value:.{digits}f}"


def _views(
  record, number: int, *, with_alpha: bool
) -> tuple[asset_views.Views, asset_views.Views]:
  """The first orbits, and the last."""
  orbits, _ = view_groups.split_groups(
    record["camera_to_world"], record["group"]
  )
  if number % 4 or number > 4 * (len(orbits) - 1):
    raise SystemExit(f"views={number}: a multiple of 4 up to 20")
  parts = []
  for chosen in (np.concatenate(orbits[: number // 4]), orbits[-1]):
    pixels = decoding.pixels(record, chosen)
    parts.append(
      asset_views.Views(
        image=pixels.image,
        alpha=pixels.alpha,
        camera=geometry.Camera(
          camera_to_world=record["camera_to_world"][chosen],
          intrinsics=pixels.intrinsics,
        ),
      )
    )
  given, unseen = parts
  if not with_alpha:
    given = asset_views.Views(image=given.image, camera=given.camera)
  return given, unseen


def _measure(
  given: asset_views.Views, unseen: asset_views.Views, settings: run.Settings
) -> tuple[dict[str, float], assets.Asset]:
  """The columns of one object, and its asset."""
  result = run.make(given, settings)
  size = unseen.image.shape[1]
  shown = jax.tree.map(
    np.asarray, field.render(result.field, unseen.camera, size)
  )
  mesh = assets.render(result.asset, unseen.camera, size=size)
  mesh = mesh.astype(np.float32) / 127.5 - 1
  both = (np.asarray(unseen.alpha) > 0.5) | (shown.alpha > 0.5)
  covered = result.record["undetermined"]
  seen_once = covered["surface_seen_by_none"] + covered["surface_seen_by_one"]
  values = (
    result.record["psnr_input_views"],
    result.record["psnr_input_views_object"],
    pixel_metrics.mean_psnr(shown.rgb, unseen.image),
    pixel_metrics.mean_psnr(shown.rgb, unseen.image, both),
    pixel_metrics.mean_psnr(mesh, unseen.image),
    100 * seen_once,
    result.record["seconds"],
  )
  row = {
    name: float(value) for name, value in zip(_COLUMNS, values, strict=True)
  }
  return row, result.asset


if __name__ == "__main__":
  main()
