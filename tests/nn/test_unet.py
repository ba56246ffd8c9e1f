"""The UNet against PyTorch diffusers, and its multi-view form."""

import flax
import golden_weights
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvjax import geometry
from mvjax.models import configs
from mvjax.nn import camera_features, unet


@pytest.mark.parametrize("name", ["sd15_unet", "sd21_unet"])
def test_matches_diffusers(name):
  golden = golden_weights.Golden(name)
  module = configs.unet_from_config(golden.config["unet"])
  x, text = jnp.asarray(golden["in.x"]), jnp.asarray(golden["in.context"])
  t = jnp.asarray(golden["in.t"], jnp.float32)
  variables = golden_weights.fitted(golden.tensors(), module, x, t, text)
  apply = jax.jit(module.apply)
  output = apply(variables, x, t, text)
  np.testing.assert_allclose(output, golden["out.eps"], atol=1e-4)

  tiny = golden_weights.fitted(golden.tiny_tensors(), module, x, t, text)
  scale = golden.config["tiny"]["x_scale"]
  output = apply(tiny, x * scale, t, text)
  np.testing.assert_allclose(output, golden["out.eps_tiny"], atol=3e-3)


BATCH, VIEWS, SIDE = 2, 3, 8


@pytest.fixture(scope="module")
def module():
  return unet.UNet(
    block_out_channels=(16, 32),
    layers_per_block=1,
    num_heads=(2, 4),
    attention_levels=(False, False),
    cross_attention_dim=12,
    use_linear_projection=True,
    norm_num_groups=8,
    epipolar=flax.core.freeze(
      {
        "mid_block": {"width": 8, "head_dim": 4},
        "up_blocks_1": {"width": 8, "head_dim": 4},
      }
    ),
  )


@pytest.fixture(scope="module")
def inputs():
  count = BATCH * VIEWS
  random = np.random.default_rng(0)
  x = random.standard_normal((count, SIDE, SIDE, 4), np.float32)
  text = random.standard_normal((count, 5, 12), np.float32)
  t = jnp.repeat(jnp.array([10.0, 700.5]), VIEWS)
  return jnp.asarray(x), t, jnp.asarray(text)


@pytest.fixture(scope="module")
def cameras():
  azimuth = np.array([[0.0, 0.5, 1.2], [0.3, 2.0, 4.0]], np.float32)
  camera = geometry.orbit(
    azimuth=azimuth,
    elevation=0.2,
    distance=3.0,
    field_of_view=0.7,
    xnp=np,
  )
  sizes = ((SIDE // 2, SIDE // 2), (SIDE, SIDE))
  return jax.jit(
    lambda camera: camera_features.camera_features(camera, sizes, points=(2, 3))
  )(camera)


@pytest.fixture(scope="module")
def variables(module, inputs, cameras):
  return golden_weights.random_variables(module, *inputs, cameras)


@pytest.fixture(scope="module")
def apply(module):
  return jax.jit(module.apply)


def _is_new(path) -> bool:
  """Whether a parameter belongs to the multi-view extension."""
  return any(k.key in ("epipolar", "camera_embedding") for k in path)


@pytest.fixture(scope="module")
def start(module, inputs, cameras, variables):
  """Variables with the extension as it is initialised, the rest random."""

  def extension(key):
    # The compiler drops the draws of all other parameters.
    leaves = jax.tree_util.tree_leaves_with_path(
      module.init(key, *inputs, cameras)
    )
    return [leaf for path, leaf in leaves if _is_new(path)]

  extension = jax.jit(extension)
  fresh = iter(extension(jax.random.key(0, impl="unsafe_rbg")))
  return jax.tree_util.tree_map_with_path(
    lambda path, leaf: next(fresh) if _is_new(path) else leaf, variables
  )


def test_at_its_start_the_multiview_network_is_the_2d_network(
  inputs, cameras, variables, start, apply
):
  plain = apply(start, *inputs)
  np.testing.assert_allclose(apply(start, *inputs, cameras), plain, atol=1e-6)
  # The comparison means something: with other weights the cameras matter.
  moved = apply(variables, *inputs, cameras) - plain
  assert jnp.abs(moved).mean() > 1e-2


def test_views_of_an_asset_see_each_other_and_no_others(
  inputs, cameras, variables, apply
):
  x, t, text = inputs
  before = apply(variables, x, t, text, cameras)
  after = apply(variables, x.at[1].add(1.0), t, text, cameras)
  moved = jnp.abs(after - before).max((1, 2, 3)) > 1e-5
  np.testing.assert_array_equal(moved, [True] * VIEWS + [False] * VIEWS)


def test_without_cameras_each_map_is_alone(inputs, variables, apply):
  x, t, text = inputs
  before = apply(variables, x, t, text)
  after = apply(variables, x.at[1].add(1.0), t, text)
  moved = jnp.abs(after - before).max((1, 2, 3)) > 0
  np.testing.assert_array_equal(np.flatnonzero(moved), [1])


def test_time_and_text_matter(inputs, variables, apply):
  x, t, text = inputs
  base = apply(variables, x, t, text)
  for changed in ((x, t + 0.5, text), (x, t, text + 1.0)):
    assert jnp.abs(apply(variables, *changed) - base).mean() > 1e-3


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"num_heads": (2,)}, "num_heads=.* one entry per level"),
    ({"epipolar": {"down_blocks_0": {}}}, "down_blocks_0.* choose from"),
    ({"cross_attention_dim": 10}, "text has 12 channels"),
    ({"in_channels": 8}, "x has 4 channels"),
    ({"epipolar": None}, "cameras were given"),
    ({"num_heads": (2, 5)}, "num_heads=5 does not divide 32"),
  ],
)
def test_bad_fields_are_named(module, inputs, cameras, fields, message):
  wrong = module.clone(**fields)
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(wrong.init, jax.random.key(0), *inputs, cameras)


