"""Whole nano programs for four chips, and how memory divides."""

import jax
import pytest

from mvjax.parallel import mesh as meshes
from mvjax.parallel import placement, rules
from mvjax.planning import abstract, chips, part, plan
from mvjax.training import program
from tests.tpu_aot import pods


@pytest.fixture(autouse=True)
def no_kept_figures(monkeypatch, tmp_path_factory):
  """Compiles, whatever an earlier run has found."""
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def test_the_train_step_compiles_and_holds_its_arguments(config, topology):
  made = plan.make(config, topology, programs=("train",), whole=True)
  (step,) = made.parts
  assert not step.problem
  assert step.bytes < chips.CHIPS[topology[:3]].hbm_bytes
  # Two chips share each parameter, and all four the batch.
  mesh = pods.make_mesh(config, topology)
  task = abstract.train_task(config, mesh=mesh)
  state = program.Program(config, task, mesh=mesh)
  batch = abstract.batch(config, task)
  batch = placement.abstract(batch, rules.batch_shardings(batch, mesh))
  expected = part.bytes_of((state.state, state.frozen, batch))
  # The compiler pads small arrays to its tiles.
  assert step.memory["arguments"] == pytest.approx(expected, rel=0.2)
  assert {"all-gather"} <= set(step.cost.collectives)


def test_the_joint_sampler_compiles_without_collectives(config, topology):
  """Assets are divided between chips and need nothing of each other."""
  made = plan.make(config, topology, programs=("sample",), whole=True)
  sampler, decoder = made.parts
  assert not sampler.problem and not decoder.problem
  assert sampler.cost.sent == decoder.cost.sent == 0
  assert sampler.cost.flops > 0


@pytest.mark.parametrize("field", ["params", "opt_state"])
def test_parameters_and_optimiser_scale_as_one_over_fsdp(field):
  """But for what no rule divides: less than a fiftieth."""
  sizes = {}
  for fsdp in (1, 2, 4):
    config = pods.make_config(fsdp=fsdp)
    mesh = pods.make_mesh(config, "v5e:2x2")
    task = abstract.train_task(config, mesh=mesh)
    made = program.Program(config, task, mesh=mesh)
    held = getattr(made.state, field)
    with meshes.use(mesh):
      update = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree))
      compiled = update.lower(held).compile()
    sizes[fsdp] = compiled.memory_analysis().argument_size_in_bytes
    assert sizes[fsdp] >= part.bytes_of(held)
  for fsdp in (2, 4):
    assert sizes[1] / fsdp <= sizes[fsdp] <= sizes[1] * (1 / fsdp + 0.02)
