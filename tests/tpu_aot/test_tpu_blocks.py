"""One block of each resolution, forward and backward, as the planner has it."""

import dataclasses

import jax
import pytest

from mvjax.parallel import mesh as meshes
from mvjax.planning import abstract, blocks, hlo
from tests.tpu_aot import pods

CLASSES = ("ResnetBlock", "SpatialTransformer", "EpipolarConsistencyBlock")
# The UNet's maps; the coarsest has no transformer but in the middle.
SIZES = (8, 4, 2)


@pytest.fixture(scope="module")
def found():
  """Blocks of the UNet by class and side, the first of each."""
  config = pods.make_config(fsdp=2)
  mesh = pods.make_mesh(config, "v5e:2x2")
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


def test_the_gathering_form_is_told_from_the_other(found, config):
  """The check above can fail: the CPU's form gathers and scatters."""
  mesh = pods.make_mesh(config, pods.TOPOLOGIES[0])
  block = found["EpipolarConsistencyBlock", (4,)]
  gathering = dataclasses.replace(
    block, module=block.module.clone(sampler="gather")
  )
  text = hlo.Program(compile_gradient(gathering, mesh).as_text())
  assert text.count("gather") + text.count("scatter") > 0
