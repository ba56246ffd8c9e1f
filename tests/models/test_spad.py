"""SPAD against its own code: network, conditioning, start, sampler."""

import dataclasses

import golden_weights
import jax
import jax.numpy as jnp
import ldm_goldens
import numpy as np
import pytest

from mvjax import diffusion, geometry, sampling
from mvjax.models import spad
from mvjax.nn import joint_views

OBJECTS, VIEWS = 2, 3


@pytest.fixture(scope="module")
def golden():
  return ldm_goldens.LdmGolden("spad")


@pytest.fixture(scope="module")
def camera(golden):
  return geometry.orbit(
    azimuth=np.deg2rad(golden.config["azimuth_deg"]),
    elevation=np.deg2rad(90.0 - np.array(golden.config["polar_deg"])),
    distance=golden.config["radius"],
    field_of_view=golden.config["fov"],
    xnp=np,
  )


@pytest.fixture(scope="module")
def model(golden):
  return golden.model(spad.SPAD, mask_resize="released")


@pytest.fixture(scope="module")
def views(model, camera):
  return model.camera_conditioning(camera, 16, 16)


@pytest.fixture(scope="module")
def predict(golden, views):
  """The network, where a test changes some of its inputs."""

  def run(*, params=golden.unet_params, scale=1.0, text="text", **changes):
    fields = {"x": golden["in.x"], "t": golden["in.t"]} | changes
    count = OBJECTS * VIEWS
    output = golden.apply(
      {"params": params},
      jnp.asarray(scale * fields["x"]).reshape(count, 16, 16, 4),
      jnp.asarray(fields["t"], jnp.float32).reshape(count),
      jnp.asarray(golden[f"in.{text}"]).reshape(count, 7, -1),
      fields.get("views", views),
    )
    return output.reshape(OBJECTS, VIEWS, 16, 16, 4)

  return run


def test_the_network_matches(golden, predict):
  np.testing.assert_allclose(predict(), golden["out.eps"], atol=1e-4)
  tiny = predict(params=golden.tiny_unet_params, scale=1e-3)
  np.testing.assert_allclose(tiny, golden["out.eps_tiny"], atol=3e-3)


def test_masks_that_hide_nothing_match(golden, views, predict):
  ones = jax.tree.map(jnp.ones_like, views.masks)
  output = predict(views=dataclasses.replace(views, masks=ones))
  np.testing.assert_allclose(output, golden["out.eps_all_ones_mask"], atol=1e-4)


def test_rays_of_zeros_match(golden, views, predict):
  zeros = jax.tree.map(jnp.zeros_like, views.rays)
  output = predict(views=dataclasses.replace(views, rays=zeros))
  np.testing.assert_allclose(output, golden["out.eps_zero_plucker"], atol=1e-4)


def test_a_view_that_sees_itself_only_is_the_single_view(
  golden, views, predict
):
  masks = {
    size: ldm_goldens.own_views(mask, num_views=VIEWS)
    for size, mask in views.masks.items()
  }
  output = predict(views=dataclasses.replace(views, masks=masks))
  np.testing.assert_allclose(
    output[:1, :1], golden["out.eps_single_view"], atol=1e-4
  )


def test_its_sampler_is_ours(golden, predict):
  """Only the text is guided; the camera is in both branches.

  Two steps: random weights lead away fast, and networks are slow.
  """
  steps = sampling.make_steps(
    ldm_goldens.SCHEDULE, 4, mode="mv", lambda_schedule="constant:1"
  )
  times = sampling.timesteps(ldm_goldens.SCHEDULE, 4)
  np.testing.assert_array_equal(
    np.sort(golden["out.ddim_timesteps"]), times[::-1]
  )
  x = jnp.asarray(golden["in.x"])
  for k, (time, expected) in enumerate(
    zip(times[:2], golden["out.ddim_x"][:2], strict=True)
  ):
    level, next_level = (
      jax.tree.map(lambda grid, i=i: grid[i], steps.levels) for i in (k, k + 1)
    )
    t = np.full((OBJECTS, VIEWS), time)
    away, to = (
      predict(x=x, t=t, text=name) for name in ("uncond_text", "text")
    )
    prediction = diffusion.predict(
      away + 7.5 * (to - away), x, level=level, prediction_type="epsilon"
    )
    x = sampling.ddim_update(
      prediction,
      jnp.zeros_like(x),
      level=level,
      next_level=next_level,
      eta=0.0,
    )
    ldm_goldens.assert_close(x, expected, share=3e-4)


