"""Quality and cost of reconstruction from ground-truth renders of new objects.

    python tests/benchmarks/reconstruction.py --objects=20 --views=4,8,16

Every object of the held-out split has six orbits of four views. N views are
its first N / 4 orbits; the four views of the last one are never fitted. PSNR
is the mean over objects and views, of the whole image on white, and of the
union of the true and the rendered mask ("object"). Seconds are wall time from
decoded views to a textured mesh, without the first object, which compiles.
"""

import argparse
import statistics
from collections.abc import Sequence

import jax
import numpy as np

from data_pipeline import loader
from data_pipeline import views as view_groups
from mvjax import compilation, geometry, pixel_metrics, view_sets
from mvjax.reconstruction import assets, field, run

_COLUMNS = (
  "PSNR input",
  "PSNR unseen",
  "PSNR unseen, object",
  "PSNR unseen, mesh",
  "surface seen by < 2 views",
  "seconds",
)


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
  options = parser.parse_args()
  compilation.enable_cache()
  settings = run.Settings(
    fit=field.Settings(
      grid=options.grid, steps=options.steps, seed=options.seed
    )
  )
  records = loader.records(
    loader.LoaderSettings(
      path=options.dataset,
      split="held_out_objects",
      looks=(options.look,),
      num_views=1,
      batch_size=1,
    )
  )
  count = min(options.objects, len(records))
  chosen = [int((i + 0.5) * len(records) / count) for i in range(count)]
  lines = [
    f"| N | {' | '.join(_COLUMNS)} |",
    "|---" * (len(_COLUMNS) + 1) + "|",
  ]
  for views in map(int, options.views.split(",")):
    rows = []
    for number in chosen:
      given, unseen = _views(
        records[number], views, with_alpha=options.masks == "alpha"
      )
      rows.append(_measure(given, unseen, settings))
      uid = records[number]["uid"].decode()
      print(f"N={views} {uid}: {_format(rows[-1])}", flush=True)
    # The first object compiles; it counts for quality only.
    seconds = [row[-1] for row in rows[1:]] or [rows[0][-1]]
    means = np.mean([row[:-1] for row in rows], 0).tolist()
    lines.append(f"| {views} | {_format([*means, statistics.mean(seconds)])} |")
  print("\n".join(lines))
  print(
    f"\nn = {count} objects x 4 unseen views, look {options.look}, seed "
    f"{options.seed}, masks from {options.masks}, grid {options.grid}, "
    f"{options.steps} steps, {jax.devices()[0].device_kind} x "
    f"{len(jax.devices())}; mesh: its texture without light"
  )


def _views(
  record, number: int, *, with_alpha: bool
) -> tuple[view_sets.Views, view_sets.Views]:
  """The first orbits, and the last."""
  orbits, _ = view_groups.split_groups(
    record["camera_to_world"], record["group"]
  )
  if number % 4 or number > 4 * (len(orbits) - 1):
    raise SystemExit(f"views={number}: a multiple of 4 up to 20")
  parts = []
  for chosen in (np.concatenate(orbits[: number // 4]), orbits[-1]):
    pixels = loader.decode_views(record, chosen)
    parts.append(
      view_sets.Views(
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
    given = view_sets.Views(image=given.image, camera=given.camera)
  return given, unseen


def _measure(
  given: view_sets.Views, unseen: view_sets.Views, settings: run.Settings
) -> list[float]:
  """One row: the columns in their order."""
  result = run.make(given, settings)
  size = unseen.image.shape[1]
  shown = jax.tree.map(
    np.asarray, field.render(result.field, unseen.camera, size)
  )
  mesh = assets.render(result.asset, unseen.camera, size=size)
  mesh = mesh.astype(np.float32) / 127.5 - 1
  both = (np.asarray(unseen.alpha) > 0.5) | (shown.alpha > 0.5)
  covered = result.record["undetermined"]
  return [
    result.record["psnr_input_views"],
    _psnr(shown.rgb, unseen.image),
    _psnr(shown.rgb, unseen.image, both),
    _psnr(mesh, unseen.image),
    covered["surface_seen_by_none"] + covered["surface_seen_by_one"],
    result.record["seconds"],
  ]


def _psnr(a, b, mask=None) -> float:
  """Mean over views of each view's PSNR."""
  masks = [None] * len(a) if mask is None else mask[:, None]
  return statistics.mean(
    pixel_metrics.psnr(x[None], y[None], m)
    for x, y, m in zip(a, b, masks, strict=True)
  )


def _format(values: Sequence[float]) -> str:
  *quality, share, seconds = values
  cells = [f"{value:.2f}" for value in quality]
  return " | ".join([*cells, f"{share:.0%}", f"{seconds:.1f}"])


if __name__ == "__main__":
  main()