def test_odd_maps_are_refused(module, inputs):
  x, t, text = inputs
  with pytest.raises(ValueError, match="multiples of 2"):
    jax.eval_shape(module.init, jax.random.key(0), x[:, :7], t, text)


def test_low_precision_computes_low_and_returns_float32(
  module, inputs, cameras
):
  low = module.clone(dtype=jnp.bfloat16)
  variables = jax.eval_shape(low.init, jax.random.key(0), *inputs, cameras)
  assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(variables))
  jaxpr = jax.make_jaxpr(low.apply)(variables, *inputs, cameras)
  assert jaxpr.out_avals[0].dtype == jnp.float32
  convolutions = [
    line for line in str(jaxpr).splitlines() if "= conv_general" in line
  ]
  assert convolutions and all(":bf16[" in line for line in convolutions)


@pytest.fixture(scope="module")
def residuals(module, variables, inputs, cameras):
  """Bytes that the backward pass of a network of some `remat` keeps."""

  def measure(remat):
    network = module.clone(remat=remat)

    def backward(params):
      return jax.vjp(
        lambda params: network.apply({"params": params}, *inputs, cameras),
        params,
      )[1]

    kept = jax.eval_shape(backward, variables["params"])
    return sum(
      leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept)
    )

  return {remat: measure(remat) for remat in unet.REMAT}


def test_what_is_computed_again_is_not_kept(residuals):
  assert (
    residuals["none"]
    > residuals["dots_saveable"]
    > residuals["dots_with_no_batch_dims_saveable"]
    > residuals["blocks"]
  )
  # The network's inputs and the parameters are kept in any case.
  assert residuals["none"] > 2 * residuals["blocks"]


def test_computing_again_gives_the_same_gradient(module):
  """Of a smaller network: gradients compile for long."""
  small = module.clone(
    block_out_channels=(8,),
    num_heads=(2,),
    attention_levels=(True,),
    mid_attention=False,
    epipolar=None,
  )
  inputs = jnp.ones((2, 4, 4, 4)), jnp.array([3.0, 500.0]), jnp.ones((2, 5, 12))
  params = golden_weights.random_variables(small, *inputs)["params"]
  gradients = []
  for remat in ("none", "blocks"):
    network = small.clone(remat=remat)

    def loss(params, network=network):
      return jnp.square(network.apply({"params": params}, *inputs)).mean()

    compiled = jax.jit(jax.grad(loss))
    gradients.append(compiled(params))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
    *gradients,
  )


def test_an_unknown_remat_is_named(module, inputs):
  with pytest.raises(ValueError, match="remat='all': choose one of none, blo"):
    jax.eval_shape(module.clone(remat="all").init, jax.random.key(0), *inputs)
