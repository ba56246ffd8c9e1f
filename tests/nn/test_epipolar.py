import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvjax import geometry
from mvjax.nn import camera_features, epipolar

SIZE = 4, 4
CHANNELS = 6


def _cameras(batch, views):
  """Neighbouring views, so that they share many points."""
  azimuth = 0.4 * jnp.arange(views)[None, :] + jnp.arange(batch)[:, None]
  return geometry.orbit(
    azimuth=azimuth,
    elevation=0.2 * (jnp.arange(views) % 2)[None, :],
    distance=3.0,
    field_of_view=math.radians(40),
  )


@functools.partial(jax.jit, static_argnames=("size", "points"))
def _features(camera, size=SIZE, points=3):
  return camera_features.camera_features(camera, [size], points=[points])


def _block(**kwargs):
  return epipolar.EpipolarConsistencyBlock(
    **{"width": 16, "head_dim": 8, "num_frequencies": 2, **kwargs}
  )


def _normal(*shape, seed=0):
  """From numpy: nothing to compile for each shape."""
  values = np.random.default_rng(seed).standard_normal(shape)
  return jnp.asarray(values, jnp.float32)


def _inputs(count, size=SIZE):
  return _normal(count, *size, CHANNELS), _normal(count, 5, seed=1)


@functools.cache
def _params():
  """Random in every layer: those that start at zero would hide mistakes."""
  features = _features(_cameras(1, 1))
  shapes = jax.eval_shape(
    _block().init, jax.random.key(1), *_inputs(1), features
  )["params"]
  leaves, structure = jax.tree.flatten(shapes)
  leaves = [
    _normal(*leaf.shape, seed=seed) * 0.2 for seed, leaf in enumerate(leaves)
  ]
  return jax.tree.unflatten(structure, leaves)


def _apply(hidden, time_embedding, features, **kwargs):
  return jax.jit(_block(**kwargs).apply)(
    {"params": _params()}, hidden, time_embedding, features
  )


def test_block_starts_as_the_identity():
  hidden, time_embedding = _inputs(2)
  features = _features(_cameras(1, 2))
  result, variables = jax.jit(_block().init_with_output)(
    jax.random.key(0), hidden, time_embedding, features
  )
  np.testing.assert_array_equal(result, hidden)
  for leaf in jax.tree.leaves(variables["params"]["attn1"]):
    assert leaf.any()


def test_four_views_cut_off_equal_four_times_one_view():
  hidden, time_embedding = _inputs(8)
  features = _features(_cameras(2, 4))
  joint = _apply(hidden, time_embedding, features)
  cut = jax.jit(camera_features.cut_views)(features, jnp.array([True, False]))
  result = _apply(hidden, time_embedding, cut)
  single = jax.jit(camera_features.CameraFeatures.single_view)(features)
  alone = _apply(hidden, time_embedding, single)
  np.testing.assert_allclose(result[:4], alone[:4], atol=2e-5)
  np.testing.assert_allclose(result[4:], joint[4:], atol=2e-5)
  assert np.abs(joint - alone).max() > 1e-2


def test_permuting_views_permutes_the_result():
  hidden, time_embedding = _inputs(4)
  camera = _cameras(1, 4)
  order = np.asarray([2, 0, 3, 1])
  result = _apply(hidden, time_embedding, _features(camera))
  permuted = _apply(
    hidden[order],
    time_embedding[order],
    _features(jax.tree.map(lambda x: x[:, order], camera)),
  )
  np.testing.assert_allclose(permuted, result[order], atol=2e-5)


def test_samplers_and_chunks_do_not_change_values_or_gradients():
  hidden, time_embedding = _inputs(3)
  features = _features(_cameras(1, 3))

  def evaluate(**kwargs):
    def loss(params, hidden):
      result = _block(**kwargs).apply(
        {"params": params}, hidden, time_embedding, features
      )
      return jnp.square(result).mean(), result

    gradients, result = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(
      _params(), hidden
    )
    return result, gradients

  expected, expected_gradients = evaluate()
  for kwargs in ({"sampler": "hat"}, {"chunk": 4}):
    result, gradients = evaluate(**kwargs)
    np.testing.assert_allclose(result, expected, atol=1e-5, rtol=1e-5)
    for a, b in zip(
      *map(jax.tree.leaves, (gradients, expected_gradients)), strict=True
    ):
      np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(b).max())


@pytest.mark.parametrize("views, size", [(1, (4, 4)), (2, (2, 6)), (5, (3, 2))])
def test_any_number_of_views_and_any_map_size(views, size):
  hidden, time_embedding = _inputs(2 * views, size=size)
  features = _features(_cameras(2, views), size=size, points=2)
  result = _apply(hidden, time_embedding, features)
  assert result.shape == hidden.shape
  assert np.isfinite(result).all()


