"""What a step holds and computes in, read off its shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvjax.parallel import flops
from mvjax.parallel import mesh as meshes
from mvjax.training import loop, optimizer, program
from mvjax.training.tasks import registry
from tests.parallel import small
from tests.training import several, toy
from tests.training import small as training

# The tiny model's tokenizer knows other words.
pytestmark = pytest.mark.filterwarnings("ignore:text cut")
RATES = dict.fromkeys(optimizer.GROUPS, 1.0)


@pytest.fixture(scope="module")
def make(tmp_path_factory):
  """Makes (program, task, batch) of a run with some settings."""
  home = tmp_path_factory.mktemp("program")

  def made(*, groups=None, **train):
    config = small.config(home / "model", batch_size=2)
    with config.unlocked():
      config.train.update(train)
      config.optimizer.groups.update(groups or {})
    stream = loop.open_streams(config)["main"]
    task = registry.make(config, workdir=home, stream=stream)
    compiled = program.Program(config, task, mesh=meshes.single())
    batch = task.prepare(next(stream.start(0)))
    return compiled, task, batch

  return made


def paths(tree):
  return {
    jax.tree_util.keystr(path, simple=True, separator="/")
    for path, _ in jax.tree_util.tree_leaves_with_path(tree)
  }


def after(made, batch):
  return jax.eval_shape(made.steps["main"], made.state, batch, made.frozen)


def test_a_task_is_in_host_memory(make, tmp_path):
  """Weights that are read, those that are new, and none beside them."""
  before = {id(array) for array in jax.live_arrays()}
  _, read, _ = make()
  config = training.config("vae")
  stream = loop.open_streams(config)["main"]
  new = registry.make(config, workdir=tmp_path, stream=stream)
  for leaf in jax.tree.leaves([(t.params, t.frozen) for t in (read, new)]):
    assert isinstance(leaf, np.ndarray)
  largest = max(leaf.nbytes for leaf in jax.tree.leaves(new.params))
  left = [a.nbytes for a in jax.live_arrays() if id(a) not in before]
  assert max(left, default=0) < largest / 2


def test_frozen_groups_have_no_averages_and_no_optimiser_state(make):
  made, task, batch = make(groups=dict(unet=0.0))
  trained = paths(made.state.params)
  assert trained == {
    f"unet/{path}"
    for path in paths(task.params["unet"])
    if "epipolar" in path or "camera_embedding" in path
  }
  assert paths(made.state.ema) == trained
  adam = made.state.opt_state[1][0]
  assert paths(adam.mu) == paths(adam.nu) == trained
  assert paths(made.frozen["held"]) == paths(task.params) - trained
  state, metrics = after(made, batch)
  assert jax.tree.structure(state) == jax.tree.structure(made.state)
  assert metrics["loss"].shape == ()


def test_flops_of_a_step_are_the_model_s(make):
  """Whatever is computed again; frozen weights need no products."""
  counts = {}
  for remat in ("none", "blocks"):
    made, _, batch = make(remat=remat)
    counts[remat] = made.flops("main", batch)
    computed = flops.count(made.steps["main"], made.state, batch, made.frozen)[
      0
    ]
    # Products that nobody asks for are still traced.
    assert computed == pytest.approx(counts[remat], rel=0.05) or remat != "none"
    assert computed > 1.1 * counts[remat] or remat == "none"
  assert counts["none"] == counts["blocks"]
  made, _, batch = make(groups=dict(unet=0.0))
  assert 0 < made.flops("main", batch) < counts["none"]


def test_a_step_gives_up_its_state_and_nothing_else(tmp_path):
  """Two states at once would not fit where one does."""
  config = several.config(1, 0, 0, "")
  task = toy.make(config, workdir=tmp_path, stream=None)
  run = program.Run(config, task, mesh=meshes.single())
  state = run.program.start()
  batch = run.put(next(loop.open_streams(config)["main"].start(0, run.rows)))
  after, _ = run.step("main", state, batch)
  assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
  kept = jax.tree.leaves((after, batch))
  assert kept and not any(leaf.is_deleted() for leaf in kept)


def test_frozen_weights_come_back_for_samples_and_export(make):
  made, task, _ = make(groups=dict(unet=0.0))
  trained, _ = optimizer.split_params(task.params, {**RATES, "unet": 0.0})
  jax.tree.map(np.testing.assert_array_equal, made.whole(trained), task.params)


def test_low_precision_is_for_arithmetic_only(make):
  """The state is float32 before and after; frozen kernels are what is used."""
  made, _, batch = make(dtype="bfloat16", groups=dict(unet=0.0))
  state, metrics = after(made, batch)
  for leaf in jax.tree.leaves((state.params, state.ema, metrics)):
    assert leaf.dtype == jnp.float32
  for leaf in jax.tree.leaves(state.opt_state):
    assert leaf.dtype in (jnp.float32, jnp.int32)
  held = made.frozen["held"]["unet"]["conv_in"]
  assert held["kernel"].dtype == jnp.bfloat16
  assert held["bias"].dtype == jnp.float32
  vae = made.frozen["task"]["vae"]["encoder"]
  assert vae["conv_in"]["kernel"].dtype == jnp.bfloat16
  assert vae["conv_norm_out"]["scale"].dtype == jnp.float32


def test_maps_are_multiplied_in_the_compute_type(make):
  for dtype, name in (("float32", "f32"), ("bfloat16", "bf16")):
    made, _, batch = make(dtype=dtype)
    text = str(
      jax.make_jaxpr(made.steps["main"])(made.state, batch, made.frozen)
    )
    kinds = {
      line.split(":")[1].split("[")[0]
      for line in text.splitlines()
      if "= conv_general_dilated[" in line
    }
    assert kinds == {name}
