"""Plans a run: its programs compiled for a topology, and what they need.

Block by block, one block of each class and resolution is compiled
(`part.add_up`), and a program is the sum of its blocks:

  work    every block as often as it is called, those of trained networks
          forward and backward, of frozen ones forward. The optimiser is
          counted by hand: ten float32 numbers read or written a parameter.
  memory  what is there all the time (parameters, average, optimiser, frozen
          networks, batch), the gradients, what every trained block keeps for
          its backward, and the largest temporary memory of a block. Of a batch
          that is taken in parts (`train.accumulate`) only one part keeps
          anything, but its gradients are there beside their sum.

Whole, a program is compiled as it will run, and the figures are the compiler's
own. That takes a quarter of an hour for a Stable Diffusion on two cores.
"""

import dataclasses
import functools
import time
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections
from jax.sharding import Mesh

from mvjax import sampling, scores
from mvjax.parallel import mesh as meshes
from mvjax.parallel import placement, rules
from mvjax.planning import abstract, blocks, chips, cost, part
from mvjax.training import optimizer, program, validation
from mvjax.training.tasks import task

PROGRAMS = ("train", "sample")
# Parameter, average, two moments and gradient are read; all but the gradient
# are written; the gradient's norm reads it once more.
_UPDATE_NUMBERS = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """What a config needs of a topology.

  Attributes:
    topology: such as 'v5e:16x16'.
    chip: of the topology.
    mesh: sizes of the mesh axes.
    batch: examples of a train step, assets sampled together, and views.
    parameters: trained and frozen numbers of the train step.
    parts: the programs.
  """

  topology: str
  chip: chips.Chip
  mesh: Mapping[str, int]
  batch: Mapping[str, int]
  parameters: Mapping[str, int]
  parts: tuple[part.Part, ...]


def make(
  config: ml_collections.ConfigDict,
  topology: str,
  *,
  programs: tuple[str, ...] = PROGRAMS,
  whole: bool = False,
  latents: bool = False,
  samples_per_chip: int = 1,
  count: int | None = None,
) -> Plan:
  """Plans the train step and the sampler of a config.

  Args:
    config: see configs/base.py; `train.init_from` need not be there.
    topology: see `chips`.
    programs: which of `PROGRAMS`; a sampler is one of 'image' and 'multiview'
      configs.
    whole: compile programs as they run instead of block by block.
    latents: train on data that was encoded beforehand.
    samples_per_chip: assets that a chip denoises together.
    count: use the first so many chips of the topology; None: all.

  Raises:
    ValueError: a config, topology or mesh that does not fit, by field.
  """
  if unknown := set(programs) - set(PROGRAMS):
    raise ValueError(
      f"programs={','.join(unknown)}: choose from {', '.join(PROGRAMS)}"
    )
  validation.validate(config, reads_weights=False)
  chip, devices = chips.devices(topology)
  devices = devices[:count]
  mesh = meshes.make(config.mesh, devices)
  assets = samples_per_chip * len(devices)
  chosen = abstract.train_task(config, mesh=mesh)
  parts = []
  if "train" in programs:
    validation.check_devices(config, mesh)
    parts.append(
      _train(config, chosen, mesh=mesh, whole=whole, latents=latents)
    )
  if "sample" in programs and config.task != "vae":
    sampler = abstract.sampler(config, mesh=mesh, batch_size=assets)
    parts.append(_sample(sampler, mesh=mesh, whole=whole))
    parts.append(_decode(sampler, mesh=mesh, whole=whole))
  return Plan(
    topology=topology,
    chip=chip,
    mesh=dict(mesh.shape),
    batch={
      "train": config.train.batch_size,
      "sample": assets,
      "views": config.data.num_views,
    },
    parameters={
      name: sum(leaf.size for leaf in jax.tree.leaves(tree))
      for name, tree in (("trained", chosen.params), ("frozen", chosen.frozen))
    },
    parts=tuple(parts),
  )


def _train(
  config: ml_collections.ConfigDict,
  chosen: task.Task,
  *,
  mesh: Mesh,
  whole: bool,
  latents: bool,
) -> part.Part:
  """The train step on batches of the main kind."""
  start = time.perf_counter()
  made = program.Program(config, chosen, mesh=mesh)
  batch = abstract.batch(config, chosen, latents=latents)
  batch = placement.abstract(batch, rules.batch_shardings(batch, mesh))
  if whole:
    with meshes.use(mesh):
      return part.compile_whole(
        "train step", made.steps["main"], made.state, batch, made.frozen
      )
  total = part.add_up(
    _calls(config, chosen, made, mesh=mesh, latents=latents),
    mesh=mesh,
    title="train step",
  )
  params = part.bytes_of(made.state.params)
  return part.Part(
    name="train step",
    whole=False,
    memory={
      "parameters": params,
      "average": part.bytes_of(made.state.ema),
      "optimiser": part.bytes_of(made.state.opt_state),
      "frozen": part.bytes_of(made.frozen),
      "batch": part.bytes_of(batch),
      "gradients": params if config.train.accumulate == 1 else 2 * params,
      "kept for backward": total.kept,
      "temporary": total.temporary,
    },
    cost=total.cost + cost.Cost(bytes=float(_UPDATE_NUMBERS * params)),
    compiled=total.compiled,
    seconds=time.perf_counter() - start,
  )


