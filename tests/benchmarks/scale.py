"""The tables of docs/scale.md, from the planner.

  python -m tests.benchmarks.scale programs --out=runs/scale
  python -m tests.benchmarks.scale chips --out=runs/scale
  python -m tests.benchmarks.scale views --out=runs/scale

Every plan is a JSON file in --out and is not made again, so a run that was
stopped goes on; within a plan, finished blocks are kept (`planning.cost`).
"""

import argparse
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax

from configs import epipolar_sd21
from mvjax import atomic
from mvjax.commands import environment
from mvjax.planning import plan, report

# The presets of configs/presets.py on their topologies.
PODS = {
  "v5e:4x4": "v5e-16",
  "v5e:16x16": "v5e-256",
  "v5p:4x4x4": "v5p-64",
  "v6e:16x16": "v6e-256",
}
# Chips, the topology they are the first of, and how many share parameters.
COUNTS = (
  (1, "v5e:2x2", 1),
  (4, "v5e:2x2", 4),
  (16, "v5e:4x4", 16),
  (64, "v5e:8x8", 16),
  (256, "v5e:16x16", 16),
)
ASSETS_PER_CHIP = 4
VIEWS = (4, 8, 16)
# Over 16 chips: mesh, assets of a step, and the parts it is taken in. With four
# assets at a time, four chips divide the views of each.
MESHES = {
  "together": (dict(data=4, fsdp=4, view=1), 16, 1),
  "divided": (dict(data=1, fsdp=4, view=4), 16, 4),
  "few": (dict(data=1, fsdp=4, view=4), 4, 1),
}
_GIB, _MB = 2**30, 1e6


def main() -> None:
  """Makes the plans of one table and prints it."""
  parser = argparse.ArgumentParser()
  parser.add_argument("table", choices=("programs", "chips", "views"))
  parser.add_argument("--out", type=pathlib.Path, required=True)
  parser.add_argument("--whole", action="store_true")
  options = parser.parse_args()
  environment.plan_without_tpus()
  jax.config.update("jax_platforms", "cpu")
  rows = {"programs": programs, "chips": counts, "views": views}[options.table]
  for row in rows(options):
    print("| " + " | ".join(row) + " |", flush=True)


def programs(options: argparse.Namespace) -> Iterator[Sequence[str]]:
  """All programs of the full-size config on four topologies."""
  yield (
    "topology, mesh",
    "program",
    "GiB of",
    "TFLOP",
    "GB accessed",
    "MB sent",
    "roofline, ms",
    "limited by",
    "compiler's cycles, ms",
  )
  yield ["---"] * 9
  for topology, preset in PODS.items():
    name = f"{preset}{'-whole' if options.whole else ''}"
    config = epipolar_sd21.get_config(preset)
    made = cached(
      options.out / f"{name}.json",
      config,
      topology=topology,
      latents=True,
      whole=options.whole,
    )
    for found in made["programs"]:
      yield (
        f"{topology}, {axes(made)}",
        found["program"],
        f"{found['memory_bytes'] / _GIB:.2f} / {found['hbm_bytes'] / _GIB:.2f}",
        f"{found['flops'] / 1e12:.3g}",
        f"{found['bytes_accessed'] / 1e9:.3g}",
        f"{found['bytes_sent'] / _MB:.3g}",
        f"{1e3 * found['roofline_seconds']:.3g}",
        found["limited_by"],
        f"{1e3 * found['seconds_by_cycles']:.3g}",
      )


def counts(options: argparse.Namespace) -> Iterator[Sequence[str]]:
  """The train step from 1 to 256 chips at fixed assets a chip."""
  yield (
    "chips",
    "mesh.fsdp",
    "state, GiB",
    "all memory, GiB",
    "MB sent",
    "links, ms",
    "roofline, ms",
  )
  yield ["---"] * 7
  for count, topology, fsdp in COUNTS:
    config = epipolar_sd21.get_config()
    with config.unlocked():
      config.mesh.update(data=-1, fsdp=fsdp)
      config.train.batch_size = ASSETS_PER_CHIP * count
    (found,) = cached(
      options.out / f"chips-{count}.json",
      config,
      topology=topology,
      programs=("train",),
      latents=True,
      count=count,
    )["programs"]
    yield (str(count), str(fsdp), state(found), *step(found))


def views(options: argparse.Namespace) -> Iterator[Sequence[str]]:
  """The train step for 4, 8 and 16 views, with and without the `view` axis."""
  yield (
    "views",
    "mesh",
    "assets a step",
    "at a time",
    "kept for backward, GiB",
    "temporary, GiB",
    "all memory, GiB",
    "MB sent",
    "links, ms",
    "roofline, ms",
  )
  yield ["---"] * 10
  for num_views in VIEWS:
    for name, (mesh, batch_size, parts) in MESHES.items():
      config = epipolar_sd21.get_config()
      with config.unlocked():
        config.mesh.update(mesh)
        config.data.num_views = num_views
        config.train.update(batch_size=batch_size, accumulate=parts)
      made = cached(
        options.out / f"views-{num_views}-{name}.json",
        config,
        topology="v5e:4x4",
        programs=("train",),
        latents=True,
      )
      (found,) = made["programs"]
      yield (
        str(num_views),
        axes(made),
        str(batch_size),
        str(batch_size // parts),
        f"{found['memory']['kept for backward'] / _GIB:.2f}",
        f"{found['memory']['temporary'] / _GIB:.2f}",
        *step(found),
      )


def cached(
  path: pathlib.Path, config: Any, *, topology: str, **options: Any
) -> dict[str, Any]:
  """A plan as JSON values, from its file if it is there."""
  if not path.is_file():
    made = report.as_json(plan.make(config, topology, **options))
    atomic.write_text(path, json.dumps(made, indent=1))
  return json.loads(path.read_text())


def axes(made: Mapping[str, Any]) -> str:
  """The mesh axes that divide something."""
  return ", ".join(f"{k} {v}" for k, v in made["mesh"].items() if v > 1)


def state(found: Mapping[str, Any]) -> str:
  """What is there between steps."""
  held = ("parameters", "average", "optimiser", "frozen")
  return f"{sum(found['memory'][name] for name in held) / _GIB:.2f}"


def step(found: Mapping[str, Any]) -> tuple[str, ...]:
  """Memory, bytes sent, seconds of the links and of the slowest part."""
  return (
    f"{found['memory_bytes'] / _GIB:.2f}",
    f"{found['bytes_sent'] / _MB:.4g}",
    f"{1e3 * found['seconds_by_limit']['links']:.3g}",
    f"{1e3 * found['roofline_seconds']:.3g}",
  )


if __name__ == "__main__":
  main()
