"""Plans of a tiny run, where something counts in the place of a compiler."""

import jax
import pytest

from mvjax.parallel import flops
from mvjax.planning import chips, cost, part, plan
from tests.training import small


@pytest.fixture(autouse=True)
def counted(monkeypatch):
  """One device; traced FLOPs, and inputs for bytes and temporaries."""

  def count(fun, *inputs):
    size = part.bytes_of(inputs)
    return cost.Compiled(
      cost=cost.Cost(
        flops=float(flops.count(fun, *inputs)[0]), bytes=float(size)
      ),
      memory={"temporary": size},
    )

  found = chips.CHIPS["v5e"], jax.devices()[:1]
  monkeypatch.setattr(chips, "devices", lambda topology: found)
  monkeypatch.setattr(cost, "compiled", count)


def test_a_batch_in_two_parts_keeps_half():
  """For the same work, and with one more tree of gradients."""
  steps = []
  for parts in (1, 2):
    config = small.config("image", accumulate=parts)
    with config.unlocked():
      config.train.batch_size = 4
    (step,) = plan.make(config, "cpu", programs=("train",)).parts
    steps.append(step)
  whole, halves = steps
  kept = "kept for backward"
  # All but a few numbers for each block.
  assert halves.memory[kept] == pytest.approx(whole.memory[kept] / 2, rel=1e-3)
  assert halves.memory["gradients"] == 2 * whole.memory["parameters"]
  assert whole.memory["gradients"] == whole.memory["parameters"]
  assert halves.memory["temporary"] < whole.memory["temporary"]
  assert halves.cost.flops == pytest.approx(whole.cost.flops, rel=0.02)


def test_a_chip_decodes_one_asset_after_the_other():
  """Three take three times the work in the memory of one."""
  decoders = []
  for count in (1, 3):
    made = plan.make(
      small.config("image"),
      "cpu",
      programs=("sample",),
      samples_per_chip=count,
    )
    decoders.append(made.parts[-1])
  one, three = decoders
  assert three.name == "decoder"
  assert three.memory["temporary"] == one.memory["temporary"] > 0
  assert three.memory["latents"] == 3 * one.memory["latents"]
  assert three.cost.flops == pytest.approx(3 * one.cost.flops)
  assert three.cost.bytes == pytest.approx(3 * one.cost.bytes)