def _sample(sampler: abstract.Sampler, *, mesh: Mesh, whole: bool) -> part.Part:
  """All denoising steps; parameters whole on every device."""
  start = time.perf_counter()
  params = abstract.placed(sampler.params, mesh)
  told = {
    name: abstract.placed(conditioning, mesh, "batch", "view")
    for name, conditioning in sampler.conditioning.items()
  }
  x = abstract.placed(sampler.x, mesh, "batch", "view")
  if whole:
    keys = jax.eval_shape(
      lambda: jax.random.split(jax.random.key(0), x.shape[0])
    )
    steps = jax.eval_shape(lambda: sampler.schedule)
    run = functools.partial(
      sampling.sample, sampler.score, shape=x.shape[1:], eta=0.0
    )
    with meshes.use(mesh):
      return part.compile_whole(
        "sampler",
        jax.jit(
          lambda params, told, steps, keys: run(
            params, conditioning=told, steps=steps, keys=keys
          )
        ),
        params,
        told,
        abstract.placed(steps, mesh),
        abstract.placed(keys, mesh, "batch"),
      )
  step = scores.Step(
    level=jax.tree.map(_scalar, sampler.schedule.levels),
    weights=jax.tree.map(_scalar, sampler.schedule.weights),
  )
  calls = []
  for name, score in sampler.score_fns.items():
    with meshes.use(mesh):
      found = blocks.find(score, sampler.params[name], x, step, told[name])
    times = sampler.steps * sampler.branches[name]
    calls += [
      part.Call(
        block=block,
        times=times * block.count,
        replicated=True,
      )
      for block in found
    ]
  total = part.add_up(part.joined(calls), mesh=mesh, title="sampler")
  return part.Part(
    name="sampler",
    whole=False,
    memory={
      "parameters": part.bytes_of(params),
      "conditioning": part.bytes_of(told),
      # The two branches of guidance side by side.
      "temporary": max(sampler.branches.values()) * total.temporary,
    },
    cost=total.cost,
    compiled=total.compiled,
    seconds=time.perf_counter() - start,
  )


def _decode(sampler: abstract.Sampler, *, mesh: Mesh, whole: bool) -> part.Part:
  """Latents to images, one asset after the other on each device."""
  start = time.perf_counter()
  params = next(iter(sampler.params.values()))
  held = abstract.placed(sampler.x, mesh, "batch", "view")
  turns = sampler.x.shape[0] // mesh.size
  latents = abstract.placed(
    jax.ShapeDtypeStruct((mesh.size, *sampler.x.shape[1:]), sampler.x.dtype),
    mesh,
    "batch",
    "view",
  )
  vae = abstract.placed({"vae": params["vae"]}, mesh)
  if whole:
    with meshes.use(mesh):
      found = part.compile_whole(
        "decoder", jax.jit(sampler.decode_fn), vae, latents
      )
    return dataclasses.replace(found, cost=found.cost * turns)
  with meshes.use(mesh):
    found = blocks.find(sampler.decode_fn, vae, latents)
  total = part.add_up(
    [
      part.Call(block=block, times=turns * block.count, replicated=True)
      for block in found
    ],
    mesh=mesh,
    title="decoder",
  )
  return part.Part(
    name="decoder",
    whole=False,
    memory={
      "parameters": part.bytes_of(vae),
      "latents": part.bytes_of(held),
      "temporary": total.temporary,
    },
    cost=total.cost,
    compiled=total.compiled,
    seconds=time.perf_counter() - start,
  )


def _calls(
  config: ml_collections.ConfigDict,
  chosen: task.Task,
  made: program.Program,
  *,
  mesh: Mesh,
  latents: bool,
) -> list[part.Call]:
  """The blocks of the train step's loss, part of the batch after part.

  All blocks of a network of which something is trained run backward.
  """
  parts = config.train.accumulate
  key = jax.eval_shape(lambda: jax.random.key(0))
  params = optimizer.join_params(made.state.params, made.frozen["held"])
  with meshes.use(mesh):
    found = blocks.find(
      chosen.losses["main"],
      params,
      abstract.batch(config, chosen, latents=latents, parts=parts),
      key,
      made.frozen["task"],
    )
  rates, calls = config.optimizer.groups, []
  for block in found:
    path = f"{block.path}/"
    if config.task == "vae":  # its tree is that of the network
      path = path.removeprefix("vae/")
    backward = path.partition("/")[0] in chosen.params
    calls.append(
      part.Call(
        block=block,
        times=parts * block.count,
        parts=parts,
        backward=backward,
        learns=backward and rates[optimizer.group_of(path)] > 0,
      )
    )
  return calls


def _scalar(grid: Any) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct((), grid.dtype)