def test_assets_do_not_see_each_other():
  hidden, time_embedding = _inputs(4)
  features = _features(_cameras(2, 2))
  result = _apply(hidden, time_embedding, features)
  changed = _apply(hidden.at[2:].add(1.0), time_embedding, features)
  np.testing.assert_allclose(result[:2], changed[:2], atol=1e-6)


def test_gradients_are_finite_with_points_behind_cameras():
  """The second camera sits inside the ball and looks outwards."""
  camera = _cameras(1, 2)
  inside = geometry.look_at(
    jnp.asarray([[[0.2, 0.1, 0.0]]]), jnp.asarray([[[5.0, 1.0, 0.5]]])
  )
  pose = camera.camera_to_world.at[:, 1:].set(inside)
  hidden, time_embedding = _inputs(2)

  def loss(params, hidden, pose):
    features = _features(
      geometry.Camera(camera_to_world=pose, intrinsics=camera.intrinsics)
    )
    result = _block().apply(
      {"params": params}, hidden, time_embedding, features
    )
    return jnp.square(result).mean()

  gradients = jax.jit(jax.grad(loss, (0, 1, 2)))(_params(), hidden, pose)
  for leaf in jax.tree.leaves(gradients):
    assert np.isfinite(leaf).all()


def _inside_ball(cameras, view, pixel, share, size):
  """The point at a share of the way that a pixel's ray has in the unit ball."""
  pose, lens = (np.float64(x[0, view]) for x in jax.tree.leaves(cameras))
  row, column = pixel
  homogeneous = [(column + 0.5) / size[1], (row + 0.5) / size[0], 1.0]
  direction = pose[:3, :3] @ np.linalg.inv(lens) @ homogeneous
  direction /= np.linalg.norm(direction)
  middle = -pose[:3, 3] @ direction
  half = math.sqrt(middle**2 + 1 - pose[:3, 3] @ pose[:3, 3])
  return pose[:3, 3] + (middle + (2 * share - 1) * half) * direction


def _pinhole(cameras, view, place, size):
  """Where a view sees a point, in its map's pixels (centres whole)."""
  pose, lens = (np.float64(x[0, view]) for x in jax.tree.leaves(cameras))
  x, y, z = lens @ pose[:3, :3].T @ (place - pose[:3, 3])
  return x / z * size[1] - 0.5, y / z * size[0] - 0.5


def test_a_point_in_space_is_found_at_its_depth():
  """One feature where every view sees the point, noise everywhere else.

  With identity projections both attentions compare features as they are. The
  first is softened: the own view agrees with itself at any depth.
  """
  size, views, points, channels = (16, 16), 4, 8, 32
  cameras = _cameras(1, views)
  level = _features(cameras, size=size, points=points).levels[size]
  noise = _normal(1, views, *size, channels, seed=3)
  identity = jnp.eye(channels)[:, None, :]
  kernels = epipolar.Kernels(
    query=identity, key=identity, value=identity, out=identity.swapaxes(0, 1)
  )
  no_place = jnp.zeros((7, 1, channels))
  with_place = kernels._replace(
    query=0.2 * identity,
    key=jnp.concatenate([identity, no_place]),
    value=jnp.concatenate([identity, no_place]),
  )

  @jax.jit
  def find(maps):
    tokens = maps.reshape(1, views, -1, channels)
    shared = dict(
      depths=level.depths[..., None], depth_projection=jnp.zeros((1, channels))
    )
    seen, view_weights = epipolar.epipolar_attention(
      maps, tokens, level, kernels=with_place, sampler="gather", **shared
    )
    _, weights = epipolar.ray_aggregation(
      tokens, seen, view_kernels=with_place, kernels=kernels, **shared
    )
    return view_weights[:, :, :, :, 0], weights[:, :, :, 0]

  feature = _normal(channels, seed=4)
  # Pixels off the centre, in different rows and columns.
  for view, pixel, point in ((0, 100, 2), (1, 150, 5), (3, 121, 4)):
    share = (point + 0.5) / points
    place = _inside_ball(cameras, view, divmod(pixel, size[1]), share, size)
    maps = noise
    for other in range(views):
      x, y = _pinhole(cameras, other, place, size)
      assert level.visible[0, view, pixel, point, other]
      np.testing.assert_allclose(
        level.positions[0, view, pixel, point, other], [x, y], atol=1e-3
      )
      for row in {math.floor(y), math.ceil(y)}:
        for column in {math.floor(x), math.ceil(x)}:
          maps = maps.at[0, other, row, column].set(feature)
    view_weights, weights = find(maps)
    assert weights[0, view, pixel].argmax() == point
    np.testing.assert_allclose(
      view_weights[0, view, pixel, point], 1 / views, atol=1e-3
    )


