"""One block of each resolution, forward and backward, as the planner has it."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from mvjax.parallel import mesh as meshes
from mvjax.planning import abstract, blocks, hlo
from tests.tpu_aot import pods

CLASSES = ("ResnetBlock", "SpatialTransformer", "EpipolarConsistencyBlock")
# The UNet's maps; the coarsest has no transformer but in the middle.
SIZES = (8, 4, 2)


@pytest.fixture(scope="module")
def found():
  config = pods.make_config(fsdp=2)
  return find(config, pods.make_mesh(config, "v5e:2x2"))


def find(config, mesh):
  """Blocks of the UNet by class and side, the first of each."""
  task = abstract.train_task(config, mesh=mesh)
  with meshes.use(mesh):
    all_blocks = blocks.find(
      task.losses["main"],
      task.params,
      abstract.batch(config, task),
      jax.eval_shape(lambda: jax.random.key(0)),
      task.frozen,
    )
  chosen = {}
  for block in all_blocks:
    if block.network == "unet":
      key = type(block.module).__name__, block.inputs[0].shape[1:2]
      chosen.setdefault(key, block)
  return chosen


def compile_gradient(block, mesh):
  args = blocks.arguments(block, mesh=mesh, whole=False)
  fun = jax.jit(
    blocks.gradient(block, learns=True),
    out_shardings=blocks.gradient_shardings(args, block, learns=True),
  )
  with meshes.use(mesh):
    return fun.lower(*args).compile()


@pytest.mark.parametrize("side", SIZES)
@pytest.mark.parametrize("name", CLASSES)
def test_a_block_of_each_resolution_compiles(found, mesh, name, side):
  program = compile_gradient(found[name, (side,)], mesh)
  text = hlo.Program(program.as_text())
  kinds = {one.kind for one in text.collectives()}
  # Parameters are gathered from, and gradients reduced to, their places.
  assert "all-gather" in kinds
  assert kinds & {"reduce-scatter", "all-reduce"}
  if name == "EpipolarConsistencyBlock":
    assert text.count("gather") == text.count("scatter") == 0


def large(mesh, batch_size):
  """An epipolar block as full-size runs have them, on four chips."""
  config = pods.make_config(fsdp=2)
  with config.unlocked():
    config.mesh.update(mesh)
    config.train.update(batch_size=batch_size, dtype="bfloat16", remat="blocks")
  mesh = pods.make_mesh(config, "v5e:2x2")
  block = find(config, mesh)["EpipolarConsistencyBlock", (4,)]
  assert block.remat == "blocks"
  assert block.inputs[0].dtype == jnp.bfloat16
  return block, hlo.Program(compile_gradient(block, mesh).as_text())


def test_chips_that_share_an_asset_send_its_maps():
  """In bfloat16, again in the backward, and still without a gather."""
  whole, apart = large(dict(data=2, fsdp=2, view=1), 4)
  divided, together = large(dict(data=1, fsdp=2, view=2), 2)
  # Of 16 views and of 8 on four chips.
  assert whole.inputs[0].shape[0] == 2 * divided.inputs[0].shape[0] == 16
  sent = [
    sum(one.count * one.bytes for one in program.collectives())
    for program in (apart, together)
  ]
  # A chip has half an asset's maps and sends them, in forward and backward;
  # for the parameters it sends the same.
  views, h, w, c = divided.inputs[0].shape
  maps = 2 * (views // 4) * h * w * c
  assert sent[1] - sent[0] >= 2 * maps
  for program in (apart, together):
    assert program.count("gather") == program.count("scatter") == 0


def test_the_gathering_form_is_told_from_the_other(found, config):
  """The check above can fail: the CPU's form gathers and scatters."""
  mesh = pods.make_mesh(config, pods.TOPOLOGIES[0])
  block = found["EpipolarConsistencyBlock", (4,)]
  gathering = dataclasses.replace(
    block, module=block.module.clone(sampler="gather")
  )
  text = hlo.Program(compile_gradient(gathering, mesh).as_text())
  assert text.count("gather") + text.count("scatter") > 0
