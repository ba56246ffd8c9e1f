"""A program: steps and samples on several meshes of eight CPU devices.

Writes OUT/results.npz with, for each mesh and batch, loss and gradients of a
training step and the bytes that devices hold, or sampled views.
"""

import gc
import pathlib
import sys
import warnings

import jax
import numpy as np

from mvjax.generation import joint
from mvjax.generation import request as requests
from mvjax.parallel import mesh as meshes
from mvjax.training import loop, program
from mvjax.training.tasks import registry
from tests.parallel import small

# (data, fsdp, view) and the parts of a batch of 8: in two parts of 4 there are
# fewer examples than devices, and the `view` axis divides their views.
ONE = (1, 1, 1), 1
STEPS = [ONE, ((2, 2, 2), 2)]
# Devices and samples; 4 samples have two devices each.
SAMPLES = [(1, 4), (8, 4)]


def main(out: pathlib.Path) -> None:
  """Runs all of it."""
  warnings.filterwarnings("ignore", message="text cut")
  results = {}
  for sizes, parts in STEPS:
    for name, value in train_step(out, sizes, parts).items():
      results[f"step {sizes} {parts} {name}"] = value
  for devices, count in SAMPLES:
    results[f"sample {devices} {count}"] = sample(out, devices, count)
  np.savez(out / "results.npz", **results)


def train_step(out, sizes, parts):
  """Loss and gradients of the first step, and what a device holds."""
  config = small.config(out / "model", batch_size=8)
  with config.unlocked():
    config.train.accumulate = parts
  section = small.mesh_section(config, sizes)
  mesh = meshes.make(section, jax.devices()[: np.prod(sizes)])
  stream = loop.open_streams(config)["main"]
  task = registry.make(config, workdir=out, stream=stream)
  run = program.Run(config, task, mesh=mesh)
  state = run.program.start()
  live = live_bytes(mesh)
  batch = run.put(next(stream.start(0)))
  state, metrics = run.step("main", state, batch)
  # After one step the first moments are the clipped gradients times 1 - b1.
  moments = [
    np.ravel(leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(state.opt_state)
    if "/mu/" in jax.tree_util.keystr(path, simple=True, separator="/")
  ]
  return {
    "loss": metrics["loss"],
    "gradient_norm": metrics["gradient_norm"],
    "gradients": np.concatenate(moments),
    "state_bytes": held(state),
    "batch_bytes": held(batch),
    "frozen_bytes": held(run.frozen),
    "live_bytes": live,
  }


def held(tree) -> int:
  """Bytes of a tree on its first device."""
  leaves = jax.tree.leaves(tree)
  return sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves)


def live_bytes(mesh) -> np.ndarray:
  """Bytes that this process holds on each device of a mesh, in any array."""
  gc.collect()  # what was made for the meshes before
  found = dict.fromkeys(mesh.devices.flat, 0)
  for array in jax.live_arrays():
    for shard in array.addressable_shards:
      if shard.device in found:
        found[shard.device] += shard.data.nbytes
  return np.array(list(found.values()))


def sample(out, devices, count):
  """Views [b v h w 3] from `count` seeds."""
  request = requests.Request(
    prompts=("a red leather sofa",),
    seeds=tuple(range(count)),
    out=str(out / "samples"),
    multiview=str(out / "model"),
    image=str(out / "model"),
    score="mix",
    steps=2,
    multiview_guidance=2.0,
  )
  camera = requests.cameras(request)
  views = len(camera.intrinsics)
  mesh = meshes.for_samples(count, views, jax.devices()[:devices])
  made = joint.build(request, camera, mesh=mesh)
  views, _ = joint.draw(made, request.prompts * count, seeds=request.seeds)
  return views


if __name__ == "__main__":
  main(pathlib.Path(sys.argv[1]))
