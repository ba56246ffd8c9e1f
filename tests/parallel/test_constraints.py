"""Every constraint in the networks and the train step takes effect."""

import ast
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh, AxisType

from mvjax import geometry
from mvjax.models import epipolar_mv
from mvjax.nn import attention, text_encoder, unet, vae
from mvjax.parallel import logical
from mvjax.training import state

FILES = (
  *pathlib.Path(attention.__file__).parent.glob("*.py"),
  pathlib.Path(state.__file__),
)
# Whose constraints are looked at one by one.
ELSEWHERE = ("epipolar.py", "logical.py", "state.py")
# Two examples of two views on four devices: views must be divided.
MESH = AbstractMesh(
  (1, 2, 2), ("data", "fsdp", "view"), axis_types=(AxisType.Auto,) * 3
)


def call_sites():
  """(file, line) of each call of `logical` in `FILES`."""
  found = set()
  for file in FILES:
    for node in ast.walk(ast.parse(file.read_text())):
      if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "logical"
      ):
        lines = range(node.lineno, node.end_lineno + 1)
        found.add((file.name, tuple(lines)))
  return found


@pytest.fixture(scope="module")
def fired():
  """(file, line, partition) of each constraint while networks are traced."""
  seen = []

  def recorded(fun):
    def call(x, *names):
      caller = sys._getframe(1)
      spec = logical.spec(names, x.shape, MESH.shape)
      place = pathlib.Path(caller.f_code.co_filename).name, caller.f_lineno
      seen.append((*place, fun.__name__, spec))
      return fun(x, *names)

    return call

  with pytest.MonkeyPatch.context() as patch:
    for name in ("constrain", "whole"):
      patch.setattr(logical, name, recorded(getattr(logical, name)))
    with jax.sharding.use_abstract_mesh(MESH):
      jax.eval_shape(networks)
      jax.eval_shape(train_step)
  return seen


def networks():
  """All networks, the UNet over two views of two assets."""
  network = unet.UNet(
    block_out_channels=(8,),
    layers_per_block=1,
    num_heads=(2,),
    attention_levels=(True,),
    cross_attention_dim=8,
    norm_num_groups=4,
  )
  config = epipolar_mv.component_config(
    {"mid_block": 2}, block_out_channels=(8,), width=8, head_dim=4
  )
  network = network.clone(epipolar=epipolar_mv.block_fields(config))
  camera = geometry.orbit(
    azimuth=np.array([[0.0, 1.0]] * 2),
    elevation=0.0,
    distance=3.0,
    field_of_view=0.7,
  )
  views = (jnp.zeros((4, 4, 4, 4)), jnp.zeros(4), jnp.zeros((4, 3, 8)))
  cameras = epipolar_mv.features(camera, (4, 4), config=config)
  autoencoder = vae.VAE(
    block_out_channels=(8,), layers_per_block=1, norm_num_groups=4
  )
  encoder = text_encoder.TextEncoder(
    vocab_size=9,
    max_length=3,
    hidden_size=8,
    intermediate_size=8,
    num_layers=1,
    num_heads=2,
  )
  key = jax.random.key(0)
  return (
    network.init(key, *views, cameras),
    autoencoder.init(key, jnp.zeros((4, 8, 8, 3))),
    encoder.init(key, jnp.zeros((4, 3), jnp.int32)),
  )


def train_step():
  """A step on four examples of two views, in two parts."""
  loss = state.Loss(
    draw=lambda key, batch: jax.random.normal(key, batch.shape),
    value=lambda params, batch, drawn, _: (
      ((batch - drawn) @ params["kernel"]).mean(),
      {},
    ),
  )
  optimizer = optax.sgd(1.0)
  start = state.create({"kernel": jnp.zeros((256, 128))}, optimizer)
  step = state.make_step(loss, optimizer, seed=0, ema_limit=0.9, parts=2)
  return step(start, jnp.zeros((4, 2, 256)), ())


def test_every_call_was_traced(fired):
  lines = {(file, line) for file, line, *_ in fired}
  sites = call_sites()
  assert len(sites) > 10
  for file, place in sites:
    assert any((file, line) in lines for line in place), (file, place)


def test_every_activation_was_divided(fired):
  """Maps and tokens over all devices, what has views by examples and views."""
  for file, line, name, spec in fired:
    if name == "constrain" and file not in ELSEWHERE:
      assert tuple(spec) in {(("fsdp", "view"),), ("fsdp", "view")}, (
        file,
        line,
        spec,
      )


def test_what_a_step_draws_and_each_part_of_its_batch_is_divided(fired):
  specs = {
    tuple(spec)
    for file, _, _, spec in fired
    if file == pathlib.Path(state.__file__).name
  }
  # Drawn: four examples over all devices; in parts: two of them and the views.
  assert specs == {(("fsdp", "view"), None), (None, "fsdp")}


def test_gradients_of_parts_lie_where_their_parameters_do():
  """None is whole on any device while the parts add up."""
  with jax.sharding.use_abstract_mesh(MESH):
    (scan,) = [
      equation
      for equation in jax.make_jaxpr(train_step)().eqns
      if equation.primitive.name == "scan"
    ]
  places = [
    equation.params["sharding"].spec
    for equation in scan.params["jaxpr"].eqns
    if equation.primitive.name == "sharding_constraint"
    and equation.outvars[0].aval.shape == (256, 128)
  ]
  assert places == [jax.P(None, "fsdp")]


def test_maps_of_other_views_are_gathered_and_tokens_are_not(fired):
  specs = [
    tuple(spec)
    for file, _, name, spec in fired
    if file == "epipolar.py" and name == "constrain"
  ]
  assert ("fsdp",) in specs
  assert ("fsdp", "view") in specs
