"""Joint attention: who sees whom, and that views alone are the 2D network."""

import dataclasses

import golden_weights
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvjax.nn import attention, joint_views, unet

BATCH, VIEWS, SIDE = 2, 3, 4
TOKENS = VIEWS * SIDE**2
SIZE = SIDE, SIDE


def draw(*shape, seed=0):
  random = np.random.default_rng(seed)
  return jnp.asarray(random.standard_normal(shape, np.float32))


VIEWS_WITH_ALL = joint_views.JointViews(
  camera_numbers=draw(BATCH, VIEWS, 8),
  rays={SIZE: draw(BATCH, VIEWS, SIDE, SIDE, 6)},
  masks={SIZE: draw(BATCH, TOKENS, TOKENS) > 0},
)
MAPS = draw(BATCH * VIEWS, SIDE, SIDE, 16, seed=1)
TEXT = draw(BATCH * VIEWS, 3, 12, seed=2)


@pytest.fixture(scope="module")
def transform():
  """A compiled transformer with random weights."""
  module = attention.SpatialTransformer(
    2, norm_num_groups=4, use_linear_projection=False, ray_channels=6
  )
  variables = golden_weights.random_variables(
    module, MAPS, TEXT, VIEWS_WITH_ALL
  )
  apply = jax.jit(module.apply)

  def run(maps=MAPS, views=VIEWS_WITH_ALL):
    return np.asarray(apply(variables, maps, TEXT, views))

  return run


def with_masks(mask):
  return dataclasses.replace(
    VIEWS_WITH_ALL,
    masks=None
    if mask is None
    else {SIZE: jnp.broadcast_to(mask, (BATCH, TOKENS, TOKENS))},
  )


def own_views():
  view = np.arange(TOKENS) // SIDE**2
  return jnp.asarray(view[:, None] == view[None, :])


def test_a_mask_that_hides_nothing_is_no_mask(transform):
  everything = transform(views=with_masks(jnp.asarray(True)))
  np.testing.assert_allclose(
    transform(views=with_masks(None)), everything, atol=1e-5
  )
  assert np.abs(transform() - everything).mean() > 1e-2


def test_a_mask_of_own_views_is_every_view_alone(transform):
  alone = transform(views=VIEWS_WITH_ALL.single_view())
  np.testing.assert_allclose(
    transform(views=with_masks(own_views())), alone, atol=1e-5
  )


def test_no_rays_are_rays_of_zeros(transform):
  zeros = jax.tree.map(jnp.zeros_like, VIEWS_WITH_ALL.rays)
  without, with_zeros = (
    transform(views=dataclasses.replace(VIEWS_WITH_ALL, rays=rays))
    for rays in (None, zeros)
  )
  np.testing.assert_array_equal(without, with_zeros)
  assert np.abs(transform() - without).mean() > 1e-2


def test_without_views_every_map_is_alone(transform):
  alone = dataclasses.replace(VIEWS_WITH_ALL.single_view(), rays=None)
  np.testing.assert_allclose(
    transform(views=None), transform(views=alone), atol=1e-5
  )


def test_a_token_reaches_those_whose_rows_have_it(transform):
  """Change one token of the last view of the first asset."""
  token = 2 * SIDE**2 + 5
  mask = jnp.asarray(np.eye(TOKENS, dtype=bool)).at[3, token].set(True)
  flat = MAPS.reshape(-1, 16)
  # Sums and squares of the normed groups stay: two channels change places.
  changed = flat.at[token, :2].set(flat[token, 1::-1]).reshape(MAPS.shape)
  views = with_masks(mask)
  moved = np.abs(transform(changed, views) - transform(MAPS, views))
  moved = moved.max(-1).reshape(BATCH, TOKENS)
  assert set(np.flatnonzero(moved[0] > 1e-4)) == {3, token}
  assert (moved[1] == 0).all()


def test_a_size_that_is_not_there_is_named():
  with pytest.raises(ValueError, match=r"no masks for maps of \(2, 2\)"):
    VIEWS_WITH_ALL.mask_at((2, 2))


@pytest.fixture(scope="module")
def network():
  return unet.UNet(
    block_out_channels=(16, 16),
    layers_per_block=1,
    num_heads=(2, 2),
    attention_levels=(False, True),
    cross_attention_dim=12,
    norm_num_groups=4,
    camera_dim=8,
  )


def test_without_cameras_it_is_the_2d_network(network):
  """It has the parameters and the program of a UNet that knows no cameras."""
  x, t = MAPS[..., :4], jnp.full((BATCH * VIEWS,), 300.0)
  plain = network.clone(camera_dim=None)
  programs = []
  for module in (network, plain):
    variables = jax.eval_shape(module.init, jax.random.key(0), x, t, TEXT)
    program = jax.make_jaxpr(module.apply)(variables, x, t, TEXT)
    programs.append((jax.tree.structure(variables), str(program)))
  assert programs[0] == programs[1]


@pytest.mark.parametrize(
  "fields, numbers, message",
  [
    ({}, (BATCH, VIEWS, 7), "cameras of 7 numbers .* camera_dim=8"),
    ({"camera_dim": None}, (BATCH, VIEWS, 8), "camera_dim=None"),
    ({}, (BATCH, 2, 8), "6 maps for cameras of 2 assets with 2 views"),
  ],
)
def test_cameras_that_do_not_fit_are_named(network, fields, numbers, message):
  views = joint_views.JointViews(camera_numbers=jnp.zeros(numbers))
  inputs = MAPS[..., :4], jnp.zeros(BATCH * VIEWS), TEXT, views
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(network.clone(**fields).init, jax.random.key(0), *inputs)
