"""Every parameter, state and batch has a place; what is unknown has none."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P

from mvjax.models import epipolar_mv, stable_diffusion
from mvjax.nn import text_encoder, unet, vae
from mvjax.parallel import rules
from mvjax.training import state

MESH = AbstractMesh(
  (2, 4, 1), ("data", "fsdp", "view"), axis_types=(AxisType.Auto,) * 3
)


@pytest.fixture(scope="module")
def networks():
  """Shapes of a multi-view model's networks, as wide as Stable Diffusion's."""
  network = unet.UNet(
    block_out_channels=(320, 640),
    num_heads=(8, 8),
    attention_levels=(True, False),
    layers_per_block=1,
  )
  config = epipolar_mv.component_config(
    {"mid_block": 4, "up_blocks_1": 8},
    block_out_channels=network.block_out_channels,
    width=128,
    head_dim=64,
  )
  network = network.clone(epipolar=epipolar_mv.block_fields(config))
  ids = jnp.zeros((1, 77), jnp.int32)
  return {
    "unet": epipolar_mv.abstract_params(network, config),
    "vae": stable_diffusion.abstract_params(
      vae.VAE(block_out_channels=(128, 256)), jnp.zeros((1, 16, 16, 3))
    ),
    "text_encoder": stable_diffusion.abstract_params(
      text_encoder.TextEncoder(num_layers=1), ids
    ),
    "empty": ids[0],
  }


def specs(tree):
  shardings = rules.parameter_shardings(tree, MESH)
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): (leaf, place.spec)
    for (path, leaf), place in zip(
      jax.tree_util.tree_leaves_with_path(tree),
      jax.tree.leaves(shardings),
      strict=True,
    )
  }


def test_every_rule_has_parameters_and_every_parameter_one(networks):
  names = {path.rpartition("/")[2] for path in specs(networks)}
  for pattern in rules.PARAMETERS:
    assert any(re.fullmatch(pattern, name) for name in names), pattern


def test_named_parameters(networks):
  found = {path: spec for path, (_, spec) in specs(networks).items()}
  attention = "unet/mid_block/attentions_0/transformer_blocks_0/attn1"
  assert found[f"{attention}/to_q/kernel"] == P(None, "fsdp")
  assert found[f"{attention}/to_out_0/bias"] == P()
  assert found["unet/conv_in/kernel"] == P(None, None, None, "fsdp")
  assert found["unet/mid_block/epipolar/attn1/to_k/kernel"] == P(None, "fsdp")
  # Three output channels do not divide by four; 128 input channels do.
  assert found["vae/decoder/conv_out/kernel"] == P(None, None, "fsdp", None)
  assert found["vae/post_quant_conv/kernel"] == P(None, None, None, "fsdp")


def test_nearly_all_numbers_are_divided(networks):
  """What a device holds is a quarter, but for the small change."""
  held = whole = 0
  for leaf, spec in specs(networks).values():
    divided = sum(part is not None for part in spec)
    assert divided <= 1
    held += np.prod(leaf.shape) / (4 if divided else 1)
    whole += np.prod(leaf.shape)
  assert 0.25 <= held / whole < 0.252


def test_optimiser_and_averages_follow_the_parameters():
  params = {"dense": {"kernel": jnp.zeros((8, 8)), "bias": jnp.zeros(8)}}
  made = jax.eval_shape(lambda: state.create(params, optax.adamw(1e-3)))
  found = rules.parameter_shardings(made, MESH)
  expected = rules.parameter_shardings(params, MESH)
  assert expected["dense"]["kernel"].spec == P(None, "fsdp")
  for follower in (
    found.ema,
    found.params,
    found.opt_state[0].mu,
    found.opt_state[0].nu,
  ):
    assert follower == expected
  assert found.step.spec == found.opt_state[0].count.spec == P()


def test_what_does_not_divide_is_whole():
  leaf = jax.ShapeDtypeStruct((3, 5), jnp.float32)
  assert specs({"kernel": leaf})["kernel"][1] == P()


def test_an_unknown_parameter_is_named():
  with pytest.raises(ValueError, match="unet/conv_in/weight: no rule"):
    rules.parameter_shardings(
      {"unet": {"conv_in": {"weight": jnp.ones(3)}}}, MESH
    )


def test_batches(networks):
  del networks
  batch = {
    "image": jnp.zeros((8, 4, 2, 2, 3)),
    "ids": jnp.zeros((8, 5), jnp.int32),
    "camera": {"intrinsics": jnp.zeros((8, 4, 3, 3))},
  }
  places = rules.batch_shardings(batch, MESH)
  for place in jax.tree.leaves(places):
    assert place.spec[0] == ("data", "fsdp")
  with pytest.raises(ValueError, match="mask: no rule"):
    rules.batch_shardings({"mask": jnp.ones(8)}, MESH)
