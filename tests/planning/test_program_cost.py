"""Costs add up; figures are kept; a plan reads well."""

import json

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding

from mvjax.parallel import mesh as meshes
from mvjax.planning import chips, cost, part, plan, report

CHIP = chips.Chip(
  flops=100.0,
  hbm_bytes=1000,
  hbm_bandwidth=10.0,
  ici_bandwidth=1.0,
  cycles_per_second=2.0,
  shapes=("2x2",),
)
ONE = cost.Cost(
  flops=50.0, bytes=20.0, cycles=4.0, collectives={"all-gather": (1.0, 0.5)}
)


def test_costs_add_by_kind_of_collective():
  other = cost.Cost(flops=1.0, collectives={"all-reduce": (2.0, 3.0)})
  total = ONE * 2 + other
  assert total.flops == 101.0
  assert total.collectives == {"all-gather": (2, 1), "all-reduce": (2, 3)}
  assert total.sent == 4.0


def test_the_roofline_is_the_slowest_part():
  seconds = ONE.roofline(CHIP)
  assert seconds == {"matrix units": 0.5, "memory": 2.0, "links": 0.5}


def test_collectives_scale_by_themselves():
  scaled = ONE.scaled(work=2.0, sent=3.0)
  assert (scaled.flops, scaled.bytes) == (100.0, 40.0)
  assert scaled.collectives == {"all-gather": (3.0, 1.5)}


def test_a_program_is_compiled_once(monkeypatch, tmp_path):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  place = NamedSharding(meshes.single(), jax.P())
  x = jax.ShapeDtypeStruct((8, 8), jnp.float32, sharding=place)
  first = cost.compiled(jax.jit(lambda x: x @ x), x)
  assert first.cost.flops >= 2 * 8**3
  assert first.memory["arguments"] == 4 * 64
  monkeypatch.setattr(cost, "_measured", None)  # calling it would fail
  assert cost.compiled(jax.jit(lambda x: x @ x), x) == first


def make_plan(**memory):
  step = part.Part(
    name="train step", whole=False, memory=memory, cost=ONE, compiled=3,
    seconds=1.0,
  )  # fmt: skip
  return plan.Plan(
    topology="v5e:2x2",
    chip=CHIP,
    mesh={"data": 2, "fsdp": 2, "view": 1},
    batch={"train": 8, "sample": 4, "views": 4},
    parameters={"trained": 10, "frozen": 5},
    parts=(step,),
  )


@pytest.mark.parametrize("temporary, fits", [(500, True), (501, False)])
def test_a_program_fits_up_to_the_memory_of_the_chip(temporary, fits):
  made = make_plan(parameters=500, temporary=temporary)
  (found,) = json.loads(json.dumps(report.as_json(made)))["programs"]
  assert found["fits"] is fits
  assert found["memory_bytes"] == 500 + temporary
  assert found["limited_by"] == "memory"
  assert found["roofline_seconds"] == 2.0
  text = report.as_text(made)
  assert ("does NOT fit" in text) is not fits
  # An estimate, which the compiler's own may be below.
  assert "roofline    2e+03 ms, limited by memory" in text
  assert "at least" not in text


def test_what_the_compiler_refuses_does_not_fit():
  step = part.Part(
    name="sampler",
    whole=True,
    memory={},
    cost=cost.Cost(),
    compiled=1,
    seconds=1.0,
    problem="RESOURCE_EXHAUSTED: 400.00G",
  )
  made = plan.Plan(**{**vars(make_plan()), "parts": (step,)})
  assert not report.as_json(made)["programs"][0]["fits"]
  assert "does not fit: RESOURCE_EXHAUSTED" in report.as_text(made)