def test_the_camera_embedding_is_that_of_its_projection(golden, views):
  np.testing.assert_allclose(
    views.camera_numbers, golden["out.cam8"], atol=1e-5
  )
  assert views.camera_numbers.dtype == jnp.float32


def test_conditioning_has_what_every_transformer_needs(golden, camera, views):
  sizes = {(16, 16), (8, 8), (4, 4), (2, 2)}
  assert views.masks.keys() == views.rays.keys() == sizes
  np.testing.assert_array_equal(
    views.masks[16, 16], golden.bits("out.mask_bits")
  )
  np.testing.assert_allclose(
    views.rays[16, 16], golden["out.plucker"], atol=1e-5
  )
  # Half-pixel bilinear samples of a map twice as large are means of 2 x 2.
  full = golden["out.plucker"].reshape(OBJECTS, VIEWS, 8, 2, 8, 2, 6)
  np.testing.assert_allclose(views.rays[8, 8], full.mean((3, 5)), atol=1e-5)


def _asset(camera, index):
  return jax.tree.map(lambda leaf: leaf[index : index + 1], camera)


def test_assets_with_the_same_cameras_have_the_same_masks(model, camera):
  order = np.array([1, 0, 1])
  views = model.camera_conditioning(
    jax.tree.map(lambda leaf: leaf[order], camera), 8, 8
  )
  apart = [
    model.camera_conditioning(_asset(camera, index), 8, 8) for index in order
  ]
  jax.tree.map(
    lambda got, *each: np.testing.assert_array_equal(got, np.concatenate(each)),
    views,
    *apart,
  )


def test_one_view_has_no_mask(model, camera):
  one = jax.tree.map(lambda leaf: leaf[:, :1], camera)
  views = model.camera_conditioning(one, 8, 8)
  assert views.masks is None and views.rays[8, 8].shape == (2, 1, 8, 8, 6)


def test_masks_are_drawn_at_each_level_in_training(golden, model, camera):
  trained = golden.model(spad.SPAD)
  ours, released = (
    m.camera_conditioning(camera, 16, 16).masks for m in (trained, model)
  )
  np.testing.assert_array_equal(ours[16, 16], released[16, 16])
  assert (np.asarray(ours[8, 8]) != np.asarray(released[8, 8])).mean() > 0.05


def test_two_view_checkpoints_are_told_relative_angles(golden, camera):
  network = golden.unet.clone(camera_dim=4)
  model = dataclasses.replace(golden.model(spad.SPAD), unet=network)
  numbers = model.camera_conditioning(camera, 8, 8).camera_numbers
  np.testing.assert_allclose(
    numbers[:, 0], np.tile([0.0, 0.0, 1.0, 0.0], (2, 1)), atol=1e-6
  )


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"mask_resize": "nearest"}, "mask_resize='nearest'"),
    ({"unet": "MVDream's"}, "input_dim=16"),
  ],
)
def test_wrong_fields_are_named(golden, model, fields, message):
  if "unet" in fields:
    fields = {"unet": golden.unet.clone(camera_dim=16)}
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(model, **fields)


def test_sampling_starts_from_the_blob(golden):
  np.testing.assert_allclose(
    spad.blob(64, 64), golden["out.blob_image"], atol=1e-5
  )
  noisy = diffusion.add_noise(
    jnp.asarray(golden["in.blob_z"]),
    jnp.asarray(golden["in.blob_noise"]),
    level=ldm_goldens.SCHEDULE.level(jnp.float32(991)),
  )
  np.testing.assert_allclose(noisy, golden["out.blob_start_t991"], atol=1e-5)


def test_start_latents_are_the_encoded_blob(model):
  image = np.repeat(spad.blob(32, 32)[None, :, :, None], 3, -1)
  variables = golden_weights.random_variables(model.vae, jnp.asarray(image))

  @jax.jit
  def both(params):
    mean, _ = model.vae.apply(
      {"params": params}, jnp.asarray(image), method="encode"
    )
    return model.start_latents({"vae": params}, (5, 16, 16, 4)), mean

  start, mean = both(variables["params"])
  assert start.shape == (5, 16, 16, 4)
  for view in start:
    np.testing.assert_allclose(view, 0.18215 * mean[0], atol=1e-5)


def test_single_views_keep_cameras_and_rays(views):
  alone = views.single_view()
  assert isinstance(alone, joint_views.JointViews) and alone.masks is None
  np.testing.assert_array_equal(
    alone.camera_numbers[4, 0], views.camera_numbers[1, 1]
  )
  np.testing.assert_array_equal(alone.rays[4, 4][4, 0], views.rays[4, 4][1, 1])
