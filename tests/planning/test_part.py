"""Blocks that stand for others, against programs that are compiled whole."""

import jax
import jax.numpy as jnp
import pytest

from mvjax.nn import layers
from mvjax.parallel import mesh as meshes
from mvjax.planning import blocks, part


def make_call(side, features, *, times=1, **kind):
  module = layers.Conv(features)
  x = jax.ShapeDtypeStruct((2, side, side, features), jnp.float32)
  params = jax.eval_shape(module.init, jax.random.key(0), x)["params"]
  block = blocks.Block(
    kind=f"{side} {features}",
    group=(side,),
    path=f"unet/{side}/{features}",
    module=module,
    params=params,
    inputs=(x,),
    network="unet",
    remat="none",
    count=times,
  )
  return part.Call(block=block, times=times, **kind)


@pytest.fixture(autouse=True)
def no_kept_figures(monkeypatch, tmp_path):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def forward_flops(side, features):
  return 2 * 2 * side**2 * features * 9 * features


def add_up(*calls):
  return part.add_up(calls, mesh=meshes.single(), title="test")


def test_calls_of_one_group_are_compiled_once():
  """The wider block stands for the narrower one, by their FLOPs."""
  one = add_up(make_call(8, 16, times=3))
  total = add_up(make_call(8, 16, times=3), make_call(8, 8, times=5))
  assert total.compiled == 1
  share = 5 * forward_flops(8, 8) / (3 * forward_flops(8, 16))
  assert total.cost.flops == pytest.approx(one.cost.flops * (1 + share))


def test_groups_of_little_work_are_not_compiled():
  """A twentieth of the work goes by the rest."""
  large, small = make_call(16, 16, times=6), make_call(8, 16)
  total = add_up(large, small)
  assert total.compiled == 1
  alone = add_up(large)
  assert total.cost.flops == pytest.approx(alone.cost.flops * 25 / 24)


def test_every_group_of_weight_is_compiled():
  total = add_up(make_call(16, 16), make_call(8, 16, times=4))
  assert total.compiled == 2
  expected = forward_flops(16, 16) + 4 * forward_flops(8, 16)
  # The compiler leaves out products with padding.
  assert total.cost.flops == pytest.approx(expected, rel=0.15)


def test_a_block_that_runs_backward_keeps_its_input():
  call = make_call(8, 16, times=3, backward=True, learns=True)
  assert add_up(call).kept == 3 * 4 * 2 * 8 * 8 * 16
  assert add_up(make_call(8, 16, times=3)).kept == 0


def test_one_kind_from_two_programs_is_one_call():
  joined = part.joined([make_call(8, 16, times=2), make_call(8, 16, times=3)])
  assert [call.times for call in joined] == [5]
