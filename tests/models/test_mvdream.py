"""MVDream against its own code: networks, cameras, sampler."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import ldm_goldens
import numpy as np
import pytest

from mvjax import diffusion, geometry, sampling, scores
from mvjax.models import mvdream
from mvjax.nn import joint_views, layers

NAMES = ("mvdream_sd21", "mvdream_sd15")
load = functools.cache(ldm_goldens.LdmGolden)


@pytest.fixture(scope="module", params=NAMES)
def golden(request):
  return load(request.param)


@pytest.fixture(scope="module")
def sd21():
  return load("mvdream_sd21")


def inputs(golden):
  """Noisy maps, times, texts and cameras of 2 objects with 4 views.

  With masks that hide nothing: so one program serves the single views too.
  """
  masks = {
    (side, side): jnp.ones((2, 4 * side**2, 4 * side**2), bool)
    for side in (16, 8, 4, 2)
  }
  return (
    jnp.asarray(golden["in.x"]),
    jnp.asarray(golden["in.t"], jnp.float32),
    jnp.asarray(golden["in.context"]),
    joint_views.JointViews(
      camera_numbers=jnp.asarray(golden["out.camera"]).reshape(2, 4, 16),
      masks=masks,
    ),
  )


def test_joint_views_match(sd21):
  x, t, text, views = inputs(sd21)
  params = {"params": sd21.unet_params}
  output = sd21.apply(params, x, t, text, views)
  np.testing.assert_allclose(output, sd21["out.eps_mv"], atol=1e-4)

  params = {"params": sd21.tiny_unet_params}
  output = sd21.apply(params, x * 1e-3, t, text, views)
  np.testing.assert_allclose(output, sd21["out.eps_mv_tiny"], atol=3e-3)


def test_single_views_match(sd21):
  """With a camera; and in the 2D mode, as cameras that add nothing."""
  x, t, text, views = inputs(sd21)
  masks = {
    size: ldm_goldens.own_views(mask, num_views=4)
    for size, mask in views.masks.items()
  }
  views, params = dataclasses.replace(views, masks=masks), sd21.unet_params
  output = sd21.apply({"params": params}, x, t, text, views)
  np.testing.assert_allclose(output, sd21["out.eps_single_cam"], atol=1e-4)

  blind = jax.tree.map(jnp.zeros_like, params["camera_embedding"])
  params = params | {"camera_embedding": blind}
  output = sd21.apply({"params": params}, x, t, text, views)
  np.testing.assert_allclose(output, sd21["out.eps_2d"], atol=1e-4)


def test_views_in_another_order_give_the_same_in_that_order(sd21):
  x, t, text, views = inputs(sd21)
  order = np.array([2, 0, 3, 1, 5, 4, 7, 6])
  numbers = views.camera_numbers.reshape(8, 16)[order].reshape(2, 4, 16)
  output = sd21.apply(
    {"params": sd21.unet_params},
    x[order],
    t[order],
    text[order],
    dataclasses.replace(views, camera_numbers=numbers),
  )
  np.testing.assert_allclose(output, sd21["out.eps_mv"][order], atol=1e-4)


@pytest.mark.parametrize("part", ["t", "cam"])
def test_embeddings_match(golden, part):
  """Both start every residual block of the UNet."""
  name = {"t": "time_embedding", "cam": "camera_embedding"}[part]
  x = jnp.asarray(golden["out.camera"])
  if part == "t":
    x = layers.timestep_features(jnp.asarray(golden["in.t"], jnp.float32), 32)
    np.testing.assert_allclose(x, golden["out.t_sin"], atol=1e-4)
  got = layers.Embedder(128).apply({"params": golden.unet_params[name]}, x)
  np.testing.assert_allclose(got, golden[f"out.{part}_emb"], atol=1e-4)


@pytest.mark.parametrize(
  "name, views, elevation, start, span",
  [
    ("get_camera_0", 4, 0, 0, 360),
    ("get_camera_1", 4, 15, 90, 360),
    ("get_camera_2", 3, -10, 30, 180),
    ("get_camera_3", 6, 45, -45, 360),
    ("camera", 4, 15, 90, 360),
  ],
)
def test_camera_numbers_are_those_of_its_camera_function(
  sd21, name, views, elevation, start, span
):
  """Our azimuth is smaller by 90 degrees; the distance does not matter."""
  azimuth = np.deg2rad(start - 90 + np.arange(views) * span / views)
  camera = geometry.orbit(
    azimuth=np.broadcast_to(azimuth, (2, views)),
    elevation=np.deg2rad(elevation),
    distance=np.array([[1.0], [3.7]]),
    field_of_view=0.7,
    xnp=np,
  )
  numbers = mvdream.camera_numbers(camera).reshape(-1, 16)
  expected = sd21[f"out.{name}"]
  expected = np.tile(expected, (len(numbers) // len(expected), 1))
  np.testing.assert_allclose(numbers, expected, atol=1e-5)


def test_any_pose_is_moved_to_the_unit_sphere(sd21):
  pose = geometry.from_opengl(jnp.asarray(sd21["in.c2w"]))
  camera = geometry.Camera(
    camera_to_world=pose, intrinsics=jnp.broadcast_to(jnp.eye(3), (3, 3, 3))
  )
  np.testing.assert_allclose(
    mvdream.camera_numbers(camera), sd21["out.normalize_camera"], atol=1e-5
  )


def test_its_world_is_ours(sd21):
  """It turns y-up poses by a matrix, which must take them into our world."""
  turn = sd21["out.opengl_to_blender"] @ np.linalg.inv(sd21["in.c2w"])
  elevation, azimuth = 0.4, 1.1
  across = np.cos(elevation)
  y_up = [across * np.sin(azimuth), np.sin(elevation), across * np.cos(azimuth)]
  ours = geometry.orbit(
    azimuth=azimuth - np.pi / 2,
    elevation=elevation,
    distance=1.0,
    field_of_view=0.7,
    xnp=np,
  ).camera_to_world[:3, 3]
  np.testing.assert_allclose(
    turn @ np.append(y_up, 1.0),
    np.tile(np.append(ours, 1.0), (3, 1)),
    atol=1e-5,
  )


def test_noise_levels_match(golden):
  steps = sampling.make_steps(
    ldm_goldens.SCHEDULE, 5, mode="mv", lambda_schedule="constant:1"
  )
  signal = np.square(steps.levels.alpha)
  for expected, got in (
    ("out.ddim_alphas", signal[:-1]),
    ("out.ddim_alphas_prev", signal[1:]),
  ):
    np.testing.assert_allclose(got[::-1], golden[expected], atol=1e-5)
  level = ldm_goldens.SCHEDULE.level(jnp.asarray(golden["in.t"], jnp.float32))
  noisy = diffusion.add_noise(
    jnp.asarray(golden["in.x"]), jnp.asarray(golden["in.noise"]), level=level
  )
  np.testing.assert_allclose(noisy, golden["out.q_sample"], atol=1e-5)


@pytest.mark.parametrize("asked", [5, 7, 25, 30, 50])
def test_time_grids_match(sd21, asked):
  name = "out.ddim_timesteps" if asked == 5 else f"out.timesteps_S{asked}"
  times = sampling.timesteps(ldm_goldens.SCHEDULE, asked)
  np.testing.assert_array_equal(np.sort(times), np.sort(sd21[name]))
  assert times[-1] == 1 and (np.diff(times) < 0).all()


def test_its_sampler_is_ours():
  """Guidance, score, noise levels and scan: two steps and the last one."""
  sd15 = load("mvdream_sd15")
  model = sd15.model(mvdream.MVDream)
  text, negative = (
    jnp.asarray(sd15[f"in.{name}"]).reshape(2, 4, 7, 48)
    for name in ("context", "uncond_context")
  )
  conditioning = scores.Conditioning(
    text=text,
    negative_text=negative,
    cameras=joint_views.JointViews(
      camera_numbers=jnp.asarray(sd15["out.camera"]).reshape(2, 4, 16)
    ),
    guidance_scale=7.5,
  )
  steps = sampling.make_steps(
    model.schedule, 5, mode="mv", lambda_schedule="constant:1"
  )
  score = scores.classifier_free_guidance(model.score)

  @jax.jit
  def step(params, x, levels):
    return sampling.denoise(
      score,
      params,
      x,
      conditioning=conditioning,
      steps=sampling.Steps(levels=levels, weights={}),
      keys=jax.random.split(jax.random.key(0), 2),
      eta=0.0,
    )

  before = jnp.asarray(sd15["in.x"])
  for k, expected in enumerate(sd15["out.ddim_x"]):
    if k in (0, 1, 4):
      levels = jax.tree.map(lambda grid, k=k: grid[k : k + 2], steps.levels)
      after = step(model.params, before.reshape(2, 4, 16, 16, 4), levels)
      after = after.reshape(expected.shape)
      ldm_goldens.assert_close(after, expected, share=3e-4)
    before = jnp.asarray(expected)