def test_the_points_of_a_ray_are_attended_as_if_they_were_formed():
  """Keys and values of every point, in float64 and one pixel at a time."""
  points, frequencies, channels, heads, width, items = 3, 5, 8, 2, 4, 11

  def kernels(item_features, seed):
    shapes = dict(
      query=(channels, heads, width),
      key=(item_features, heads, width),
      value=(item_features, heads, width),
      out=(heads, width, channels),
    )
    return epipolar.Kernels(
      **{
        name: np.asarray(_normal(*shape, seed=seed + i))
        for i, (name, shape) in enumerate(shapes.items())
      }
    )

  view_kernels, point_kernels = kernels(items, 10), kernels(channels, 20)
  tokens = np.asarray(_normal(1, 1, 4, channels, seed=1))
  averages = np.asarray(_normal(1, 1, 4, points, heads, items, seed=2))
  depths = np.asarray(_normal(1, 1, 4, points, frequencies, seed=3))
  projection = np.asarray(_normal(frequencies, channels, seed=4))
  change, weights = jax.jit(epipolar.ray_aggregation)(
    tokens,
    averages,
    depths=depths,
    depth_projection=projection,
    view_kernels=view_kernels,
    kernels=point_kernels,
  )
  wide = jax.tree.map(
    lambda x: x.astype(np.float64), (view_kernels, point_kernels)
  )
  for pixel in range(4):
    formed = tokens[0, 0, pixel] + depths[0, 0, pixel] @ projection
    for head in range(heads):
      value = averages[0, 0, pixel, :, head] @ wide[0].value[:, head]
      formed = formed + value @ wide[0].out[head]
    expected = np.zeros(channels)
    for head in range(heads):
      query = tokens[0, 0, pixel] @ wide[1].query[:, head]
      logits = formed @ wide[1].key[:, head] @ query / np.sqrt(width)
      share = np.exp(logits - logits.max())
      share /= share.sum()
      np.testing.assert_allclose(weights[0, 0, pixel, head], share, atol=1e-4)
      expected += share @ formed @ wide[1].value[:, head] @ wide[1].out[head]
    np.testing.assert_allclose(change[0, 0, pixel], expected, rtol=2e-3)


def test_attention_weights_can_be_looked_at():
  hidden, time_embedding = _inputs(2)
  features = jax.jit(camera_features.cut_views)(
    _features(_cameras(1, 2)), jnp.array([True])
  )
  _, state = jax.jit(
    lambda params: _block(chunk=8).apply(
      {"params": params},
      hidden,
      time_embedding,
      features,
      mutable=["intermediates"],
    )
  )(_params())
  (views,) = state["intermediates"]["view_weights"]
  (points,) = state["intermediates"]["point_weights"]
  assert views.shape == (1, 2, 16, 3, 2, 2)
  assert points.shape == (1, 2, 16, 2, 3)
  np.testing.assert_allclose(views.sum(-1), 1.0, atol=1e-5)
  np.testing.assert_allclose(points.sum(-1), 1.0, atol=1e-5)
  hidden_views = np.broadcast_to(
    ~np.eye(2, dtype=bool)[:, None, None, None], views.shape[1:]
  )
  assert (np.asarray(views)[0, hidden_views] == 0).all()


def test_half_precision_stays_close():
  hidden, time_embedding = _inputs(2)
  features = _features(_cameras(1, 2))
  reference = _apply(hidden, time_embedding, features)
  result = _apply(hidden, time_embedding, features, dtype=jnp.bfloat16)
  np.testing.assert_allclose(
    reference, result, atol=0.05 * np.abs(reference).max()
  )


@pytest.mark.parametrize(
  "kwargs, count, message",
  [
    ({"head_dim": 5}, 2, "width=16"),
    ({"sampler": "nearest"}, 2, "sampler='nearest'"),
    ({}, 3, "3 maps"),
  ],
)
def test_wrong_settings_are_named(kwargs, count, message):
  with pytest.raises(ValueError, match=message):
    _block(**kwargs).init(
      jax.random.key(0), *_inputs(count), _features(_cameras(1, 2))
    )


def test_maps_without_camera_features_are_named():
  with pytest.raises(ValueError, match=r"\(2, 2\) maps"):
    _block().init(
      jax.random.key(0), *_inputs(2, size=(2, 2)), _features(_cameras(1, 2))
    )
